"""Replay: folding the whole log again, and comparing what comes out with the runtime tables.

The fold is the database's own, the very functions of the write path: only the tables they find first are others, empty and temporary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import asyncpg
from sqlalchemy import Table

from persistence.database.failures import DATABASE_ERRORS, translated
from persistence.database.quoting import naming
from persistence.database.tables import EFFECTS, OUTBOX_EVENTS, RUN_CHECKPOINTS, RUNS, SIGNALS, STEPS, TOOL_CALLS
from persistence.encoding import decode, encode
from persistence.errors import PermissionDenied

TABLES: Final[tuple[Table, ...]] = (SIGNALS, RUNS, STEPS, TOOL_CALLS, EFFECTS, OUTBOX_EVENTS, RUN_CHECKPOINTS)
_SHOWN: Final = 20

# Whether row level security lets this login see everything: a comparison of nothing with nothing would prove nothing.
_MAY_AUDIT: Final = """
SELECT pg_has_role(current_user, 'persistence_auditor', 'USAGE') OR rolsuper OR rolbypassrls
FROM pg_roles
WHERE rolname = current_user
"""

_SETTINGS: Final = """
SET LOCAL search_path = pg_temp, persistence;
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL work_mem = '128MB';
"""

# An empty table like the one of that name, with its keys and without its foreign keys.
_EMPTY_COPY: Final = "CREATE TEMPORARY TABLE {table} (LIKE persistence.{table} INCLUDING DEFAULTS INCLUDING INDEXES) ON COMMIT DROP"

_ANALYZE: Final = "ANALYZE pg_temp.{table}"

_COUNT: Final = "SELECT count(*) FROM pg_temp.{table}"

_FOLD: Final = "SELECT persistence.fold_log($1)"

# Rows that differ, or stand on one side only. A checkpoint's state is not in the log: its digest is compared instead. A purged record
# of a delivered effect is missing by right.
_COMPARE: Final = """
SELECT
  coalesce(kept.tenant_id, folded.tenant_id) AS tenant_id,
  coalesce(kept.id, folded.id) AS id,
  (to_jsonb(kept) - 'state')::text AS kept,
  (to_jsonb(folded) - 'state')::text AS folded
FROM persistence.{table} AS kept
FULL JOIN pg_temp.{table} AS folded ON folded.tenant_id = kept.tenant_id AND folded.id = kept.id
WHERE ($1::uuid IS NULL OR coalesce(kept.tenant_id, folded.tenant_id) = $1)
  AND to_jsonb(kept) - 'state' IS DISTINCT FROM to_jsonb(folded) - 'state'
  AND NOT (kept.id IS NULL AND $2::boolean AND folded.status = 'PUBLISHED')
"""

_STATES: Final = """
SELECT
  c.tenant_id, c.id,
  jsonb_build_object('digest of state', encode(sha256(convert_to(c.state::text, 'UTF8')), 'hex'))::text AS kept,
  jsonb_build_object('digest of state', c.digest)::text AS folded
FROM persistence.run_checkpoints AS c
WHERE ($1::uuid IS NULL OR c.tenant_id = $1)
  AND CASE c.status WHEN 'SAVED' THEN encode(sha256(convert_to(c.state::text, 'UTF8')), 'hex') IS DISTINCT FROM c.digest ELSE c.state IS NOT NULL END
"""

_QUEUE: Final = """
SELECT
  coalesce(o.tenant_id, q.tenant_id) AS tenant_id,
  coalesce(o.id, q.id) AS id,
  CASE WHEN q.id IS NOT NULL THEN '{"queued": true}' END AS kept,
  CASE WHEN o.id IS NOT NULL THEN '{"queued": true}' END AS folded
FROM persistence.outbox_queue AS q
FULL JOIN (SELECT o.* FROM persistence.outbox_events AS o WHERE o.status = 'PENDING') AS o ON o.tenant_id = q.tenant_id AND o.id = q.id
WHERE ($1::uuid IS NULL OR coalesce(o.tenant_id, q.tenant_id) = $1)
  AND (o.id IS NULL OR q.id IS NULL)
"""


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
            if not await connection.fetchval(_MAY_AUDIT):
                raise PermissionDenied("this login does not see all tenants", hint="replay with one that has persistence_auditor")
            await connection.execute(_SETTINGS)
            for table in TABLES:
                await connection.execute(naming(_EMPTY_COPY, table=table.name))
            report.events = await connection.fetchval(_FOLD, tenant_id)
            for table in TABLES:
                await connection.execute(naming(_ANALYZE, table=table.name))
                report.rows[table.name] = await connection.fetchval(naming(_COUNT, table=table.name))
                await _collect(
                    report, connection, table.name, naming(_COMPARE, table=table.name), tenant_id, table is OUTBOX_EVENTS
                )
            await _collect(report, connection, "run_checkpoints", _STATES, tenant_id)
            await _collect(report, connection, "outbox_queue", _QUEUE, tenant_id)
    except DATABASE_ERRORS as error:
        raise translated(error) from error
    return report


async def _collect(report: ReplayReport, connection: asyncpg.Connection, table: str, statement: str, *arguments: Any) -> None:
    async for row in connection.cursor(statement, *arguments):
        report.different += 1
        if len(report.differences) < _SHOWN:
            kept, folded = decode(row["kept"]) or {}, decode(row["folded"]) or {}
            columns = {
                name: (kept.get(name), folded.get(name))
                for name in sorted({*kept, *folded})
                if encode(kept.get(name)) != encode(folded.get(name))  # True equals 1 here, but not there
            }
            report.differences.append(Difference(table, row["tenant_id"], row["id"], columns))
