"""Sessions have time limits; behind a transaction-mode pooler they have no state."""

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.errors import PersistenceError
from persistence.models import Tenant
from tests.helpers import ACTOR, start_run

LIMITS = """
SELECT
  current_setting('statement_timeout') AS statement,
  current_setting('lock_timeout') AS lock,
  current_setting('idle_in_transaction_session_timeout') AS idle
"""


async def test_sessions_have_time_limits_and_the_schema_on_their_path(plane: Plane, tenant: Tenant) -> None:
    await start_run(plane, tenant.tenant_id)
    async with plane.pool.acquire() as connection:
        assert tuple(await connection.fetchrow(LIMITS)) == ("30s", "10s", "1min")
        assert await connection.fetchval("SHOW search_path") == "persistence"


async def test_transactions_are_read_committed_whatever_the_database_says(
    dsn: str, tenant: Tenant, admin: psycopg.Connection
) -> None:
    admin.execute(f"ALTER DATABASE {admin.info.dbname} SET default_transaction_isolation = 'repeatable read'")
    async with Plane(dsn=dsn) as plane:
        run = await start_run(plane, tenant.tenant_id)
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            assert tx.runs.complete(await tx.runs.get(run.id)).status == "COMPLETED"


async def test_behind_a_transaction_pooler_limits_end_with_the_transaction(dsn: str, tenant: Tenant) -> None:
    async with Plane(dsn=dsn, transaction_pooler=True, statement_timeout=7) as plane:
        run = await start_run(plane, tenant.tenant_id)
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            assert (await tx.runs.get(run.id)).status == "RUNNING"
            assert (await tx.fetch(LIMITS))[0]["statement"] == "7s"
            assert await tx.fetch("SELECT FROM pg_prepared_statements") == []
        async with plane.pool.acquire() as connection:
            assert (await connection.fetchrow(LIMITS))["statement"] == "0"
            assert not await connection.fetchval("SELECT current_setting('persistence.tenant_id', true)")


async def test_a_statement_that_takes_too_long_is_ended(dsn: str, tenant: Tenant) -> None:
    async with Plane(dsn=dsn, statement_timeout=1) as plane:
        with pytest.raises(PersistenceError, match="longer than statement_timeout"):
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                await tx.fetch("SELECT pg_sleep(60)")
        await start_run(plane, tenant.tenant_id)


async def test_a_lock_that_is_not_given_up_is_not_waited_for(dsn: str, admin_dsn: str, tenant: Tenant) -> None:
    holder = await asyncpg.connect(admin_dsn)
    async with Plane(dsn=dsn, lock_timeout=0.05, retry_for=0.1) as plane, holder.transaction():
        await holder.execute("LOCK TABLE persistence.runs")
        with pytest.raises(PersistenceError, match="longer than lock_timeout"):
            await start_run(plane, tenant.tenant_id)
    await holder.close()
