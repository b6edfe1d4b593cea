"""Two walls, each enough alone: repositories name the tenant, and row level security holds whoever asks."""

import asyncio
import random
from uuid import uuid4

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.errors import InvalidInput, NotFound, TenantDenied
from persistence.models import Tenant, new_id
from persistence.repositories import RunRepository
from tests.helpers import ACTOR, request_effect, start_run


@pytest.fixture
async def other(plane: Plane) -> Tenant:
    return await plane.tenants.create("other", actor="system:test")


TABLES = (
    "tenants", "user_tenants", "signals", "runs", "steps", "tool_calls", "effects", "run_checkpoints", "orchestration_events", "outbox_events",
    "outbox_queue", "tenant_run_summary",
)  # fmt: skip


async def test_another_tenants_row_does_not_exist(plane: Plane, tenant: Tenant, other: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)
    async with plane.transaction(other.tenant_id, actor=ACTOR) as tx:
        assert await tx.runs.find(run.id) is None
        assert await tx.runs.count() == 0
        assert {event.tenant_id for event in (await tx.events.read())[0]} == {other.tenant_id}
        with pytest.raises(NotFound):
            await tx.runs.get(run.id)


async def test_another_tenants_row_cannot_be_changed_nor_pointed_at(plane: Plane, tenant: Tenant, other: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)
    disguised = run.model_copy(update={"tenant_id": other.tenant_id})
    with pytest.raises(NotFound, match=f"RUN {run.id} does not exist in this tenant"):
        async with plane.transaction(other.tenant_id, actor=ACTOR) as tx:
            tx.runs.complete(disguised)
    with pytest.raises(NotFound, match="run_id: there is no such run in this tenant"):
        async with plane.transaction(other.tenant_id, actor=ACTOR) as tx:
            tx.steps.start(disguised, step_type="theft")
    with pytest.raises(InvalidInput, match="belongs to another tenant"):
        async with plane.transaction(other.tenant_id, actor=ACTOR) as tx:
            tx.runs.complete(run)


async def test_a_user_who_does_not_belong_is_turned_away(plane: Plane, tenant: Tenant) -> None:
    stranger = uuid4()
    with pytest.raises(TenantDenied, match=str(stranger)):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR, user_id=stranger) as tx:
            tx.runs.start(run_type="test")
    with pytest.raises(TenantDenied):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR, user_id=stranger) as tx:
            await tx.runs.count()
    with pytest.raises(TenantDenied):
        async with plane.transaction(new_id(), actor=ACTOR) as tx:
            await tx.signals.receive("a", "1", "b")


async def test_the_first_wall_holds_without_the_second(
    plane: Plane, tenant: Tenant, other: Tenant, admin_dsn: str, admin: psycopg.Connection
) -> None:
    """A superuser's plane: row level security does not hold it, the repositories do."""
    run = await start_run(plane, tenant.tenant_id)
    async with Plane(dsn=admin_dsn) as unheld:
        assert admin.execute("SELECT count(*) FROM persistence.runs").fetchone() == (1,)
        async with unheld.transaction(other.tenant_id, actor=ACTOR) as tx:
            assert await tx.runs.count() == 0
            assert (await tx.runs.list()).items == []
            assert await tx.runs.find(run.id) is None
            assert {event.tenant_id for event in (await tx.events.read())[0]} == {other.tenant_id}


async def test_the_second_wall_holds_without_the_first(
    plane: Plane, tenant: Tenant, other: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repositories stripped of their tenant filter: row level security holds."""
    run = await start_run(plane, tenant.tenant_id)
    statement = "SELECT * FROM persistence.runs WHERE tenant_id = $1 OR true OR id = ANY ($2::uuid[])"
    monkeypatch.setattr("persistence.repositories.rows.by_ids", lambda _: statement)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert len(await RunRepository(tx).get_many([run.id])) == 1
    async with plane.transaction(other.tenant_id, actor=ACTOR) as tx:
        assert await RunRepository(tx).get_many([run.id]) == []


async def test_without_a_context_there_are_no_rows(plane: Plane, tenant: Tenant, dsn: str, admin: psycopg.Connection) -> None:
    await request_effect(plane, tenant.tenant_id)
    admin.execute("CREATE ROLE plain_service LOGIN")
    admin.execute("GRANT persistence_app TO plain_service")
    try:
        connection = await asyncpg.connect(dsn.replace("persistence_service", "plain_service"))
        for table in TABLES:
            if table == "tenant_run_summary":
                admin.execute("REFRESH MATERIALIZED VIEW persistence.run_summary")
            assert await connection.fetchval(f"SELECT count(*) FROM persistence.{table}") == 0, table
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM persistence.run_summary")
        await connection.close()
    finally:
        admin.execute("DROP OWNED BY plain_service")
        admin.execute("DROP ROLE plain_service")


async def test_the_projection_shows_a_tenant_its_own(plane: Plane, tenant: Tenant, other: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)
    async with plane.pool.acquire() as connection:
        await connection.execute("SELECT persistence.refresh_projections()")
    statement = "SELECT id, status FROM persistence.tenant_run_summary"
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert [tuple(row) for row in await tx.fetch(statement)] == [(run.id, "RUNNING")]
    async with plane.transaction(other.tenant_id, actor=ACTOR) as tx:
        assert await tx.fetch(statement) == []


async def test_every_table_is_held(admin: psycopg.Connection) -> None:
    unheld = admin.execute(
        """
        SELECT c.relname
        FROM pg_class AS c
        WHERE c.relnamespace = 'persistence'::regnamespace
          AND c.relkind IN ('r', 'p')
          AND c.relname <> 'schema_version'
          AND NOT (
            c.relrowsecurity AND c.relforcerowsecurity
            AND EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = 'tenant_isolation')
          )
        """
    ).fetchall()
    assert unheld == []


async def test_a_pool_of_8_serving_50_tenants_never_mixes_them(dsn: str, plane: Plane) -> None:
    tenants = [await plane.tenants.create(f"tenant {number}", actor="system:test") for number in range(50)]
    chance = random.Random(8)
    async with Plane(dsn=dsn, pool_max=8) as shared:

        async def serve(number: int) -> None:
            tenant = tenants[number]
            for turn in range(6):
                async with shared.transaction(tenant.tenant_id, actor=f"user:{number}") as tx:
                    if chance.random() < 0.5:
                        await tx.runs.count()
                    tx.runs.start(run_type=f"tenant {number}", input=turn)
                async with shared.transaction(tenant.tenant_id, actor=f"user:{number}") as tx:
                    page = await tx.runs.list()
                    assert {run.run_type for run in page.items} == {f"tenant {number}"}
                    assert {run.tenant_id for run in page.items} == {tenant.tenant_id}
                    assert len(page.items) == turn + 1

        await asyncio.gather(*(serve(number) for number in range(50)))
        async with shared.pool.acquire() as connection:
            left = await connection.fetchrow("SELECT current_setting('persistence.tenant_id', true) AS tenant")
            assert not left["tenant"]


@pytest.mark.parametrize("name", ["", " acme", "acme\n", "a\x07b", "x" * 201, "01a2032f-e242-77e3-b8af-16e189a5005e"])
async def test_a_tenant_has_a_name_that_can_be_said(plane: Plane, name: str) -> None:
    with pytest.raises(InvalidInput, match="name: "):
        await plane.tenants.create(name, actor="system:test")
    async with plane.pool.acquire() as connection:
        with pytest.raises(asyncpg.PostgresError, match=r"TENANT_CREATED|tenants_name_check|value too long"):
            await connection.execute("SELECT persistence.create_tenant($1, $2, $3, 'system:test')", new_id(), name, uuid4())
