"""The log: appended and read, nothing else."""

from collections.abc import Collection, Sequence
from uuid import UUID

from persistence.canon import CANON
from persistence.database.tables import ORCHESTRATION_EVENTS
from persistence.encoding import decode, encode
from persistence.errors import UnknownEventType
from persistence.models import Event, NewEvent, Position
from persistence.repositories.rows import RowReader, by_correlations, read_row

# The next events after a position, in an order that misses none.
_READ = """
SELECT
  r.epoch AS position_epoch, e.tenant_id, e.id, e.sequence_number, e.transaction_id, e.event_type, e.event_version, e.aggregate_type,
  e.aggregate_id, e.aggregate_version, e.event_data::text AS event_data, e.correlation_id, e.causation_id, e.actor, e.source,
  e.occurred_at, e.created_at, e.updated_at
FROM persistence.read_events($1, $2, $3, $4::text::xid8, $5, $6) AS r
CROSS JOIN LATERAL (SELECT (r.event).*) AS e
"""

# The end of the log, before which no event will come any more, and where the present epoch began.
_HORIZON = """
SELECT e.epoch, e.first_sequence_number, pg_snapshot_xmin(pg_current_snapshot())::text AS horizon
FROM persistence.log_epoch() AS present (epoch)
JOIN canon.log_epochs AS e ON e.epoch = present.epoch
"""

# The last events before the horizon.
_NEWEST = """
SELECT
  e.tenant_id, e.id, e.sequence_number, e.transaction_id, e.event_type, e.event_version, e.aggregate_type, e.aggregate_id, e.aggregate_version,
  e.event_data::text AS event_data, e.correlation_id, e.causation_id, e.actor, e.source, e.occurred_at, e.created_at, e.updated_at
FROM (
  SELECT e.*
  FROM persistence.orchestration_events AS e
  WHERE e.tenant_id = $1
    AND e.transaction_id < $2::text::xid8
  ORDER BY e.transaction_id DESC, e.sequence_number DESC
  LIMIT $4
) AS e
WHERE $5::text[] IS NULL OR e.event_type = ANY ($5)
ORDER BY e.transaction_id DESC, e.sequence_number DESC
LIMIT $3
"""

_LOOKED_AT = 100_000

_JSON = frozenset({"event_data"})

# Data of past versions as the present versions have them.
_UPCAST = """
SELECT persistence.upcast_data(e.event_type, e.event_version, e.event_data::jsonb)::text AS event_data
FROM unnest($1::text[], $2::smallint[], $3::text[]) WITH ORDINALITY AS e (event_type, event_version, event_data, position)
ORDER BY e.position
"""


class EventRepository(RowReader[Event]):
    """A tenant's log. There is no way to change or delete an entry."""

    table = ORCHESTRATION_EVENTS
    model = Event

    def append(self, *events: NewEvent) -> None:
        """Buffers events of one's own making. The commands of the other repositories do this too, and check more on the way."""
        for event in events:
            self._work.record(NewEvent.model_validate(event))

    async def of_aggregate(self, aggregate_id: UUID) -> Sequence[Event]:
        """The life of one aggregate, from its first event on."""
        return sorted(await self.all(aggregate_id=aggregate_id), key=lambda event: event.aggregate_version)

    async def of_correlations(self, *correlation_ids: UUID) -> Sequence[Event]:
        """All events of these correlations, in the order of the log."""
        rows = await self._work.fetch(by_correlations(self.table), self._work.context.tenant_id, list(correlation_ids))
        return await self._presented(sorted(self.read_rows(rows), key=lambda event: event.sequence_number))

    async def read(self, after: Position | str | None = None, limit: int = 1000) -> tuple[Sequence[Event], Position]:
        """The next events after a position, and the position behind them; otherwise as ``read_each``."""
        place = Position() if after is None else Position.of(after)
        events, epochs = await self._after(place, limit)
        return events, _behind(events[-1], epochs[-1]) if events else place

    async def read_each(self, after: Position | str | None = None, limit: int = 1000) -> Sequence[tuple[Event, Position]]:
        """The next events after a position, each with the position behind it.

        Nothing is skipped, however late a transaction commits: events come in the order of (transaction, sequence number), and only
        once no older transaction is open. A reader that stores the position it has dealt with misses nothing and repeats nothing.
        """
        events, epochs = await self._after(Position() if after is None else Position.of(after), limit)
        return [(event, _behind(event, epoch)) for event, epoch in zip(events, epochs, strict=True)]

    async def _after(self, after: Position, limit: int) -> tuple[Sequence[Event], Sequence[int]]:
        """The next events after a position, and the epoch of each."""
        context = self._work.context
        rows = await self._work.fetch(
            _READ, context.tenant_id, context.user_id, after.epoch, str(after.transaction_id), after.sequence_number, limit
        )
        fields = [dict(row.items()) for row in rows]
        epochs = [values.pop("position_epoch") for values in fields]
        return await self._presented([read_row(Event, values, _JSON) for values in fields]), epochs

    async def newest(self, limit: int = 20, types: Collection[str] = ()) -> tuple[Sequence[tuple[Event, Position]], Position]:
        """The last events that ``read_each`` would have come to by now, in its order, and the position to go on from.

        types: only these event types, among the last 100,000 events; none: all.
        """
        [end] = await self._work.fetch(_HORIZON)
        rows = await self._work.fetch(
            _NEWEST, self._work.context.tenant_id, end["horizon"], limit, _LOOKED_AT if types else limit, list(types) or None
        )
        events = await self._presented([read_row(Event, dict(row.items()), _JSON) for row in reversed(rows)])
        epochs = [end["epoch"] - (event.sequence_number < end["first_sequence_number"]) for event in events]
        here = Position(epoch=end["epoch"], transaction_id=int(end["horizon"]), sequence_number=0)
        return [(event, _behind(event, epoch)) for event, epoch in zip(events, epochs, strict=True)], here

    async def _presented(self, items: Sequence[Event]) -> Sequence[Event]:
        """Events of past versions come as if they had been written today. Raises UnknownEventType for one from the future."""
        old = [event for event in items if event.event_version != _present_version(event)]
        if not old:
            return items
        rows = await self._work.fetch(
            _UPCAST,
            [event.event_type for event in old],
            [event.event_version for event in old],
            [encode(event.event_data) for event in old],
        )
        present = {
            event.id: event.model_copy(update={"event_data": decode(row["event_data"]), "event_version": _present_version(event)})
            for event, row in zip(old, rows, strict=True)
        }
        return [present.get(event.id, event) for event in items]


def _behind(event: Event, epoch: int) -> Position:
    return Position(epoch=epoch, transaction_id=event.transaction_id, sequence_number=event.sequence_number)


def _present_version(event: Event) -> int:
    kind = CANON.event_types.get(event.event_type)
    if kind is None or (event.event_version != kind.version and event.event_version not in kind.past):
        raise UnknownEventType(
            f"event {event.id}: {event.event_type} of version {event.event_version} is unknown to this version of the package",
            hint="a later version wrote it; upgrade before reading on",
        )
    return kind.version
