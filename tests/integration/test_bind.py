"""A domain row and its effect commit together, or not at all."""

import asyncpg
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from persistence import Plane
from persistence.errors import ConfigurationError, InvalidTransition
from persistence.models import Tenant
from tests.helpers import ACTOR, start_run


@pytest.fixture
def orders(admin: psycopg.Connection) -> None:
    admin.execute("CREATE TABLE public.orders (id integer PRIMARY KEY)")
    admin.execute("GRANT ALL ON public.orders TO persistence_service")


async def effects(plane: Plane, tenant: Tenant) -> int:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        return await tx.effects.count()


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("commits", [True, False])
async def test_in_an_asyncpg_transaction(plane: Plane, tenant: Tenant, dsn: str, commits: bool) -> None:
    run = await start_run(plane, tenant.tenant_id)
    connection = await asyncpg.connect(dsn)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("INSERT INTO public.orders VALUES (1)")
    async with plane.bind(connection, tenant.tenant_id, actor=ACTOR) as tx:
        known = await tx.runs.get(run.id)
        step = tx.steps.start(known, step_type="order")
        tx.effects.request(step, "TEST", spec={}, idempotency_key="order-1")
    assert await effects(plane, tenant) == 0
    await (transaction.commit() if commits else transaction.rollback())
    assert await effects(plane, tenant) == int(commits)
    assert await connection.fetchval("SELECT count(*) FROM public.orders") == int(commits)
    await connection.close()


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("commits", [True, False])
async def test_in_an_sqlalchemy_session(plane: Plane, tenant: Tenant, dsn: str, commits: bool) -> None:
    run = await start_run(plane, tenant.tenant_id)
    engine = create_async_engine(dsn.replace("postgresql", "postgresql+asyncpg", 1))
    async with AsyncSession(engine) as session:
        async with plane.bind(session, tenant.tenant_id, actor=ACTOR) as tx:
            tx.effects.request(run, "TEST", spec={}, idempotency_key="order-1")
        await session.execute(text("INSERT INTO public.orders VALUES (1)"))
        await (session.commit() if commits else session.rollback())
        assert await effects(plane, tenant) == int(commits)
        assert (await session.execute(text("SELECT count(*) FROM public.orders"))).scalar() == int(commits)
    await engine.dispose()


async def test_an_error_in_the_block_sends_nothing(plane: Plane, tenant: Tenant, dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    async with connection.transaction():
        with pytest.raises(InvalidTransition):
            async with plane.bind(connection, tenant.tenant_id, actor=ACTOR) as tx:
                run = tx.runs.start(run_type="test")
                tx.runs.resume(run)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.runs.count() == 0
    await connection.close()


async def test_a_connection_without_a_transaction_is_refused(plane: Plane, tenant: Tenant, dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    with pytest.raises(ConfigurationError, match="not in a transaction"):
        async with plane.bind(connection, tenant.tenant_id, actor=ACTOR) as tx:
            tx.runs.start(run_type="test")
    await connection.close()
    with pytest.raises(ConfigurationError, match="str is neither"):
        async with plane.bind("connection", tenant.tenant_id, actor=ACTOR) as tx:
            tx.runs.start(run_type="test")
