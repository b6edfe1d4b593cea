"""Replay finds every difference between log and state."""

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.errors import PermissionDenied
from persistence.gates.replay import ReplayReport, verify
from persistence.models import Tenant
from persistence.outbox import Delivery
from persistence.sample import play
from tests.helpers import request_effect, start_run, worker_with


async def replayed(dsn: str) -> ReplayReport:
    connection = await asyncpg.connect(dsn)
    try:
        return await verify(connection)
    finally:
        await connection.close()


async def succeed(_: Delivery) -> None:
    return None


@pytest.fixture
async def history(plane: Plane, tenant: Tenant) -> None:
    await play(plane, tenant.tenant_id)
    other = await plane.tenants.create("other", actor="system:test")
    await request_effect(plane, other.tenant_id)
    await worker_with(succeed, "SAMPLE_SEND_OFFER").drain(plane)
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        tx.checkpoints.save(tx.runs.start(run_type="saved"), {"n": 1})


@pytest.mark.usefixtures("history")
async def test_an_untouched_database_has_no_difference(audit_dsn: str) -> None:
    report = await replayed(audit_dsn)
    assert report.differences == []
    assert report.events > 50
    assert report.rows["effects"] == 9


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    ("damage", "table", "column"),
    [
        ("UPDATE runs SET status = 'FAILED' WHERE status = 'COMPLETED'", "runs", "status"),
        ("UPDATE steps SET output_result = '{\"approved\": 1}' WHERE step_type = 'assess'", "steps", "output_result"),
        ("UPDATE signals SET payload = payload || '{\"amount\": 1}'", "signals", "payload"),
        ("UPDATE tool_calls SET completed_at = completed_at + interval '1 microsecond'", "tool_calls", "completed_at"),
        ("UPDATE effects SET retry_count = 7", "effects", "retry_count"),
        ("DELETE FROM tool_calls", "tool_calls", "tool_name"),
        ("UPDATE run_checkpoints SET state = '{\"n\": 2}'", "run_checkpoints", "digest of state"),
        ("DELETE FROM outbox_queue", "outbox_queue", "queued"),
        ("UPDATE outbox_events SET version = version + 1, last_event_id = gen_random_uuid()", "outbox_events", "version"),
        (
            "ALTER TABLE orchestration_events DISABLE TRIGGER append_only;"
            "UPDATE orchestration_events SET event_data = event_data || '{\"run_type\": \"forged\"}' WHERE event_type = 'RUN_STARTED'",
            "runs",
            "run_type",
        ),
    ],
)
async def test_damage_is_found(audit_dsn: str, admin: psycopg.Connection, damage: str, table: str, column: str) -> None:
    admin.execute(damage)
    report = await replayed(audit_dsn)
    assert report.different > 0
    assert {difference.table for difference in report.differences} == {table}
    assert column in report.differences[0].columns
    assert table in str(report.differences[0])


async def test_a_login_that_sees_one_tenant_at_a_time_proves_nothing(dsn: str, plane: Plane, tenant: Tenant) -> None:
    await start_run(plane, tenant.tenant_id)
    with pytest.raises(PermissionDenied, match="does not see all tenants"):
        await replayed(dsn)
