"""What led to what: the events of a correlation as a tree of causes, and where that tree is broken."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from persistence.errors import NotFound
from persistence.models import Event, Model
from persistence.transaction import Transaction

# Events by their ids: causes in other correlations.
_CAUSES = """
SELECT e.id
FROM persistence.orchestration_events AS e
WHERE e.tenant_id = $1
  AND e.id = ANY ($2)
"""

# What the tables say of the aggregates of a correlation: the version that each has.
_STATES = """
SELECT 'RUN' AS aggregate_type, r.id, r.version FROM persistence.runs AS r WHERE r.tenant_id = $1 AND r.correlation_id = $2
UNION ALL
SELECT 'SIGNAL', s.id, s.version FROM persistence.signals AS s WHERE s.tenant_id = $1 AND s.correlation_id = $2
UNION ALL
SELECT 'STEP', s.id, s.version
FROM persistence.runs AS r
JOIN persistence.steps AS s ON s.tenant_id = r.tenant_id AND s.run_id = r.id
WHERE r.tenant_id = $1 AND r.correlation_id = $2
UNION ALL
SELECT 'TOOL_CALL', c.id, c.version
FROM persistence.runs AS r
JOIN persistence.tool_calls AS c ON c.tenant_id = r.tenant_id AND c.run_id = r.id
WHERE r.tenant_id = $1 AND r.correlation_id = $2
UNION ALL
SELECT 'EFFECT', e.id, e.version
FROM persistence.runs AS r
JOIN persistence.effects AS e ON e.tenant_id = r.tenant_id AND e.run_id = r.id
WHERE r.tenant_id = $1 AND r.correlation_id = $2
UNION ALL
SELECT 'MEMORY', m.id, m.version FROM persistence.memories AS m WHERE m.tenant_id = $1 AND m.correlation_id = $2
UNION ALL
SELECT 'MEMORY_RECALL', l.id, l.version FROM persistence.memory_recalls AS l WHERE l.tenant_id = $1 AND l.correlation_id = $2
UNION ALL
SELECT 'EFFECT', e.id, e.version
FROM persistence.memories AS m
JOIN persistence.effects AS e ON e.tenant_id = m.tenant_id AND e.memory_id = m.id
WHERE m.tenant_id = $1 AND m.correlation_id = $2
"""

# These are parts of something, which is their cause; see the gate causes_given.
_PARTS = frozenset({"STEP", "TOOL_CALL", "EFFECT", "CHECKPOINT"})


class Caused(Model):
    """An event in the tree of causes. depth: how many causes lie between it and the beginning."""

    event_id: UUID
    event_type: str
    aggregate_type: str
    aggregate_id: UUID
    aggregate_version: int
    sequence_number: int
    occurred_at: datetime
    actor: str
    causation_id: UUID | None
    depth: int


class Break(Model):
    """A place where the chain is broken. event_id: the event there, if it has one."""

    event_id: UUID | None
    aggregate_type: str
    aggregate_id: UUID
    what: str


class Causation(Model):
    """events: each after its cause, with all that it caused before the next of its cause's (the tree in preorder; depth says where each
    stands). breaks: where the chain is not whole. What hangs in a circle is a break, and not among the events.
    """

    correlation_id: UUID
    events: Sequence[Caused]
    breaks: Sequence[Break]


async def causation_of(tx: Transaction, correlation_id: UUID) -> Causation:
    """The causation tree of a correlation. Raises NotFound when there is no such event."""
    events = await tx.events.of_correlations(correlation_id)
    if not events:
        raise NotFound(f"there is no event with correlation {correlation_id} in this tenant", hint="check the id and the tenant")
    return Causation(correlation_id=correlation_id, events=_in_preorder(events), breaks=await _breaks(tx, correlation_id, events))


def _in_preorder(events: Sequence[Event]) -> list[Caused]:
    """Without recursion: chains may be thousands long."""
    known = {event.id for event in events}
    followers: dict[UUID | None, list[Event]] = {}
    for event in events:
        followers.setdefault(event.causation_id if event.causation_id in known else None, []).append(event)
    ordered: list[Caused] = []
    todo = [(event, 0) for event in reversed(followers.get(None, []))]
    while todo:
        event, depth = todo.pop()
        ordered.append(
            Caused(
                event_id=event.id,
                event_type=event.event_type,
                aggregate_type=event.aggregate_type,
                aggregate_id=event.aggregate_id,
                aggregate_version=event.aggregate_version,
                sequence_number=event.sequence_number,
                occurred_at=event.occurred_at,
                actor=event.actor,
                causation_id=event.causation_id,
                depth=depth,
            )
        )
        todo.extend((child, depth + 1) for child in reversed(followers.get(event.id, [])))
    return ordered


async def _breaks(tx: Transaction, correlation_id: UUID, events: Sequence[Event]) -> list[Break]:
    own = {event.id: event for event in events}
    foreign = {event.causation_id for event in events if event.causation_id is not None} - own.keys()
    rows = await tx.fetch(_CAUSES, tx.context.tenant_id, list(foreign)) if foreign else ()
    elsewhere = {row["id"] for row in rows}
    found = [
        Break(event_id=event.id, aggregate_type=event.aggregate_type, aggregate_id=event.aggregate_id, what=what)
        for event in events
        if (what := _broken(event, own, elsewhere)) is not None
    ]
    lives: dict[UUID, list[Event]] = {}
    for event in events:
        lives.setdefault(event.aggregate_id, []).append(event)
    for life in lives.values():
        for position, event in enumerate(sorted(life, key=lambda event: event.aggregate_version), 1):
            if event.aggregate_version != position:
                what = f"{event.event_type} is version {event.aggregate_version}, but the log has no version {position} before it"
                found.append(
                    Break(event_id=event.id, aggregate_type=event.aggregate_type, aggregate_id=event.aggregate_id, what=what)
                )
                break
    for row in await tx.fetch(_STATES, tx.context.tenant_id, correlation_id):
        newest = max((event.aggregate_version for event in lives.get(row["id"], ())), default=0)
        if row["version"] != newest:
            what = f"its row says version {row['version']}, its newest event in this correlation is version {newest}"
            found.append(Break(event_id=None, aggregate_type=row["aggregate_type"], aggregate_id=row["id"], what=what))
    return found


def _broken(event: Event, own: dict[UUID, Event], elsewhere: Collection[UUID]) -> str | None:
    if event.causation_id is None:
        if event.aggregate_version == 1 and event.aggregate_type not in _PARTS:
            return None
        return f"{event.event_type} has no cause"
    cause = own.get(event.causation_id)
    if cause is not None:
        if cause.sequence_number >= event.sequence_number:
            return f"{event.event_type} was recorded before its cause, {cause.event_type}"
        return None
    if event.causation_id in elsewhere:
        return f"{event.event_type} was caused by event {event.causation_id}, which belongs to another correlation"
    return f"{event.event_type} was caused by event {event.causation_id}, which is not in the log"
