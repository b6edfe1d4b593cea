"""How the whole database is doing, all tenants together: for metrics, as an auditor."""

from collections.abc import Sequence
from typing import Any

from persistence.database.failures import DATABASE_ERRORS, translated
from persistence.database.pool import connected
from persistence.models import Model
from persistence.queries.gates import LAST_GATES, GatesRun, gates_run
from persistence.settings import Settings

MOST_TENANTS = 20
"""So many tenants have series of their own: those with the most in the outbox."""

_MOST_RUNS = 1000

# The work list by effect type.
_DEPTH = """
SELECT
  q.effect_type,
  count(*) FILTER (WHERE q.held_by IS NULL AND q.due_at <= now() AND coalesce(q.leased_until, '-infinity') <= now()) AS due,
  count(*) FILTER (WHERE q.held_by IS NULL AND q.due_at > now() AND coalesce(q.leased_until, '-infinity') <= now()) AS waiting,
  count(*) FILTER (WHERE q.leased_until > now()) AS leased,
  count(*) FILTER (WHERE q.held_by IN ('KEY', 'RESTORE')) AS held,
  count(*) FILTER (WHERE q.held_by = 'DEAD_LETTER') AS dead,
  greatest(0, coalesce(
    extract(epoch FROM now() - min(q.due_at) FILTER (WHERE q.held_by IS NULL AND coalesce(q.leased_until, '-infinity') <= now())), 0
  ))::double precision AS oldest_seconds,
  count(*) FILTER (
    WHERE q.held_by IS NULL AND q.due_at <= now() - interval '5 minutes' AND coalesce(q.leased_until, '-infinity') <= now()
      AND coalesce(s.handled_at, '-infinity') < now() - interval '5 minutes'
  ) AS unhandled
FROM persistence.outbox_queue AS q
LEFT JOIN persistence.outbox_streams AS s ON s.tenant_id = q.tenant_id AND s.effect_type = q.effect_type
GROUP BY q.effect_type
"""

# Tenants with the most in the work list.
_TENANTS = """
SELECT t.name AS tenant, q.entries, q.dead, q.oldest_seconds
FROM (
  SELECT
    q.tenant_id, count(*) AS entries, count(*) FILTER (WHERE q.held_by = 'DEAD_LETTER') AS dead,
    greatest(0, coalesce(extract(epoch FROM now() - min(q.due_at) FILTER (WHERE q.held_by IS NULL)), 0))::double precision AS oldest_seconds
  FROM persistence.outbox_queue AS q
  GROUP BY q.tenant_id
  ORDER BY entries DESC
  LIMIT $1
) AS q
JOIN persistence.tenants AS t ON t.tenant_id = q.tenant_id
"""

# The oldest transaction that writes: readers of the log wait for it. Others' sessions are seen with pg_read_all_stats alone.
_HORIZON = """
SELECT
  coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::double precision AS seconds, a.pid, a.usename AS login,
  a.application_name AS application, a.state
FROM pg_stat_activity AS a
WHERE a.backend_xid IS NOT NULL
ORDER BY age(a.backend_xid) DESC
LIMIT 1
"""

# Runs under way in which nothing has happened for an hour, and tool calls that nobody has ended for as long: see ``stalled``.
_STALLED = """
SELECT
  count(*) FILTER (WHERE r.updated_at < now() - interval '1 hour' AND moved.moved_at < now() - interval '1 hour' AND NOT moved.has_child) AS runs,
  coalesce(sum(moved.calls), 0)::bigint AS tool_calls
FROM persistence.tenants AS t
CROSS JOIN LATERAL (
  SELECT r.id, r.updated_at
  FROM persistence.runs AS r
  WHERE r.tenant_id = t.tenant_id
    AND r.status = 'RUNNING'
  ORDER BY r.id
  LIMIT $1
) AS r
CROSS JOIN LATERAL (
  SELECT
    greatest(
      (SELECT max(s.updated_at) FROM persistence.steps AS s WHERE s.tenant_id = t.tenant_id AND s.run_id = r.id),
      (SELECT max(c.updated_at) FROM persistence.tool_calls AS c WHERE c.tenant_id = t.tenant_id AND c.run_id = r.id),
      (SELECT max(e.updated_at) FROM persistence.effects AS e WHERE e.tenant_id = t.tenant_id AND e.run_id = r.id),
      r.updated_at
    ) AS moved_at,
    (
      SELECT count(*)
      FROM persistence.tool_calls AS c
      WHERE c.tenant_id = t.tenant_id
        AND c.run_id = r.id
        AND c.status IN ('PENDING', 'RUNNING')
        AND c.updated_at < now() - interval '1 hour'
    ) AS calls,
    EXISTS (
      SELECT
      FROM persistence.runs AS child
      WHERE child.tenant_id = t.tenant_id
        AND child.parent_run_id = r.id
        AND child.status IN ('RUNNING', 'WAITING')
    ) AS has_child
) AS moved
"""

# Destinations that rest.
# fit: allow tenant_in_statement because it is the whole database's, as an auditor sees it
_RESTING = "SELECT count(*) AS resting FROM persistence.outbox_destinations AS d WHERE d.open_until > now()"


# Consumers that are behind the log, those that are longest first. Of a log that was restored they are told when they have read again.
_BEHIND = """
SELECT t.name AS tenant, c.name AS consumer, extract(epoch FROM now() - c.since)::double precision AS seconds, c.events
FROM (
  SELECT c.tenant_id, c.name, l.since, l.events
  FROM persistence.consumers AS c
  CROSS JOIN LATERAL (
    SELECT min(e.created_at) AS since, count(*) AS events
    FROM (
      SELECT e.*
      FROM persistence.orchestration_events AS e
      WHERE e.tenant_id = c.tenant_id
        AND (e.transaction_id, e.sequence_number) > (c.transaction_id, c.sequence_number)
      ORDER BY e.transaction_id, e.sequence_number
      LIMIT 2000
    ) AS e
    WHERE persistence.in_channel(c.channel, e)
  ) AS l
  WHERE c.epoch = (SELECT max(x.epoch) FROM canon.log_epochs AS x)
    AND l.events > 0
  ORDER BY l.since
  LIMIT $1
) AS c
JOIN persistence.tenants AS t ON t.tenant_id = c.tenant_id
"""


class Behind(Model):
    """A consumer of a tenant that has not dealt with all events of its channel: how many, among the next 2,000 of the log, and the age of the
    first.
    """

    tenant: str
    consumer: str
    seconds: float
    events: int


class TypeDepth(Model):
    """Entries of one effect type, by what they wait for, and the age of the one that is due longest. unhandled: due, and no worker that handles the
    type has been seen for five minutes.
    """

    effect_type: str
    due: int
    waiting: int
    leased: int
    held: int
    dead: int
    oldest_seconds: float
    unhandled: int


class TenantDepth(Model):
    """Entries of one tenant, dead letters among them, and the age of the one that is due longest."""

    tenant: str
    entries: int
    dead: int
    oldest_seconds: float


class Holder(Model):
    """The session with the oldest transaction that writes; readers of the log see nothing that is younger."""

    seconds: float
    pid: int
    login: str | None
    application: str | None
    state: str | None


class Standstill(Model):
    """Runs under way, and tool calls, in which nothing has happened for an hour; of each tenant its thousand oldest runs are looked at."""

    runs: int
    tool_calls: int


class DatabaseState(Model):
    """holder: None while nobody writes. gates: None when no run was recorded."""

    types: Sequence[TypeDepth]
    tenants: Sequence[TenantDepth]
    holder: Holder | None
    resting_destinations: int
    gates: GatesRun | None
    behind: Sequence[Behind]


async def database_state(audit_dsn: str, settings: Settings) -> DatabaseState:
    """As an auditor sees it. Raises one of this package's exceptions."""
    try:
        async with connected(audit_dsn, settings) as connection:
            types = await connection.fetch(_DEPTH)
            tenants = await connection.fetch(_TENANTS, MOST_TENANTS)
            holder = await connection.fetchrow(_HORIZON)
            resting: Any = await connection.fetchval(_RESTING)
            gates = await connection.fetch(LAST_GATES)
            behind = await connection.fetch(_BEHIND, MOST_TENANTS)
    except DATABASE_ERRORS as error:
        raise translated(error) from error
    return DatabaseState(
        types=[TypeDepth.made(**row) for row in types],
        tenants=[TenantDepth.made(**row) for row in tenants],
        holder=Holder.made(**holder) if holder else None,
        resting_destinations=resting,
        gates=gates_run(gates),
        behind=[Behind.made(**row) for row in behind],
    )


async def standstill(audit_dsn: str, settings: Settings) -> Standstill:
    """As an auditor sees it. Raises one of this package's exceptions."""
    try:
        async with connected(audit_dsn, settings) as connection:
            found: Any = await connection.fetchrow(_STALLED, _MOST_RUNS)
    except DATABASE_ERRORS as error:
        raise translated(error) from error
    return Standstill.made(**found)
