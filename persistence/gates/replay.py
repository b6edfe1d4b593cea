"""Replay: folding the log again, and comparing what comes out with the runtime tables.

The fold is the database's own, the very functions of the write path: only the tables they find first are others, empty and temporary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from sqlalchemy import Table

from persistence.database.failures import DATABASE_ERRORS, translated
from persistence.database.quoting import naming, quote
from persistence.database.tables import (
    BACKUP_VERIFICATIONS,
    DATA_KEYS,
    EFFECTS,
    MEMORIES,
    MEMORY_INDEXES,
    MEMORY_RECALLS,
    OUTBOX_EVENTS,
    RUN_CHECKPOINTS,
    RUNS,
    SECRETS,
    SIGNALS,
    SNAPSHOTS,
    STEPS,
    TOOL_CALLS,
    VAULT_ACCESSES,
)
from persistence.encoding import decode, encode
from persistence.errors import PermissionDenied

TABLES: Final[tuple[Table, ...]] = (
    SIGNALS,
    RUNS,
    STEPS,
    TOOL_CALLS,
    MEMORIES,
    MEMORY_INDEXES,
    MEMORY_RECALLS,
    EFFECTS,
    OUTBOX_EVENTS,
    RUN_CHECKPOINTS,
    DATA_KEYS,
    SECRETS,
    VAULT_ACCESSES,
    SNAPSHOTS,
    BACKUP_VERIFICATIONS,
)
"""The tables that the log is folded into, in the order in which one may need the other."""

UNLOGGED: Final = frozenset({"state", "sealed", "content", "words"})
"""Columns that the log does not hold: it has their digests."""

UNLOGGED_ARRAY: Final = f"'{{{','.join(sorted(UNLOGGED))}}}'::text[]"
"""The same in SQL."""

_SHOWN: Final = 20

# Whether row level security lets this login see everything: a comparison of nothing with nothing would prove nothing.
_MAY_AUDIT: Final = """
SELECT pg_has_role(current_user, 'persistence_auditor', 'USAGE') OR rolsuper OR rolbypassrls
FROM pg_roles
WHERE rolname = current_user
"""

_SETTINGS: Final = """
SET LOCAL search_path = pg_temp, persistence;
SET LOCAL work_mem = '128MB';
"""

_NO_TIME_LIMITS: Final = """
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
"""

# An empty table like the one of that name, with its keys and without its foreign keys.
_EMPTY_COPY: Final = "CREATE TEMPORARY TABLE {table} (LIKE persistence.{table} INCLUDING DEFAULTS INCLUDING INDEXES) ON COMMIT DROP"

# Once a record is purged its key may be used again; the log has both requests.
_UNIQUE_KEY: Final = "SELECT conname FROM pg_constraint WHERE conrelid = 'pg_temp.outbox_events'::regclass AND contype = 'u'"
_FREE_KEY: Final = "ALTER TABLE pg_temp.outbox_events DROP CONSTRAINT {key}"

_DIFFERENCES: Final = """
CREATE TEMPORARY TABLE differences (table_name text, tenant_id uuid, id uuid, kept jsonb, folded jsonb, detail text) ON COMMIT DROP
"""

_ANALYZE: Final = "ANALYZE pg_temp.{table}"

_COUNT: Final = "SELECT count(*) FROM pg_temp.{table}"

_FOLD: Final = "SELECT persistence.fold_log($1, $2, $3)"

# Rows that differ, or stand on one side only. What is saved or sealed is not in the log: its digest is compared instead. A purged record
# of a delivered effect is missing by right.
_COMPARE: Final = """
INSERT INTO pg_temp.differences (table_name, tenant_id, id, kept, folded)
SELECT $5, coalesce(kept.tenant_id, folded.tenant_id), coalesce(kept.id, folded.id), to_jsonb(kept),
  to_jsonb(folded) - {unlogged}
FROM (
  SELECT {columns}
  FROM persistence.{table} AS k
  WHERE ($1::uuid IS NULL OR k.tenant_id = $1)
    AND ($3::double precision >= 100 OR persistence.in_sample(k.id, $3))
    AND (
      $2::timestamptz IS NULL
      OR k.updated_at >= $2
      OR EXISTS (SELECT FROM pg_temp.{table} AS f WHERE f.tenant_id = k.tenant_id AND f.id = k.id)
    )
) AS kept
FULL JOIN pg_temp.{table} AS folded ON folded.tenant_id = kept.tenant_id AND folded.id = kept.id
WHERE to_jsonb(kept) IS DISTINCT FROM to_jsonb(folded) - {unlogged}
  AND NOT (kept.id IS NULL AND $4::boolean AND folded.status = 'PUBLISHED')
"""

_STATES: Final = """
INSERT INTO pg_temp.differences (table_name, tenant_id, id, kept, folded)
SELECT
  'run_checkpoints', c.tenant_id, c.id,
  jsonb_build_object('digest of state', encode(sha256(convert_to(c.state::text, 'UTF8')), 'hex')),
  jsonb_build_object('digest of state', c.digest)
FROM persistence.run_checkpoints AS c
WHERE ($1::uuid IS NULL OR c.tenant_id = $1)
  AND c.updated_at >= coalesce($2::timestamptz, '-infinity')
  AND persistence.in_sample(c.id, $3)
  AND CASE c.status WHEN 'SAVED' THEN encode(sha256(convert_to(c.state::text, 'UTF8')), 'hex') IS DISTINCT FROM c.digest ELSE c.state IS NOT NULL END
"""

_TEXTS: Final = """
INSERT INTO pg_temp.differences (table_name, tenant_id, id, kept, folded)
SELECT
  'memories', c.tenant_id, c.id,
  jsonb_build_object('digest of content', encode(sha256(convert_to(c.content, 'UTF8')), 'hex')),
  jsonb_build_object('digest of content', c.digest)
FROM persistence.memories AS c
WHERE ($1::uuid IS NULL OR c.tenant_id = $1)
  AND c.updated_at >= coalesce($2::timestamptz, '-infinity')
  AND persistence.in_sample(c.id, $3)
  AND CASE c.status
    WHEN 'FORGOTTEN' THEN c.content IS NOT NULL OR c.words IS NOT NULL
    ELSE encode(sha256(convert_to(c.content, 'UTF8')), 'hex') IS DISTINCT FROM c.digest
      OR c.words IS DISTINCT FROM to_tsvector('simple', c.content)
  END
"""

_SEALED: Final = """
INSERT INTO pg_temp.differences (table_name, tenant_id, id, kept, folded)
SELECT
  $4, c.tenant_id, c.id,
  jsonb_build_object('digest of what is sealed', encode(sha256(convert_to(c.sealed, 'UTF8')), 'hex')),
  jsonb_build_object('digest of what is sealed', c.digest)
FROM persistence.{table} AS c
WHERE ($1::uuid IS NULL OR c.tenant_id = $1)
  AND c.updated_at >= coalesce($2::timestamptz, '-infinity')
  AND persistence.in_sample(c.id, $3)
  AND CASE c.status WHEN 'DESTROYED' THEN c.sealed IS NOT NULL ELSE encode(sha256(convert_to(c.sealed, 'UTF8')), 'hex') IS DISTINCT FROM c.digest END
"""

_QUEUE: Final = """
INSERT INTO pg_temp.differences (table_name, tenant_id, id, kept, folded)
SELECT
  'outbox_queue', coalesce(o.tenant_id, q.tenant_id), coalesce(o.id, q.id),
  CASE WHEN q.id IS NOT NULL THEN '{"queued": true}'::jsonb END,
  CASE WHEN o.id IS NOT NULL THEN '{"queued": true}'::jsonb END
FROM persistence.outbox_queue AS q
FULL JOIN (
  SELECT o.*
  FROM persistence.outbox_events AS o
  WHERE o.status IN ('PENDING', 'DEAD_LETTER')
) AS o ON o.tenant_id = q.tenant_id AND o.id = q.id
WHERE ($1::uuid IS NULL OR coalesce(o.tenant_id, q.tenant_id) = $1)
  AND (o.id IS NULL OR q.id IS NULL)
"""

# Which columns differ, in words.
_EXPLAIN: Final = """
UPDATE pg_temp.differences AS d
SET detail = CASE
  WHEN d.kept IS NULL THEN 'the log has it, the table does not'
  WHEN d.folded IS NULL THEN 'the table has it, the log does not'
  ELSE (
    SELECT string_agg(format('%s: table %s, log %s', k.key, left(k.value::text, 80), left((d.folded -> k.key)::text, 80)), '; ' ORDER BY k.key)
    FROM jsonb_each(d.kept) AS k
    WHERE k.value IS DISTINCT FROM d.folded -> k.key
  )
END
"""

_DIFFERENT: Final = "SELECT count(*) FROM pg_temp.differences"

_SHOW: Final = "SELECT table_name, tenant_id, id, kept::text AS kept, folded::text AS folded FROM pg_temp.differences LIMIT $1"


@dataclass(frozen=True)
class Scope:
    """What of the log is folded and compared. since: only aggregates to which something happened from then on; sample: percent of aggregates."""

    tenant_id: UUID | None = None
    since: datetime | None = None
    sample: float = 100.0


@dataclass(frozen=True)
class Difference:
    """A row on which log and table disagree. columns: by name, what the table says and what the log says; a missing row says nothing."""

    table: str
    tenant_id: UUID
    id: UUID
    columns: Mapping[str, tuple[Any, Any]]

    def __str__(self) -> str:
        said = "; ".join(f"{name}: table {kept!r}, log {folded!r}" for name, (kept, folded) in self.columns.items())
        return f"{self.table} {self.id} of tenant {self.tenant_id}: {said}"


@dataclass
class ReplayReport:
    """events: folded. rows: that came of them, by table. differences: the first of them; different: how many there are in all."""

    events: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    different: int = 0


async def verify(connection: asyncpg.Connection, tenant_id: UUID | None = None) -> ReplayReport:
    """Replays the log of one tenant, or of all, and compares. The connection's login needs persistence_auditor; nothing is changed.

    It works on one snapshot, so writers may go on. Raises what the fold raises when the log itself breaks the law.
    """
    report = ReplayReport()
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await check_auditor(connection)
            await connection.execute(_NO_TIME_LIMITS)
            report.events, report.rows = await compare(connection, Scope(tenant_id))
            report.different = await connection.fetchval(_DIFFERENT)
            report.differences = [_difference(row) for row in await connection.fetch(_SHOW, _SHOWN)]
    except DATABASE_ERRORS as error:
        raise translated(error) from error
    return report


async def check_auditor(connection: asyncpg.Connection) -> None:
    """Raises PermissionDenied for a login that sees one tenant at a time."""
    if not await connection.fetchval(_MAY_AUDIT):
        raise PermissionDenied(
            "this login does not see all tenants", hint="use one that has persistence_auditor: PERSISTENCE_AUDIT_DSN"
        )


async def shadow(connection: asyncpg.Connection) -> None:
    """Makes empty temporary tables that stand before the runtime tables until the transaction ends."""
    await connection.execute(_SETTINGS)
    for table in TABLES:
        await connection.execute(naming(_EMPTY_COPY, table=table.name))
    await connection.execute(naming(_FREE_KEY, key=await connection.fetchval(_UNIQUE_KEY)))


async def fold(connection: asyncpg.Connection, scope: Scope) -> int:
    """Folds the log into temporary tables that stand before the runtime tables. Returns the number of events."""
    await shadow(connection)
    folded: int = await connection.fetchval(_FOLD, scope.tenant_id, scope.since, scope.sample)
    for table in TABLES:
        await connection.execute(naming(_ANALYZE, table=table.name))
    return folded


async def compare(connection: asyncpg.Connection, scope: Scope) -> tuple[int, dict[str, int]]:
    """Folds the log, and lists in the temporary table ``differences`` where the runtime tables say something else.

    Returns the number of events, and of the rows that came of them by table.
    """
    events = await fold(connection, scope)
    rows: dict[str, int] = {}
    await connection.execute(_DIFFERENCES)
    for table in TABLES:
        rows[table.name] = await connection.fetchval(naming(_COUNT, table=table.name))
        is_purged = table is OUTBOX_EVENTS
        await connection.execute(
            naming(_COMPARE, table=table.name).replace("{columns}", _compared(table)).replace("{unlogged}", UNLOGGED_ARRAY),
            scope.tenant_id,
            scope.since,
            scope.sample,
            is_purged,
            table.name,
        )
    for statement in (_STATES, _TEXTS):
        await connection.execute(statement, scope.tenant_id, scope.since, scope.sample)
    for table in (DATA_KEYS, SECRETS):
        await connection.execute(naming(_SEALED, table=table.name), scope.tenant_id, scope.since, scope.sample, table.name)
    await connection.execute(_QUEUE, scope.tenant_id)
    await connection.execute(_EXPLAIN)
    return events, rows


def _compared(table: Table) -> str:
    return ", ".join(quote(column.name) for column in table.columns if column.name not in UNLOGGED)


def _difference(row: asyncpg.Record) -> Difference:
    kept, folded = decode(row["kept"]) or {}, decode(row["folded"]) or {}
    columns = {
        name: (kept.get(name), folded.get(name))
        for name in sorted({*kept, *folded})
        if encode(kept.get(name)) != encode(folded.get(name))  # True equals 1 here, but not there
    }
    return Difference(row["table_name"], row["tenant_id"], row["id"], columns)
