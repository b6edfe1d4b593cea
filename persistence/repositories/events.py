"""The log: appended and read, nothing else."""

from collections.abc import Sequence
from uuid import UUID

from persistence.database.tables import ORCHESTRATION_EVENTS
from persistence.models import Event, NewEvent, Position
from persistence.repositories.rows import MAX_PAGE, RowReader, read_row

# The next events after a position, in an order that misses none.
_READ = """
SELECT
  r.epoch AS position_epoch, e.tenant_id, e.id, e.sequence_number, e.transaction_id, e.event_type, e.event_version, e.aggregate_type,
  e.aggregate_id, e.aggregate_version, e.event_data::text AS event_data, e.correlation_id, e.causation_id, e.actor, e.source,
  e.occurred_at, e.created_at, e.updated_at
FROM persistence.read_events($1, $2, $3, $4::text::xid8, $5, $6) AS r
CROSS JOIN LATERAL (SELECT (r.event).*) AS e
"""

_JSON = frozenset({"event_data"})


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
        events: list[Event] = []
        page = await self.list(limit=MAX_PAGE, aggregate_id=aggregate_id)
        events.extend(page.items)
        while page.next is not None:
            page = await self.list(limit=MAX_PAGE, aggregate_id=aggregate_id, after=page.next)
            events.extend(page.items)
        return sorted(events, key=lambda event: event.aggregate_version)

    async def read(self, after: Position | None = None, limit: int = 1000) -> tuple[Sequence[Event], Position]:
        """The next events after a position, and the position behind them.

        Nothing is skipped, however late a transaction commits: events come in the order of (transaction, sequence number), and only
        once no older transaction is open. A reader that stores the position it has dealt with misses nothing and repeats nothing.
        """
        after = after or Position()
        context = self._work.context
        rows = await self._work.fetch(
            _READ, context.tenant_id, context.user_id, after.epoch, str(after.transaction_id), after.sequence_number, limit
        )
        events = [
            read_row(Event, ((name, value) for name, value in row.items() if name != "position_epoch"), _JSON) for row in rows
        ]
        if not events:
            return events, after
        return events, Position(
            epoch=rows[-1]["position_epoch"],
            transaction_id=events[-1].transaction_id,
            sequence_number=events[-1].sequence_number,
        )
