"""How a run stood after each of its events: going through its time."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from persistence.canon import CANON
from persistence.errors import InvalidInput
from persistence.models import Event, Model
from persistence.transaction import Transaction

_NAMES = ("run_type", "step_type", "tool_name", "effect_type", "signal_type", "label")
_LINKS = frozenset({"run_id", "step_id", "signal_id", "parent_run_id"})


class Part(Model):
    """A part of the run as it stood then. data: what its events had said so far. is_moved: whether the event of the moment was its own."""

    kind: str
    id: UUID
    name: str
    status: str
    version: int
    data: dict[str, Any]
    is_moved: bool


class Moment(Model):
    """number: counted from 1 among ``of`` events; event: the one that had just happened; parts: in the order in which they appeared."""

    number: int
    of: int
    event: Event
    parts: Sequence[Part]


async def moment_of(tx: Transaction, run_id: UUID, number: int | None = None) -> Moment:
    """The run after its ``number``-th event, counted from its signal's first; None: after the last. Raises NotFound, InvalidInput."""
    run = await tx.runs.get(run_id)
    own = {run.id, run.signal_id}
    for reader in (tx.steps, tx.tool_calls, tx.effects, tx.checkpoints):
        own |= {item.id for item in await reader.all(run_id=run_id)}
    events = [event for event in await tx.events.of_correlations(run.correlation_id) if event.aggregate_id in own]
    number = len(events) if number is None else number
    if not 1 <= number <= len(events):
        raise InvalidInput(f"moment: {number} is not between 1 and {len(events)}", field="moment")
    parts: dict[UUID, Part] = {}
    for event in events[:number]:
        before = parts.get(event.aggregate_id)
        parts[event.aggregate_id] = _moved(before, event, is_moved=event is events[number - 1])
    return Moment(number=number, of=len(events), event=events[number - 1], parts=list(parts.values()))


def _moved(before: Part | None, event: Event, *, is_moved: bool) -> Part:
    kind = CANON.event_types[event.event_type]
    data = dict(before.data) if before else {}
    for name in kind.clears:
        data.pop(name, None)
    data.update({name: value for name, value in event.event_data.items() if name not in _LINKS})
    return Part(
        kind=event.aggregate_type,
        id=event.aggregate_id,
        name=next((str(data[name]) for name in _NAMES if name in data), ""),
        status=CANON.transitions[kind.aggregate][event.event_type].target,
        version=event.aggregate_version,
        data=data,
        is_moved=is_moved,
    )
