"""How deep the outbox is and how far behind, and which workers hold what."""

from datetime import datetime
from typing import Any, Final

from persistence.models import Model
from persistence.transaction import Transaction

MOST: Final = 10_000
"""Entries of one type and state are counted up to here: "10,000 or more" is as good as the number."""

# The tenant's work list by effect type: what is due by now, what later, and what waits for something else than time.
_DEPTH = """
SELECT s.effect_type, d.due, d.leased, d.lag_seconds, w.waiting, h.held, x.dead
FROM persistence.outbox_streams AS s
CROSS JOIN LATERAL (
  SELECT
    count(*) FILTER (WHERE coalesce(q.leased_until, '-infinity') <= now()) AS due,
    count(*) FILTER (WHERE q.leased_until > now()) AS leased,
    coalesce(
      extract(epoch FROM now() - min(q.due_at) FILTER (WHERE coalesce(q.leased_until, '-infinity') <= now())), 0
    )::double precision AS lag_seconds
  FROM (
    SELECT q.due_at, q.leased_until
    FROM persistence.outbox_queue AS q
    WHERE q.tenant_id = $1
      AND q.effect_type = s.effect_type
      AND q.due_at <= now()
    LIMIT $2
  ) AS q
) AS d
CROSS JOIN LATERAL (
  SELECT count(*) AS waiting
  FROM (
    SELECT
    FROM persistence.outbox_queue AS q
    WHERE q.tenant_id = $1
      AND q.effect_type = s.effect_type
      AND q.due_at > now()
      AND q.due_at < 'infinity'
    LIMIT $2
  ) AS q
) AS w
CROSS JOIN LATERAL (
  SELECT count(*) AS held
  FROM (
    SELECT
    FROM persistence.outbox_queue AS q
    WHERE q.tenant_id = $1
      AND q.effect_type = s.effect_type
      AND q.due_at = 'infinity'
      AND q.held_by <> 'DEAD_LETTER'
    LIMIT $2
  ) AS q
) AS h
CROSS JOIN LATERAL (
  SELECT count(*) AS dead
  FROM (
    SELECT
    FROM persistence.outbox_queue AS q
    WHERE q.tenant_id = $1
      AND q.effect_type = s.effect_type
      AND q.died_at IS NOT NULL
    LIMIT $2
  ) AS q
) AS x
WHERE s.tenant_id = $1
  AND d.due + d.leased + w.waiting + h.held + x.dead > 0
ORDER BY s.effect_type
"""

# Who holds leases of the tenant's entries: those are among what is due.
_WORKERS = """
SELECT
  q.leased_by AS worker, s.effect_type, count(*) AS entries, min(q.updated_at) AS since, min(q.leased_until) AS first_ends_at,
  max(q.attempts) AS most_attempts
FROM persistence.outbox_streams AS s
CROSS JOIN LATERAL (
  SELECT q.leased_by, q.updated_at, q.leased_until, q.attempts
  FROM persistence.outbox_queue AS q
  WHERE q.tenant_id = $1
    AND q.effect_type = s.effect_type
    AND q.due_at <= now()
  LIMIT $2
) AS q
WHERE s.tenant_id = $1
  AND q.leased_until > now()
GROUP BY q.leased_by, s.effect_type
ORDER BY q.leased_by, s.effect_type
"""

# When a worker for each type was last seen.
_HANDLED = """
SELECT s.effect_type, s.handled_at, coalesce(s.handled_at > now() - interval '5 minutes', false) AS is_attended
FROM persistence.outbox_streams AS s
WHERE s.tenant_id = $1
ORDER BY s.effect_type
"""

# Destinations that failed of late.
_DESTINATIONS = """
SELECT d.destination, d.failures, d.open_until, coalesce(d.open_until > now(), false) AS rests
FROM persistence.outbox_destinations AS d
WHERE d.tenant_id = $1
ORDER BY d.open_until DESC NULLS LAST, d.destination
LIMIT 100
"""


class Depth(Model):
    """Entries of one effect type: due and free, due later, leased by a worker, held for their turn or after a restore, dead letters.

    lag_seconds: how long the one that is due longest has waited. All counted up to MOST.
    """

    effect_type: str
    due: int
    waiting: int
    leased: int
    held: int
    dead: int
    lag_seconds: float


class Lease(Model):
    """What a worker holds of one type: entries, since when, when the first lease ends, and the highest number of attempts among them."""

    worker: str
    effect_type: str
    entries: int
    since: datetime
    first_ends_at: datetime
    most_attempts: int


class Attendance(Model):
    """When a worker with a handler for a type was last seen, to a minute; None: never. is_attended: within the last five."""

    effect_type: str
    handled_at: datetime | None
    is_attended: bool


class Destination(Model):
    """A destination that failed of late: how often in a row, and whether it rests until ``open_until``."""

    destination: str
    failures: int
    open_until: datetime | None
    rests: bool


async def outbox_depth(tx: Transaction, *, most: int = MOST) -> list[Depth]:
    """What the tenant has in the outbox, by effect type; each state counted up to ``most``."""
    return [Depth.made(**row) for row in await tx.fetch(_DEPTH, tx.context.tenant_id, most)]


async def leases(tx: Transaction) -> list[Lease]:
    """Which workers hold entries of the tenant."""
    return [Lease.made(**row) for row in await tx.fetch(_WORKERS, tx.context.tenant_id, MOST)]


async def attendance(tx: Transaction) -> list[Attendance]:
    """Which effect types have workers."""
    return [Attendance.made(**row) for row in await tx.fetch(_HANDLED, tx.context.tenant_id)]


async def troubled_destinations(tx: Transaction) -> list[Destination]:
    """Destinations of the tenant that failed of late; those that rest first."""
    rows: Any = await tx.fetch(_DESTINATIONS, tx.context.tenant_id)
    return [Destination.made(**row) for row in rows]
