"""Tables come back from the log, as they were."""

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.errors import ConfigurationError, NotFound
from persistence.gates.rebuild import NAMES, Rebuilt, rebuild
from persistence.models import Tenant
from tests.gates.conftest import write_history
from tests.gates.test_replay import replayed


@pytest.fixture
async def written(plane: Plane) -> None:
    await write_history(plane)


async def rebuilt(admin_dsn: str, *names: str) -> dict[str, Rebuilt]:
    connection = await asyncpg.connect(admin_dsn)
    try:
        return {table.table: table for table in await rebuild(connection, names)}
    finally:
        await connection.close()


@pytest.mark.usefixtures("written")
async def test_lost_forged_and_changed_rows_are_put_right(admin: psycopg.Connection, admin_dsn: str, audit_dsn: str) -> None:
    admin.execute("SET session_replication_role = replica")
    [(calls,)] = admin.execute("SELECT count(*) FROM tool_calls").fetchall()
    [(waiting,)] = admin.execute("SELECT count(*) FROM outbox_queue").fetchall()
    admin.execute("DELETE FROM tool_calls")
    admin.execute("UPDATE runs SET status = 'COMPLETED', output_result = '{\"forged\": true}' WHERE status = 'FAILED'")
    admin.execute("UPDATE outbox_events SET payload = '{}'")
    admin.execute(
        "INSERT INTO signals SELECT (jsonb_populate_record(s, jsonb_build_object('id', gen_random_uuid(), 'source_id', 'forged'))).* "
        "FROM signals AS s LIMIT 1"
    )
    admin.execute("DELETE FROM outbox_queue")
    assert (await replayed(audit_dsn)).different > 0
    done = await rebuilt(admin_dsn, *NAMES)
    assert done["tool_calls"] == Rebuilt("tool_calls", 0, 0, calls)
    assert done["runs"] == Rebuilt("runs", 0, 1, 0)
    assert done["signals"] == Rebuilt("signals", 1, 0, 0)
    assert done["outbox_events"].corrected > 0
    assert done["outbox_queue"] == Rebuilt("outbox_queue", 0, 0, waiting)
    assert (await replayed(audit_dsn)).different == 0


@pytest.mark.usefixtures("written")
async def test_a_truncated_world_comes_back_but_for_saved_states(admin: psycopg.Connection, admin_dsn: str, audit_dsn: str) -> None:
    admin.execute(
        "TRUNCATE signals, runs, steps, tool_calls, effects, outbox_events, outbox_queue, run_queue, run_checkpoints, memories, memory_recalls, memory_vectors"
    )
    await rebuilt(admin_dsn, *NAMES)
    report = await replayed(audit_dsn)
    assert {difference.table for difference in report.differences} == {"run_checkpoints", "memories"}
    assert {column for difference in report.differences for column in difference.columns} == {
        "digest of state",
        "digest of content",
    }


@pytest.mark.usefixtures("written")
async def test_a_failed_rebuild_leaves_the_walls_up(admin: psycopg.Connection, admin_dsn: str) -> None:
    admin.execute("SET session_replication_role = replica")
    admin.execute("UPDATE steps SET run_id = (SELECT gen_random_uuid())")
    admin.execute(
        "INSERT INTO runs SELECT (jsonb_populate_record(r, jsonb_build_object('id', s.run_id))).* FROM runs AS r, steps AS s LIMIT 1"
    )
    with pytest.raises(NotFound):  # forged runs that forged steps point at
        await rebuilt(admin_dsn, "runs")
    [(forced,)] = admin.execute("SELECT relforcerowsecurity FROM pg_class WHERE oid = 'persistence.runs'::regclass").fetchall()
    assert forced
    assert admin.execute("SELECT pg_has_role('persistence_owner', 'persistence_auditor', 'USAGE')").fetchone() == (False,)
    await rebuilt(admin_dsn, "runs", "steps")


async def test_only_tables_of_the_fold_can_be_rebuilt(admin_dsn: str, tenant: Tenant) -> None:
    with pytest.raises(ConfigurationError, match="'tenants' is no table that can be restored"):
        await rebuilt(admin_dsn, "tenants")
