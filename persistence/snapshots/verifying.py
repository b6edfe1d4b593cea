"""Proving a snapshot: read whole, its events folded again in a place of their own, and what comes of it compared with the rows that it has."""

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final
from uuid import UUID

import asyncpg

from persistence.database.failures import DATABASE_ERRORS, translated
from persistence.database.quoting import naming
from persistence.encoding import encode
from persistence.errors import Unavailable
from persistence.gates.replay import shadow
from persistence.models import Position, Snapshot
from persistence.plane import Plane
from persistence.snapshots.collecting import TABLES
from persistence.snapshots.loading import State, load
from persistence.snapshots.manifest import SnapshotAway, SnapshotRefused
from persistence.snapshots.places import reading

_BATCH: Final = 1_000
_UNLOGGED: Final = {"run_checkpoints": ("state",), "memories": ("content", "words")}

# Where the lines of a snapshot are compared: as PostgreSQL reads them, so that nothing is lost on the way through this process.
_TABLES: Final = """
CREATE TEMP TABLE snapshot_events (sequence_number bigint NOT NULL, event persistence.orchestration_events NOT NULL, is_written boolean NOT NULL)
ON COMMIT DROP;
CREATE TEMP TABLE snapshot_rows (
  relation text NOT NULL, id uuid NOT NULL, document jsonb NOT NULL, is_written boolean NOT NULL, PRIMARY KEY (relation, id)
) ON COMMIT DROP
"""

# Lines come as PostgreSQL wrote them: no key twice, none besides.
_ADD_EVENTS: Final = """
INSERT INTO pg_temp.snapshot_events (sequence_number, event, is_written)
SELECT e.sequence_number, e, l.line = (to_jsonb(e) - 'tenant_id')::text
FROM unnest($1::text[]) AS l (line)
CROSS JOIN LATERAL jsonb_populate_record(
  NULL::persistence.orchestration_events, l.line::jsonb || jsonb_build_object('tenant_id', $2::uuid)
) AS e
"""

_ADD_ROWS: Final = """
INSERT INTO pg_temp.snapshot_rows (relation, id, document, is_written)
SELECT $1, (l.line::jsonb ->> 'id')::uuid, l.line::jsonb, l.line = l.line::jsonb::text
FROM unnest($2::text[]) AS l (line)
"""

# Events whose digest is not over what they say.
_FORGED: Final = """
SELECT (s.event).id
FROM pg_temp.snapshot_events AS s
WHERE (s.event).digest IS DISTINCT FROM persistence.event_digest(s.event)
LIMIT 1
"""

# What was written by somebody else than PostgreSQL.
_WRITTEN: Final = """
SELECT 'event ' || (s.event).id FROM pg_temp.snapshot_events AS s WHERE NOT s.is_written
UNION ALL
SELECT 'row ' || s.id FROM pg_temp.snapshot_rows AS s WHERE NOT s.is_written
LIMIT 1
"""

# Events that the log does not have, or has otherwise.
_UNKNOWN: Final = """
SELECT count(*)
FROM pg_temp.snapshot_events AS s
LEFT JOIN persistence.orchestration_events AS e ON e.tenant_id = $1 AND e.id = (s.event).id
WHERE e.digest IS DISTINCT FROM (s.event).digest
"""

# Events that the log had by then and that it ought to have: of the tenant, of the conversation, of the stories in which the agent had a part.
_MISSING: Final = """
SELECT count(*)
FROM persistence.orchestration_events AS e
WHERE e.tenant_id = $1
  AND (e.transaction_id, e.sequence_number) <= ($2::text::xid8, $3)
  AND ($4::uuid IS NULL OR e.correlation_id = $4)
  AND ($5::text IS NULL OR e.correlation_id IN (
    SELECT a.correlation_id
    FROM persistence.orchestration_events AS a
    WHERE a.tenant_id = $1
      AND a.actor = $5
      AND (a.transaction_id, a.sequence_number) <= ($2::text::xid8, $3)
  ))
  AND NOT EXISTS (SELECT FROM pg_temp.snapshot_events AS s WHERE (s.event).id = e.id)
"""

# Events, as a snapshot has them, folded into empty tables: so many, after a number. Returns the last number.
_FOLD: Final = """
WITH page AS MATERIALIZED (
  SELECT s.sequence_number, CASE WHEN t.is_current THEN s.event ELSE persistence.upcast_event(s.event) END AS event
  FROM pg_temp.snapshot_events AS s
  LEFT JOIN canon.event_types AS t ON t.event_type = (s.event).event_type AND t.event_version = (s.event).event_version
  WHERE s.sequence_number > $1
  ORDER BY s.sequence_number
  LIMIT $2
)
SELECT (SELECT max(p.sequence_number) FROM page AS p), persistence.fold_batch(ARRAY(SELECT p.event FROM page AS p ORDER BY p.sequence_number))
"""

# Rows that are not what the events make: at most so many, and how many in all.
_DIFFERENT: Final = """
SELECT
  coalesce(k.id, f.id) AS id,
  count(*) OVER () AS number,
  CASE WHEN k.id IS NULL THEN 'is not there' WHEN f.id IS NULL THEN 'comes of no event' ELSE (
    SELECT string_agg(n.name, ', ' ORDER BY n.name)
    FROM (SELECT jsonb_object_keys(k.document || f.document)) AS n (name)
    WHERE k.document -> n.name IS DISTINCT FROM f.document -> n.name
  ) END AS detail
FROM (
  SELECT s.id, s.document - $2::text[] AS document FROM pg_temp.snapshot_rows AS s WHERE s.relation = $3
) AS k
FULL JOIN (
  SELECT r.id, to_jsonb(r) - 'tenant_id' - $2::text[] AS document FROM pg_temp.{table} AS r WHERE r.tenant_id = $1
) AS f ON f.id = k.id
WHERE k.document IS DISTINCT FROM f.document
ORDER BY 1
LIMIT 3
"""

# Saved states that do not have the digest and the size that the log recorded.
_STATES: Final = """
SELECT s.id
FROM pg_temp.snapshot_rows AS s
WHERE s.relation = 'run_checkpoints'
  AND CASE s.document ->> 'status'
    WHEN 'SAVED' THEN encode(sha256(convert_to(s.document ->> 'state', 'UTF8')), 'hex') IS DISTINCT FROM s.document ->> 'digest'
      OR octet_length(s.document ->> 'state') <> (s.document ->> 'size_bytes')::bigint
    ELSE s.document ->> 'state' IS NOT NULL
  END
LIMIT 1
"""

# Memories whose texts do not have them.
_TEXTS: Final = """
SELECT s.id
FROM pg_temp.snapshot_rows AS s
WHERE s.relation = 'memories'
  AND CASE s.document ->> 'status'
    WHEN 'FORGOTTEN' THEN s.document ->> 'content' IS NOT NULL
    ELSE encode(sha256(convert_to(s.document ->> 'content', 'UTF8')), 'hex') IS DISTINCT FROM s.document ->> 'digest'
  END
LIMIT 1
"""

# Records what came of it.
_RECORD: Final = "SELECT persistence.record_snapshot_proof($1, $2, $3, $4::text::jsonb, $5)"


async def verify(plane: Plane, snapshot: Snapshot, *, actor: str, user_id: UUID | None = None, source: str = "service") -> Snapshot:
    """Reads a snapshot and its chain whole, folds its events again, and compares; what came of it is recorded. Needs the auditor's login.

    Returns it VERIFIED, or REFUSED with the reason in error_details. Raises VaultLocked, and SnapshotAway where its files cannot be reached: then
    nothing is recorded.
    """
    circumstances = {"actor": actor, "user_id": user_id, "source": source}
    async with reading(plane, snapshot.tenant_id):
        return await proven(plane, snapshot, circumstances)


async def proven(plane: Plane, snapshot: Snapshot, circumstances: Mapping[str, Any], state: State | None = None) -> Snapshot:
    """The same, as part of a reading. state: what was read of it already."""
    begun = time.monotonic()
    event_type: str
    data: dict[str, Any]
    try:
        connection = await asyncpg.connect(plane.server.audit_dsn)
    except DATABASE_ERRORS as error:
        raise translated(error) from error
    try:
        try:
            state = state or await load(plane, snapshot, circumstances)
            await _compare(connection, state)
            findings = {
                "events": len(state.events),
                "rows": {table: len(rows) for table, rows in state.rows.items() if rows},
                "seconds": round(time.monotonic() - begun, 3),
            }
            event_type, data = "SNAPSHOT_VERIFIED", {"findings": findings}
        except SnapshotAway:
            raise
        except SnapshotRefused as refusal:
            event_type, data = "SNAPSHOT_REFUSED", {"error_details": {"type": "SnapshotRefused", "message": refusal.message[:4000]}}
        await connection.execute(_RECORD, snapshot.tenant_id, snapshot.id, event_type, encode(data), circumstances["actor"])
    except DATABASE_ERRORS as error:
        raise translated(error) from error
    finally:
        await connection.close()
    async with plane.transaction(snapshot.tenant_id, **circumstances) as tx:
        return await tx.snapshots.get(snapshot.id)


async def _compare(connection: asyncpg.Connection, state: State) -> None:
    """Raises SnapshotRefused unless the events make the rows."""
    tenant_id, folder = state.manifest.tenant_id, state.manifest.folder
    try:
        async with connection.transaction():
            await shadow(connection)
            await connection.execute(_TABLES)
            for page in _pages(state.events.values()):
                await connection.execute(_ADD_EVENTS, page, tenant_id)
            forged = await connection.fetchval(_FORGED)
            if forged is not None:
                raise SnapshotRefused(f"snapshot {folder}: event {forged} does not have its digest")
            await _check_log(connection, state)
            last = -1
            for _ in range(0, len(state.events), _BATCH):
                last = await connection.fetchval(_FOLD, last, _BATCH)
            for table in TABLES.values():
                for page in _pages(state.rows.get(table, {}).values()):
                    await connection.execute(_ADD_ROWS, table, page)
                different = await connection.fetch(naming(_DIFFERENT, table=table), tenant_id, _UNLOGGED.get(table, ()), table)
                if different:
                    shown = "; ".join(f"{item['id']} ({item['detail']})" for item in different)
                    raise SnapshotRefused(
                        f"snapshot {folder}: {different[0]['number']} rows of {table} are not what its events make: {shown}"
                    )
            written = await connection.fetchval(_WRITTEN)
            if written is not None:
                raise SnapshotRefused(f"snapshot {folder}: {written} is not as PostgreSQL writes it")
            for statement, what in ((_STATES, "the saved state of checkpoint"), (_TEXTS, "the text of memory")):
                changed = await connection.fetchval(statement)
                if changed is not None:
                    raise SnapshotRefused(f"snapshot {folder}: {what} {changed} does not have its digest")
    except DATABASE_ERRORS as error:
        problem = translated(error)
        if isinstance(problem, Unavailable):
            raise problem from error
        raise SnapshotRefused(f"snapshot {folder}: its events cannot be folded: {problem.message}") from error


async def _check_log(connection: asyncpg.Connection, state: State) -> None:
    """Holds the events to the log: none is made up, none is left out."""
    manifest, position = state.manifest, Position.parse(state.manifest.position)
    unknown = await connection.fetchval(_UNKNOWN, manifest.tenant_id)
    if unknown:
        raise SnapshotRefused(
            f"snapshot {manifest.folder}: {unknown} of its events are not in this database's log, or are others there",
            hint="the database was restored from an older backup, or somebody made them up",
        )
    missing = await connection.fetchval(
        _MISSING,
        manifest.tenant_id,
        str(position.transaction_id),
        position.sequence_number,
        UUID(manifest.subject) if manifest.kind == "conversation" and manifest.subject else None,
        manifest.subject if manifest.kind == "agent" else None,
    )
    if missing:
        raise SnapshotRefused(f"snapshot {manifest.folder}: {missing} events are left out that were in the log by then")


def _pages(lines: Iterable[bytes]) -> Iterable[Sequence[str]]:
    rest = iter(lines)
    while page := [line.decode() for line in islice(rest, _BATCH)]:
        yield page
