"""A run as it was: its events up to a moment, folded again by the database's own fold."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from persistence.database.failures import DATABASE_ERRORS, translated
from persistence.database.quoting import naming
from persistence.encoding import decode
from persistence.errors import ConfigurationError, NotFound
from persistence.gates.replay import check_auditor, shadow

PARTS: Final = ("steps", "tool_calls", "effects", "run_checkpoints")

# The tenant and correlation of a run; the correlation leads to all of its events by index.
_FIND: Final = (
    "SELECT r.tenant_id, r.correlation_id FROM persistence.runs AS r JOIN persistence.tenants AS t USING (tenant_id)"
    " WHERE r.id = $1 AND ($2::text IS NULL OR t.name = $2 OR t.tenant_id::text = lower($2))"
)

# An aggregate's events count up to the first that happened later: no event without those before it.
_FOLD: Final = """
SELECT persistence.fold_batch(array_agg(CASE WHEN t.is_current THEN e.log ELSE persistence.upcast_event(e.log) END ORDER BY (e.log).sequence_number))
FROM (
  SELECT log, log.event_type, log.event_version, max(log.occurred_at) OVER (PARTITION BY log.aggregate_id ORDER BY log.aggregate_version) AS latest
  FROM persistence.orchestration_events AS log
  WHERE log.tenant_id = $1
    AND log.correlation_id = $2
) AS e
LEFT JOIN canon.event_types AS t USING (event_type, event_version)
WHERE e.latest <= coalesce($3::timestamptz, 'infinity')
  AND (e.log).sequence_number <= coalesce($4::bigint, 9223372036854775807)
HAVING count(*) > 0
"""

_RUN: Final = "SELECT to_jsonb(r)::text FROM pg_temp.runs AS r WHERE r.id = $1"

_PART: Final = "SELECT to_jsonb(p)::text FROM pg_temp.{table} AS p WHERE p.run_id = $1 ORDER BY p.created_at, p.id"


@dataclass(frozen=True)
class RunState:
    """The run's row as it was, and the rows of what belonged to it, by table."""

    run: dict[str, Any]
    parts: dict[str, list[dict[str, Any]]]


async def run_at(
    connection: asyncpg.Connection,
    run_id: UUID,
    *,
    moment: datetime | None = None,
    sequence_number: int | None = None,
    tenant: str | None = None,
) -> RunState:
    """The state of a run after all that had happened by ``moment`` (occurred_at), or up to an event of the log.

    tenant: its name or id, where several have a run of that id. The connection's login needs persistence_auditor. Raises NotFound when there was no
    such run yet.
    """
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await check_auditor(connection)
            candidates = await connection.fetch(_FIND, run_id, tenant)
            if not candidates:
                raise NotFound(f"there is no run {run_id}", hint="check the id and the tenant")
            if len(candidates) > 1:
                raise ConfigurationError(f"{len(candidates)} tenants have a run {run_id}", hint="name the tenant")
            [found] = candidates
            await shadow(connection)
            await connection.fetch(_FOLD, found["tenant_id"], found["correlation_id"], moment, sequence_number)
            run = await connection.fetchval(_RUN, run_id)
            if run is None:
                raise NotFound(f"run {run_id} did not exist yet", hint="choose a later moment")
            parts = {part: [decode(row[0]) for row in await connection.fetch(naming(_PART, table=part), run_id)] for part in PARTS}
            return RunState(decode(run), parts)
    except DATABASE_ERRORS as error:
        raise translated(error) from error
