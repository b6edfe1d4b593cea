"""Restoring tables from the log: rows that differ are corrected, rows that no event speaks of go, rows that are missing come back.

It is a repair. Writers wait while it goes on; the wall that keeps the owner out of the table is taken down and put up again in the one
transaction that does it, behind the table's lock.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from persistence.database.failures import DATABASE_ERRORS, translated
from persistence.database.quoting import naming, quote
from persistence.database.tables import OUTBOX_EVENTS, table
from persistence.errors import ConfigurationError
from persistence.gates.replay import TABLES, UNLOGGED, UNLOGGED_ARRAY, Scope, fold

QUEUE: Final = "outbox_queue"
RUNS_LISTED: Final = "run_queue"
STREAMS: Final = ("outbox_streams", "outbox_marks")
PROJECTION: Final = "run_summary"
NAMES: Final = (*(known.name for known in TABLES), QUEUE, RUNS_LISTED, PROJECTION)
"""What can be restored."""

# The owner reads the log as an auditor does, for as long as the transaction lasts; no other transaction ever sees that grant.
_BEGIN: Final = """
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
GRANT persistence_auditor TO persistence_owner;
SET LOCAL ROLE persistence_owner;
"""
_LOCK: Final = "LOCK TABLE persistence.{table} IN ACCESS EXCLUSIVE MODE"
_LOCK_LOG: Final = "LOCK TABLE persistence.orchestration_events IN SHARE ROW EXCLUSIVE MODE"
_TRIES: Final = 10
_END: Final = "SET LOCAL ROLE NONE; REVOKE persistence_auditor FROM persistence_owner"

_OPEN: Final = "ALTER TABLE persistence.{table} NO FORCE ROW LEVEL SECURITY"
_CLOSE: Final = "ALTER TABLE persistence.{table} FORCE ROW LEVEL SECURITY"
# The fold writes last_event_id anew; a correction leaves it, and would be taken for an operator's requeueing.
_SILENCE: Final = "ALTER TABLE persistence.outbox_events DISABLE TRIGGER requeue_by_update"
_SPEAK: Final = "ALTER TABLE persistence.outbox_events ENABLE TRIGGER requeue_by_update"

_DELETE: Final = """
DELETE FROM persistence.{table} AS k
WHERE NOT EXISTS (SELECT FROM pg_temp.{table} AS f WHERE f.tenant_id = k.tenant_id AND f.id = k.id)
"""

_CORRECT: Final = """
UPDATE persistence.{table} AS k
SET {assignments}
FROM pg_temp.{table} AS f
WHERE f.tenant_id = k.tenant_id
  AND f.id = k.id
  AND to_jsonb(k) - {unlogged} IS DISTINCT FROM to_jsonb(f) - {unlogged}
"""

# A record of a delivered effect is missing by right: it was purged.
_RESTORE: Final = """
INSERT INTO persistence.{table} ({columns})
SELECT {columns}
FROM pg_temp.{table} AS f
WHERE NOT EXISTS (SELECT FROM persistence.{table} AS k WHERE k.tenant_id = f.tenant_id AND k.id = f.id)
  AND NOT ($1::boolean AND f.status = 'PUBLISHED')
"""

_UNQUEUE: Final = """
DELETE FROM persistence.outbox_queue AS q
WHERE NOT EXISTS (
  SELECT FROM pg_temp.outbox_events AS o
  WHERE o.tenant_id = q.tenant_id
    AND o.id = q.id
    AND o.status = CASE q.held_by WHEN 'DEAD_LETTER' THEN 'DEAD_LETTER' ELSE 'PENDING' END
    AND o.event_type = q.effect_type
    AND o.retry_count <= q.attempts
    AND (o.priority, o.destination) IS NOT DISTINCT FROM (q.priority, q.destination)
    AND q.ordering_key IS NOT DISTINCT FROM CASE WHEN o.status = 'PENDING' OR o.blocks_key THEN o.ordering_key END
)
"""

_ENQUEUE: Final = """
INSERT INTO persistence.outbox_queue (
  tenant_id, id, effect_type, due_at, attempts, priority, ordering_key, position, held_by, died_at, destination, is_awaited
)
SELECT
  o.tenant_id, o.id, o.event_type,
  CASE WHEN o.status = 'PENDING' AND o.ordering_key IS NULL THEN greatest(o.next_retry_at, now()) ELSE 'infinity' END,
  o.retry_count, o.priority, CASE WHEN e.id IS NOT NULL THEN o.ordering_key END, e.sequence_number,
  CASE WHEN o.status = 'DEAD_LETTER' THEN 'DEAD_LETTER' WHEN o.ordering_key IS NOT NULL THEN 'KEY' END,
  CASE WHEN o.status = 'DEAD_LETTER' THEN o.updated_at END, o.destination,
  (SELECT f.is_awaited FROM pg_temp.effects AS f WHERE f.tenant_id = o.tenant_id AND f.id = o.id) IS TRUE
FROM pg_temp.outbox_events AS o
LEFT JOIN persistence.orchestration_events AS e
  ON o.ordering_key IS NOT NULL AND (o.status = 'PENDING' OR o.blocks_key)
  AND e.tenant_id = o.tenant_id AND e.aggregate_id = o.id AND e.aggregate_version = 1
WHERE o.status IN ('PENDING', 'DEAD_LETTER')
  AND NOT EXISTS (SELECT FROM persistence.outbox_queue AS q WHERE q.tenant_id = o.tenant_id AND q.id = o.id)
"""

_ADD_STREAMS: Final = """
INSERT INTO persistence.outbox_streams (tenant_id, effect_type)
SELECT DISTINCT q.tenant_id, q.effect_type FROM persistence.outbox_queue AS q
ON CONFLICT DO NOTHING
"""

_LEAVE_MARKS: Final = (
    "SELECT persistence.leave_marks(array_agg(q.tenant_id), array_agg(q.effect_type)) FROM persistence.outbox_queue AS q"
)

_OPEN_KEYS: Final = """
SELECT persistence.open_keys(array_agg(q.tenant_id), array_agg(q.ordering_key)) FROM persistence.outbox_queue AS q WHERE q.held_by = 'KEY'
"""

_UNLIST: Final = """
DELETE FROM persistence.run_queue AS q
WHERE NOT EXISTS (
  SELECT
  FROM pg_temp.runs AS r
  WHERE r.tenant_id = q.tenant_id
    AND r.id = q.id
    AND r.status IN ('PENDING', 'RUNNING', 'WAITING')
    AND (r.run_type, r.flow_version, r.ordering_key) IS NOT DISTINCT FROM (q.flow, q.flow_version, q.ordering_key)
    AND coalesce(r.priority, 0) = q.priority
    AND (q.lease_token IS NULL) = (q.leased_by IS NULL)
    AND (q.lease_token IS NULL) = (q.leased_until IS NULL)
)
"""

# Those that wait, too: one that has no reason to go on waits again.
_LIST: Final = """
INSERT INTO persistence.run_queue (tenant_id, id, flow, flow_version, due_at, priority, ordering_key, position, held_by)
SELECT
  r.tenant_id, r.id, r.run_type, r.flow_version,
  CASE WHEN r.ordering_key IS NULL THEN greatest(r.starts_at, now()) ELSE 'infinity' END, coalesce(r.priority, 0),
  r.ordering_key, CASE WHEN r.ordering_key IS NOT NULL THEN e.sequence_number END, CASE WHEN r.ordering_key IS NOT NULL THEN 'KEY' END
FROM pg_temp.runs AS r
JOIN persistence.orchestration_events AS e ON e.tenant_id = r.tenant_id AND e.aggregate_id = r.id AND e.aggregate_version = 1
WHERE r.flow_version IS NOT NULL
  AND r.status IN ('PENDING', 'RUNNING', 'WAITING')
  AND NOT EXISTS (SELECT FROM persistence.run_queue AS q WHERE q.tenant_id = r.tenant_id AND q.id = r.id)
"""

_OPEN_RUNS: Final = """
SELECT persistence.open_runs(array_agg(q.tenant_id), array_agg(q.ordering_key)) FROM persistence.run_queue AS q WHERE q.held_by = 'KEY'
"""

_REFRESH: Final = "SET LOCAL ROLE persistence_system; SET LOCAL statement_timeout = 0; SELECT persistence.refresh_projections()"


@dataclass(frozen=True)
class Rebuilt:
    """How many rows of a table went, were corrected, and came back."""

    table: str
    deleted: int = 0
    corrected: int = 0
    restored: int = 0


async def rebuild(connection: asyncpg.Connection, names: Sequence[str]) -> list[Rebuilt]:
    """Restores tables from the log, all of them or none. The connection's login is an administrator's, as for migrations.

    Saved states, sealed secrets and wrapped keys are not in the log: those that are there stay, those that are gone come back empty.
    Raises ConfigurationError for a name that is none of NAMES, NotFound where rows that are to go are still pointed at: name that table too.
    """
    for name in names:
        if name not in NAMES:
            raise ConfigurationError(f"rebuild: {name!r} is no table that can be restored", hint=f"choose from {', '.join(NAMES)}")
    wanted = [known.name for known in TABLES if known.name in names]
    done: dict[str, Rebuilt] = {}
    try:
        lists = {QUEUE, RUNS_LISTED} & set(names)
        if wanted or lists:
            done = await _locked(connection, wanted, lists)
        if PROJECTION in names:
            async with connection.transaction():
                await connection.execute(_REFRESH)
            done[PROJECTION] = Rebuilt(PROJECTION)
    except DATABASE_ERRORS as error:
        raise translated(error) from error
    return [done[name] for name in NAMES if name in done]


async def _locked(connection: asyncpg.Connection, names: Sequence[str], lists: Collection[str]) -> dict[str, Rebuilt]:
    """All locks are taken before the fold; where that ends in a deadlock with a writer, it is tried again."""
    tries = AsyncRetrying(
        retry=retry_if_exception_type((asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        stop=stop_after_attempt(_TRIES),
        reraise=True,
    )

    async def once() -> dict[str, Rebuilt]:
        async with connection.transaction():
            await connection.execute(_BEGIN)
            for name in (*names, QUEUE, RUNS_LISTED, *STREAMS):
                await connection.execute(naming(_LOCK, table=name))
            await connection.execute(_LOCK_LOG)
            await fold(connection, Scope())
            for name in (*names, QUEUE, RUNS_LISTED, *STREAMS):
                await connection.execute(naming(_OPEN, table=name))
            await connection.execute(_SILENCE)
            done = await _restore(connection, names)
            if QUEUE in lists:
                done[QUEUE] = await _requeue(connection)
            if RUNS_LISTED in lists:
                done[RUNS_LISTED] = await _list_again(connection)
            await connection.execute(_SPEAK)
            for name in (*names, QUEUE, RUNS_LISTED, *STREAMS):
                await connection.execute(naming(_CLOSE, table=name))
            await connection.execute(_END)
            return done

    return await tries(once)


async def _restore(connection: asyncpg.Connection, names: Sequence[str]) -> dict[str, Rebuilt]:
    """Forged rows stand in the way of real ones (unique keys), or real ones still point at them (foreign keys): one order or the other goes."""
    try:
        async with connection.transaction():
            deleted = await _delete(connection, names)
            written = await _write(connection, names)
    except asyncpg.ForeignKeyViolationError:
        async with connection.transaction():
            written = await _write(connection, names)
            deleted = await _delete(connection, names)
    return {name: Rebuilt(name, deleted[name], *written[name]) for name in names}


async def _delete(connection: asyncpg.Connection, names: Sequence[str]) -> dict[str, int]:
    """Rows go before what they point at."""
    return {name: _count(await connection.execute(naming(_DELETE, table=name))) for name in reversed(names)}


async def _write(connection: asyncpg.Connection, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Rows come after what they point at. How many were corrected and restored, by table."""
    done = {}
    for name in names:
        columns = [column.name for column in table(name).columns]
        kept = {"tenant_id", "id", *UNLOGGED}
        assignments = ", ".join(f"{quote(column)} = f.{quote(column)}" for column in columns if column not in kept)
        listed = ", ".join(quote(column) for column in columns)
        restored = await connection.execute(naming(_RESTORE, table=name).replace("{columns}", listed), name == OUTBOX_EVENTS.name)
        correct = naming(_CORRECT, table=name).replace("{assignments}", assignments).replace("{unlogged}", UNLOGGED_ARRAY)
        corrected = await connection.execute(correct)
        done[name] = _count(corrected), _count(restored)
    return done


async def _requeue(connection: asyncpg.Connection) -> Rebuilt:
    unqueued = _count(await connection.execute(_UNQUEUE))
    queued = _count(await connection.execute(_ENQUEUE))
    await connection.execute(_ADD_STREAMS)
    await connection.execute(_LEAVE_MARKS)
    await connection.execute(_OPEN_KEYS)
    return Rebuilt(QUEUE, unqueued, 0, queued)


async def _list_again(connection: asyncpg.Connection) -> Rebuilt:
    unlisted = _count(await connection.execute(_UNLIST))
    listed = _count(await connection.execute(_LIST))
    await connection.execute(_OPEN_RUNS)
    return Rebuilt(RUNS_LISTED, unlisted, 0, listed)


def _count(tag: str) -> int:
    return int(tag.rsplit(" ", 1)[-1])
