"""What happened, in what order, by whom and because of what: everything of one correlation, or of one run, as a tree."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from persistence.errors import NotFound
from persistence.models import Effect, Event, Memory, MemoryRecall, Model, OutboxEntry, Run, Signal, Step, ToolCall
from persistence.transaction import Transaction

_SHOWN = 60
"""So many characters of a memory's text stand in its place."""


class Occurrence(Model):
    """One event in the life of a node: what happened, when, by whom, from where, and because of which event."""

    event_id: UUID
    event_type: str
    occurred_at: datetime
    actor: str
    source: str
    causation_id: UUID | None
    cause: str | None
    data: dict[str, Any]


class Node(Model):
    """A signal, run, step, tool call, effect, outbox entry, checkpoint, memory or recall, with its life and what it led to, in time order."""

    kind: str
    id: UUID
    name: str
    status: str
    life: Sequence[Occurrence]
    children: Sequence["Node"]


class Trace(Model):
    """correlation_id: what holds it together. events: how many the tree has in all."""

    tenant_id: UUID
    correlation_id: UUID
    events: int
    roots: Sequence[Node]


async def trace_run(tx: Transaction, run_id: UUID) -> Trace:
    """The trace of one run, from the signal that began it to the last delivery, with the signals that moved it on the way. Raises NotFound."""
    run = await tx.runs.get(run_id)
    trace = await trace_correlation(tx, run.correlation_id)
    kept = {root.id: part for root in trace.roots if (part := _only(root, run_id)) is not None}
    causes = {event.causation_id for part in kept.values() for event in _events(part)}
    for root in trace.roots:
        if root.kind == "signal" and root.id not in kept and any(event.event_id in causes for event in root.life):
            kept[root.id] = root.model_copy(update={"children": []})
    roots = [kept[root.id] for root in trace.roots if root.id in kept]
    return trace.model_copy(update={"roots": roots, "events": sum(1 for root in roots for _ in _events(root))})


async def trace_correlation(tx: Transaction, correlation_id: UUID) -> Trace:
    """The trace of everything that shares a correlation. Raises NotFound when there is nothing."""
    events = await tx.events.of_correlations(correlation_id)
    if not events:
        raise NotFound(f"there is no event with correlation {correlation_id} in this tenant", hint="check the id and the tenant")
    signals = await tx.signals.all(correlation_id=correlation_id)
    runs = await tx.runs.all(correlation_id=correlation_id)
    run_ids = [run.id for run in runs]
    steps = await tx.steps.all(run_id=run_ids)
    tool_calls = await tx.tool_calls.all(run_id=run_ids)
    effects = list(await tx.effects.all(run_id=run_ids))
    kinds = {event.aggregate_type for event in events}
    memories = await tx.memories.all(correlation_id=correlation_id) if Memory.kind in kinds else ()
    recalls = await tx.memory_recalls.all(correlation_id=correlation_id) if MemoryRecall.kind in kinds else ()
    if memories:
        effects += await tx.effects.all(memory_id=[memory.id for memory in memories])
    entries = await tx.outbox.all(correlation_id=correlation_id)
    builder = _Builder(events, runs, steps, tool_calls, effects, entries, memories, recalls)
    return Trace(tenant_id=tx.context.tenant_id, correlation_id=correlation_id, events=len(events), roots=builder.roots(signals))


class _Builder:
    def __init__(
        self,
        events: Sequence[Event],
        runs: Sequence[Run],
        steps: Sequence[Step],
        tool_calls: Sequence[ToolCall],
        effects: Sequence[Effect],
        entries: Sequence[OutboxEntry],
        memories: Sequence[Memory],
        recalls: Sequence[MemoryRecall],
    ) -> None:
        types = {event.id: event.event_type for event in events}
        self._lives: dict[UUID, list[Occurrence]] = defaultdict(list)
        for event in events:
            self._lives[event.aggregate_id].append(
                Occurrence(
                    event_id=event.id,
                    event_type=event.event_type,
                    occurred_at=event.occurred_at,
                    actor=event.actor,
                    source=event.source,
                    causation_id=event.causation_id,
                    cause=types.get(event.causation_id) if event.causation_id else None,
                    data=event.event_data,
                )
            )
        self._checkpoints = _grouped(
            (UUID(event.event_data.get("step_id") or event.event_data["run_id"]), event)
            for event in events
            if event.aggregate_type == "CHECKPOINT" and event.aggregate_version == 1
        )
        self._runs = runs
        self._children = _grouped((run.parent_run_id, run) for run in runs if run.parent_run_id)
        self._steps = _grouped((step.run_id, step) for step in steps)
        self._calls = _grouped((call.step_id, call) for call in tool_calls)
        self._effects = _grouped((effect.memory_id or effect.step_id or effect.run_id, effect) for effect in effects)
        self._memories = _grouped((memory.step_id or memory.run_id, memory) for memory in memories)
        self._recalls = _grouped((recall.step_id or recall.run_id, recall) for recall in recalls)
        self._entries = {entry.aggregate_id: entry for entry in entries}

    def roots(self, signals: Sequence[Signal]) -> list[Node]:
        by_signal = _grouped((run.signal_id, run) for run in self._runs if run.signal_id and not run.parent_run_id)
        known = {run.id for run in self._runs}
        roots = [
            self._node(
                "signal",
                signal.id,
                f"{signal.signal_type} {signal.source_channel}:{signal.source_id}",
                signal.status,
                [self._run(run) for run in by_signal[signal.id]],
            )
            for signal in signals
        ]
        shown = {signal.id for signal in signals}
        roots += [
            self._run(run)
            for run in self._runs
            if (run.signal_id is None or run.signal_id not in shown)
            and (run.parent_run_id is None or run.parent_run_id not in known)
        ]
        roots += self._remembered(None)
        return _in_time(roots)

    def _run(self, run: Run) -> Node:
        children = [self._step(step) for step in self._steps[run.id]]
        children += [self._effect(effect) for effect in self._effects[run.id]]
        children += [self._run(child) for child in self._children[run.id]]
        children += [self._checkpoint(saved) for saved in self._checkpoints[run.id]]
        children += self._remembered(run.id)
        return self._node("run", run.id, run.run_type, run.status, children)

    def _step(self, step: Step) -> Node:
        children = [self._node("tool call", call.id, call.tool_name, call.status, []) for call in self._calls[step.id]]
        children += [self._effect(effect) for effect in self._effects[step.id]]
        children += [self._checkpoint(saved) for saved in self._checkpoints[step.id]]
        children += self._remembered(step.id)
        return self._node("step", step.id, f"{step.step_index} {step.step_type}", step.status, children)

    def _remembered(self, origin: UUID | None) -> list[Node]:
        """What a run or a step taught, and what was remembered in it; of none: what was learned otherwise."""
        learned = [
            self._node(
                "memory", memory.id, _shortened(memory), memory.status, [self._effect(one) for one in self._effects[memory.id]]
            )
            for memory in self._memories[origin]
        ]
        return learned + [
            self._node("recall", recall.id, f"{len(recall.memories)} by {recall.agent}", recall.status, [])
            for recall in self._recalls[origin]
        ]

    def _checkpoint(self, saved: Event) -> Node:
        is_over = any(item.event_type == "CHECKPOINT_DISCARDED" for item in self._lives[saved.aggregate_id])
        name = str(saved.event_data.get("label") or saved.event_data.get("digest", ""))[:40]
        return self._node("checkpoint", saved.aggregate_id, name, "DISCARDED" if is_over else "SAVED", [])

    def _effect(self, effect: Effect) -> Node:
        entry = self._entries.get(effect.id)
        life = self._lives[effect.id]
        children = []
        if entry is not None:
            children.append(
                Node(
                    kind="outbox",
                    id=entry.id,
                    name=f"{entry.event_type} key {entry.idempotency_key}",
                    status=entry.status,
                    life=[item for item in life if item.event_type != "EFFECT_REQUESTED"],
                    children=[],
                )
            )
            life = [item for item in life if item.event_type == "EFFECT_REQUESTED"]
        return Node(kind="effect", id=effect.id, name=effect.effect_type, status=effect.status, life=life, children=children)

    def _node(self, kind: str, item_id: UUID, name: str, status: str, children: Sequence[Node]) -> Node:
        return Node(kind=kind, id=item_id, name=name, status=status, life=self._lives[item_id], children=_in_time(children))


def _shortened(memory: Memory) -> str:
    if memory.content is None:
        return "what is forgotten"
    line = " ".join(memory.content.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"


def _events(node: Node) -> Iterator[Occurrence]:
    yield from node.life
    for child in node.children:
        yield from _events(child)


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for key, item in pairs:
        groups[key].append(item)
    return groups


def _in_time(nodes: Sequence[Node]) -> list[Node]:
    return sorted(nodes, key=lambda node: (not node.life, node.life[0].occurred_at.timestamp() if node.life else 0.0, node.id))


def _only(node: Node, run_id: UUID) -> Node | None:
    """The part of a tree on the way to a run and below it."""
    if node.kind == "run" and node.id == run_id:
        return node
    kept = [child for part in node.children if (child := _only(part, run_id)) is not None]
    return node.model_copy(update={"children": kept}) if kept else None
