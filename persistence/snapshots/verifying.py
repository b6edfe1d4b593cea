"""Proving a snapshot: read whole, its events folded again in a place of their own, and what comes of it compared with the rows that it has."""

import time
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from persistence.database.failures import DATABASE_ERRORS, translated
from persistence.database.quoting import naming
from persistence.encoding import encode
from persistence.errors import Unavailable
from persistence.gates.replay import UNLOGGED, shadow
from persistence.models import Snapshot
from persistence.plane import Plane
from persistence.snapshots.collecting import TABLES
from persistence.snapshots.loading import State, load
from persistence.snapshots.manifest import SnapshotRefused
from persistence.snapshots.store import SnapshotStore

_BATCH: Final = 1_000
_SHOWN: Final = 3

# Events, as a snapshot has them, folded into empty tables.
_FOLD: Final = """
SELECT persistence.fold_batch(
  array_agg(CASE WHEN t.is_current THEN e ELSE persistence.upcast_event(e) END ORDER BY e.sequence_number)
)
FROM jsonb_populate_recordset(NULL::persistence.orchestration_events, $1::text::jsonb) AS e
LEFT JOIN canon.event_types AS t USING (event_type, event_version)
"""

# Events whose digest is not over what they say.
_FORGED: Final = """
SELECT e.id
FROM jsonb_populate_recordset(NULL::persistence.orchestration_events, $1::text::jsonb) AS e
WHERE e.digest IS DISTINCT FROM persistence.event_digest(e)
LIMIT 1
"""

_ROWS: Final = "SELECT (to_jsonb(r) - 'tenant_id')::text AS document FROM pg_temp.{table} AS r WHERE r.tenant_id = $1"


async def verify(plane: Plane, snapshot: Snapshot, *, actor: str, user_id: UUID | None = None, source: str = "service") -> Snapshot:
    """Reads a snapshot and its chain whole, folds its events again, and compares; what came of it is recorded. Needs the auditor's login.

    Returns it VERIFIED, or REFUSED with the reason in error_details.
    """
    begun = time.monotonic()
    store = SnapshotStore.of(plane.settings, snapshot.tenant_id)
    refusal, findings = None, {}
    try:
        state = await load(store, snapshot, plane.vault)
        await _compare(plane, state)
        findings = {
            "events": len(state.events),
            "rows": {table: len(rows) for table, rows in state.rows.items() if rows},
            "seconds": round(time.monotonic() - begun, 3),
        }
    except SnapshotRefused as error:
        refusal = error
    async with plane.transaction(snapshot.tenant_id, actor=actor, user_id=user_id, source=source) as tx:
        present = await tx.snapshots.get(snapshot.id)
        if refusal is not None:
            return tx.snapshots.refuse(present, {"type": "SnapshotRefused", "message": refusal.message})
        return tx.snapshots.verify(present, findings)


async def _compare(plane: Plane, state: State) -> None:
    """Raises SnapshotRefused unless the events make the rows."""
    tenant_id, folder = state.manifest.tenant_id, state.manifest.folder
    try:
        connection = await asyncpg.connect(plane.server.audit_dsn)
    except DATABASE_ERRORS as error:
        raise translated(error) from error
    try:
        async with connection.transaction():
            await shadow(connection)
            log = state.log
            for place in range(0, len(log), _BATCH):
                batch = encode([{**event, "tenant_id": str(tenant_id)} for event in log[place : place + _BATCH]])
                forged = await connection.fetchval(_FORGED, batch)
                if forged is not None:
                    raise SnapshotRefused(f"snapshot {folder}: event {forged} does not have its digest")
                await connection.fetch(_FOLD, batch)
            for table in TABLES.values():
                folded: dict[str, Any] = {}
                for row in await connection.fetch(naming(_ROWS, table=table), tenant_id):
                    document = orjson.loads(row["document"])
                    folded[document["id"]] = document
                _check_table(folder, table, state.rows.get(table, {}), folded)
    except DATABASE_ERRORS as error:
        problem = translated(error)
        if isinstance(problem, Unavailable):
            raise problem from error
        raise SnapshotRefused(f"snapshot {folder}: its events cannot be folded: {problem.message}") from error
    finally:
        await connection.close()


def _check_table(folder: str, table: str, kept: dict[str, Any], folded: dict[str, Any]) -> None:
    different = []
    for row_id in sorted({*kept, *folded}):
        mine, theirs = ({k: v for k, v in side.get(row_id, {}).items() if k not in UNLOGGED} for side in (kept, folded))
        if mine != theirs:
            names = ", ".join(sorted(k for k in {*mine, *theirs} if mine.get(k) != theirs.get(k)))
            different.append(f"{row_id} ({names})" if mine and theirs else row_id)
    if different:
        raise SnapshotRefused(
            f"snapshot {folder}: {len(different)} rows of {table} are not what its events make: {'; '.join(different[:_SHOWN])}"
        )
