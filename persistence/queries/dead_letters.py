"""What could not be delivered: grouped, and one by one."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from uuid import UUID

from persistence.errors import InvalidInput
from persistence.models import Event, Model, OutboxEntry
from persistence.transaction import Transaction

PAGE = 1000

# Dead letters by type, error and destination, the most numerous first: of all, or of those that died last.
_GROUPS = """
SELECT
  d.effect_type, d.error_type, d.destination, count(*) AS entries, min(d.died_at) AS first_at, max(d.died_at) AS last_at
FROM (
  SELECT q.effect_type, o.error_details ->> 'type' AS error_type, q.destination, q.died_at
  FROM persistence.outbox_queue AS q
  JOIN persistence.outbox_events AS o ON o.tenant_id = q.tenant_id AND o.id = q.id
  WHERE q.tenant_id = $1
    AND q.died_at IS NOT NULL
    AND ($2::text IS NULL OR q.effect_type = $2)
    AND ($3::text IS NULL OR coalesce(o.error_details ->> 'type', '') = $3)
    AND ($4::text IS NULL OR coalesce(q.destination, '') = $4)
    AND q.died_at >= coalesce($5::timestamptz, '-infinity')
    AND q.died_at < coalesce($6::timestamptz, 'infinity')
  ORDER BY q.died_at DESC
  LIMIT $7
) AS d
GROUP BY d.effect_type, d.error_type, d.destination
ORDER BY count(*) DESC, d.effect_type
"""

# A page of their ids, the oldest first.
_IDS = """
SELECT q.id, q.died_at
FROM persistence.outbox_queue AS q
JOIN persistence.outbox_events AS o ON o.tenant_id = q.tenant_id AND o.id = q.id
WHERE q.tenant_id = $1
  AND q.died_at IS NOT NULL
  AND ($2::text IS NULL OR q.effect_type = $2)
  AND ($3::text IS NULL OR coalesce(o.error_details ->> 'type', '') = $3)
  AND ($4::text IS NULL OR coalesce(q.destination, '') = $4)
  AND q.died_at >= coalesce($5::timestamptz, '-infinity')
  AND q.died_at < coalesce($6::timestamptz, 'infinity')
  AND (q.died_at, q.id) > (coalesce($7::timestamptz, '-infinity'), coalesce($8::uuid, '00000000-0000-0000-0000-000000000000'))
ORDER BY q.died_at, q.id
LIMIT $9
"""


class DeadLetterFilter(Model):
    """Which dead letters are meant; None: any.

    error_type: the class of the last error, as ``ConnectError``; destination: where it goes to; of both, empty text: only
    without one. since, until: when they became dead letters (until is not in it).
    """

    effect_type: str | None = None
    error_type: str | None = None
    destination: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class DeadLetterGroup(Model):
    """Dead letters that share type, error and destination: how many, and when the first and the last of them died."""

    effect_type: str
    error_type: str | None
    destination: str | None
    entries: int
    first_at: datetime
    last_at: datetime


class DeadLetterPage(Model):
    """Some dead letters; ``next`` is to be passed as ``after`` for those that follow. None: that was all."""

    items: Sequence[OutboxEntry]
    next: str | None


async def dead_letter_groups(tx: Transaction, wanted: DeadLetterFilter, *, most: int | None = None) -> list[DeadLetterGroup]:
    """The tenant's dead letters in groups, the largest first. most: only of so many that died last; None: of all."""
    rows = await tx.fetch(_GROUPS, tx.context.tenant_id, *_values(wanted), most)
    return [DeadLetterGroup.made(**row) for row in rows]


async def dead_letter_ids(tx: Transaction, wanted: DeadLetterFilter) -> AsyncIterator[Sequence[UUID]]:
    """The ids of the tenant's dead letters in pages of at most 1,000, those that have been dead longest first."""
    moment, last = None, None
    while True:
        rows = await tx.fetch(_IDS, tx.context.tenant_id, *_values(wanted), moment, last, PAGE)
        if rows:
            yield [row["id"] for row in rows]
            moment, last = rows[-1]["died_at"], rows[-1]["id"]
        if len(rows) < PAGE:
            return


async def dead_letters(tx: Transaction, wanted: DeadLetterFilter, *, limit: int = 50, after: str | None = None) -> DeadLetterPage:
    """A page of at most ``limit`` (1 to 1000) dead letters, those that have been dead longest first. Raises InvalidInput."""
    if not 1 <= limit <= PAGE:
        raise InvalidInput(f"limit: {limit} is not between 1 and {PAGE}", field="limit")
    moment, last = _parsed(after) if after else (None, None)
    rows = await tx.fetch(_IDS, tx.context.tenant_id, *_values(wanted), moment, last, limit + 1)
    entries = {entry.id: entry for entry in await tx.outbox.get_many([row["id"] for row in rows[:limit]])}
    end = rows[limit - 1] if len(rows) > limit else None
    return DeadLetterPage(
        items=[entries[row["id"]] for row in rows[:limit] if row["id"] in entries],
        next=f"{end['died_at'].isoformat()}_{end['id']}" if end else None,
    )


async def attempts_of(tx: Transaction, effect_id: UUID) -> list[Event]:
    """What has happened to an effect since it was requested: every attempt, requeueing and cancellation, in order."""
    events = await tx.events.of_aggregate(effect_id)
    return [event for event in events if event.event_type != "EFFECT_REQUESTED"]


def _values(wanted: DeadLetterFilter) -> tuple[object, ...]:
    return wanted.effect_type, wanted.error_type, wanted.destination, wanted.since, wanted.until


def _parsed(cursor: str) -> tuple[datetime, UUID]:
    moment, _, last = cursor.partition("_")
    try:
        parsed = datetime.fromisoformat(moment), UUID(last)
    except ValueError:
        raise InvalidInput(
            f"after: {cursor!r} is no place among the dead letters", hint="pass `next` of the page before", field="after"
        ) from None
    if parsed[0].tzinfo is None:
        raise InvalidInput("after: has no time zone", hint="pass `next` of the page before", field="after")
    return parsed
