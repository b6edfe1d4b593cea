"""How deep the outbox is and how far behind, and which workers hold what."""

from datetime import datetime
from typing import Any

from persistence.models import Model
from persistence.transaction import Transaction

# The tenant's work list by effect type.
_DEPTH = """
SELECT
  q.effect_type,
  count(*) FILTER (WHERE q.held_by IS NULL AND q.due_at <= now() AND coalesce(q.leased_until, '-infinity') <= now()) AS due,
  count(*) FILTER (WHERE q.held_by IS NULL AND q.due_at > now() AND coalesce(q.leased_until, '-infinity') <= now()) AS waiting,
  count(*) FILTER (WHERE q.leased_until > now()) AS leased,
  count(*) FILTER (WHERE q.held_by IN ('KEY', 'RESTORE')) AS held,
  count(*) FILTER (WHERE q.held_by = 'DEAD_LETTER') AS dead,
  coalesce(
    extract(epoch FROM now() - min(q.due_at) FILTER (WHERE q.held_by IS NULL AND coalesce(q.leased_until, '-infinity') <= now())), 0
  )::double precision AS oldest
FROM persistence.outbox_queue AS q
WHERE q.tenant_id = $1
GROUP BY q.effect_type
ORDER BY q.effect_type
"""

# Who holds leases of the tenant's entries.
_WORKERS = """
SELECT
  q.leased_by AS worker, q.effect_type, count(*) AS entries, min(q.updated_at) AS since, min(q.leased_until) AS first_ends_at,
  max(q.attempts) AS most_attempts
FROM persistence.outbox_queue AS q
WHERE q.tenant_id = $1
  AND q.leased_until > now()
GROUP BY q.leased_by, q.effect_type
ORDER BY q.leased_by, q.effect_type
"""

# When a worker for each type was last seen.
_HANDLED = """
SELECT s.effect_type, s.handled_at, s.handled_at > now() - interval '5 minutes' AS is_attended
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

    lag_seconds: how long the one that is due longest has waited.
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
    """When a worker with a handler for a type was last seen, to a minute; is_attended: within the last five."""

    effect_type: str
    handled_at: datetime
    is_attended: bool


class Destination(Model):
    """A destination that failed of late: how often in a row, and whether it rests until ``open_until``."""

    destination: str
    failures: int
    open_until: datetime | None
    rests: bool


async def outbox_depth(tx: Transaction) -> list[Depth]:
    """What the tenant has in the outbox, by effect type."""
    rows = await tx.fetch(_DEPTH, tx.context.tenant_id)
    return [
        Depth.made(**{name: value for name, value in row.items() if name != "oldest"}, lag_seconds=max(0.0, row["oldest"]))
        for row in rows
    ]


async def leases(tx: Transaction) -> list[Lease]:
    """Which workers hold entries of the tenant."""
    return [Lease.made(**row) for row in await tx.fetch(_WORKERS, tx.context.tenant_id)]


async def attendance(tx: Transaction) -> list[Attendance]:
    """Which effect types have workers."""
    return [Attendance.made(**row) for row in await tx.fetch(_HANDLED, tx.context.tenant_id)]


async def troubled_destinations(tx: Transaction) -> list[Destination]:
    """Destinations of the tenant that failed of late; those that rest first."""
    rows: Any = await tx.fetch(_DESTINATIONS, tx.context.tenant_id)
    return [Destination.made(**row) for row in rows]
