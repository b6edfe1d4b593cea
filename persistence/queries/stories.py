"""Whole runs, one after the other, with all their events: for handing the log on."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from uuid import UUID

from persistence.models import Event, Model, Run, Signal, first_id_at
from persistence.plane import Plane

_PAGE = 200


class Story(Model):
    """A run with the events of itself, its signal, steps, tool calls, effects, checkpoints and memories, in the order of the log.

    parents: for each part, the step, memory or run that it belongs to. kinds: for each of these, which of them it is.
    """

    run: Run
    signal: Signal | None
    events: Sequence[Event]
    parents: dict[UUID, UUID]
    kinds: dict[UUID, str]


async def stories(plane: Plane, tenant_id: UUID, *, actor: str, since: datetime | None = None) -> AsyncIterator[Story]:
    """The tenant's runs in the order in which they were made. since: only those made since then."""
    after = None if since is None else UUID(int=max(1, first_id_at(since).int) - 1)
    while True:
        async with plane.transaction(tenant_id, actor=actor) as tx:
            page = await tx.runs.list(limit=_PAGE, after=after)
            runs = page.items
            signals = {s.id: s for s in await tx.signals.get_many([run.signal_id for run in runs if run.signal_id])}
            events = await tx.events.of_correlations(*{run.correlation_id for run in runs})
        by_correlation: dict[UUID, list[Event]] = defaultdict(list)
        for event in events:
            by_correlation[event.correlation_id].append(event)
        for run in runs:
            yield _story(run, signals.get(run.signal_id) if run.signal_id else None, by_correlation[run.correlation_id])
        if page.next is None:
            return
        after = page.next


def _story(run: Run, signal: Signal | None, events: Sequence[Event]) -> Story:
    """Of the events of a correlation, those of this run: which they are is said by the first event of each part."""
    parents: dict[UUID, UUID] = {}
    own = {run.id} | ({signal.id} if signal else set())
    for event in events:
        run_id, step_id = event.event_data.get("run_id"), event.event_data.get("step_id")
        if event.aggregate_version == 1 and run_id == str(run.id):
            own.add(event.aggregate_id)
            parents[event.aggregate_id] = UUID(step_id or run_id)
        memory_id = event.event_data.get("memory_id")
        if event.aggregate_version == 1 and isinstance(memory_id, str) and UUID(memory_id) in parents:
            own.add(event.aggregate_id)
            parents[event.aggregate_id] = UUID(memory_id)
    own_events = [event for event in events if event.aggregate_id in own]
    kinds = {event.aggregate_id: event.aggregate_type.lower() for event in own_events}
    return Story(run=run, signal=signal, events=own_events, parents=parents, kinds=kinds)
