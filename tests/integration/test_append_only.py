"""What happened stays: nobody changes the log, and no service writes a table."""

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.models import Tenant
from persistence.repositories import EventRepository
from tests.helpers import request_effect, start_run

RUNTIME = (
    "signals",
    "runs",
    "steps",
    "tool_calls",
    "effects",
    "run_checkpoints",
    "orchestration_events",
    "outbox_events",
    "outbox_queue",
)
CHANGES = ("UPDATE {table} SET updated_at = now()", "DELETE FROM {table}", "TRUNCATE {table}")


@pytest.mark.parametrize("change", CHANGES)
async def test_the_owner_cannot_change_the_log(plane: Plane, tenant: Tenant, admin: psycopg.Connection, change: str) -> None:
    await start_run(plane, tenant.tenant_id)
    admin.execute("SET ROLE persistence_owner")
    with pytest.raises(psycopg.Error) as refused:
        admin.execute(change.format(table="persistence.orchestration_events"))
    assert refused.value.sqlstate == "PE011"
    assert "append-only" in str(refused.value)


@pytest.mark.parametrize("change", CHANGES)
async def test_the_superuser_cannot_either(plane: Plane, tenant: Tenant, admin: psycopg.Connection, change: str) -> None:
    await start_run(plane, tenant.tenant_id)
    with pytest.raises(psycopg.Error, match="append-only"):
        admin.execute(change.format(table="persistence.orchestration_events"))
    assert admin.execute("SELECT count(*) FROM persistence.orchestration_events WHERE event_type = 'RUN_STARTED'").fetchone() == (
        1,
    )


@pytest.mark.parametrize("table", RUNTIME)
@pytest.mark.parametrize("change", [*CHANGES, "INSERT INTO {table} DEFAULT VALUES"])
async def test_a_service_writes_no_table(plane: Plane, tenant: Tenant, table: str, change: str) -> None:
    await request_effect(plane, tenant.tenant_id)
    async with plane.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT persistence.enter_tenant($1, $2)", tenant.tenant_id, plane.settings.user_id)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(change.format(table=f"persistence.{table}"))


@pytest.mark.parametrize("event_type", ["EFFECT_EXECUTED", "EFFECT_DEAD_LETTERED", "EFFECT_REQUEUED"])
async def test_a_service_cannot_claim_a_delivery_that_was_not(plane: Plane, tenant: Tenant, event_type: str) -> None:
    effect = await request_effect(plane, tenant.tenant_id)
    event = {
        "id": str(effect.correlation_id), "event_type": event_type, "event_version": 1, "aggregate_type": "EFFECT",
        "aggregate_id": str(effect.id), "aggregate_version": 2, "event_data": {"retry_count": 0}, "actor": "user:liar", "source": "test",
        "correlation_id": str(effect.correlation_id),
    }  # fmt: skip
    async with plane.pool.acquire() as connection:
        with pytest.raises(asyncpg.PostgresError, match="is written by the") as refused:
            await connection.fetch(
                "SELECT * FROM persistence.append_events($1, $2, jsonb_build_array($3::text::jsonb))",
                tenant.tenant_id, plane.settings.user_id, __import__("json").dumps(event),
            )  # fmt: skip
    assert refused.value.sqlstate == "PE012"


async def test_functions_are_not_open_to_everybody(admin: psycopg.Connection) -> None:
    exposed = admin.execute(
        """
        SELECT p.oid::regprocedure::text
        FROM pg_proc AS p
        WHERE p.pronamespace = 'persistence'::regnamespace
          AND has_function_privilege('public', p.oid, 'EXECUTE')
        """
    ).fetchall()
    assert exposed == []
    unpinned = admin.execute(
        """
        SELECT p.oid::regprocedure::text
        FROM pg_proc AS p
        WHERE p.pronamespace = 'persistence'::regnamespace
          AND p.prosecdef
          AND NOT coalesce(p.proconfig::text, '') LIKE '%search_path=persistence, pg_temp%'
        """
    ).fetchall()
    assert unpinned == []


def test_the_event_repository_appends_and_reads_and_nothing_else() -> None:
    offered = {name for name in dir(EventRepository) if not name.startswith("_") and callable(getattr(EventRepository, name))}
    assert offered - {"model"} == {
        "all",
        "append",
        "count",
        "find",
        "get",
        "get_many",
        "list",
        "newest",
        "of_aggregate",
        "of_correlations",
        "read",
        "read_each",
        "read_rows",
    }
