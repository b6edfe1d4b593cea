"""What is lawful stays green however it came about; what is not turns red however it is hidden."""

import asyncio

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.gates.checks import select, shipped_suites
from persistence.gates.fit import Runner
from persistence.gates.rebuild import rebuild
from persistence.models import Tenant, new_id
from persistence.settings import Settings
from tests.gates.conftest import write_history
from tests.gates.test_replay import replayed
from tests.helpers import ACTOR, start_run


async def red(audit_dsn: str, dsn: str, *names: str) -> set[str]:
    outcomes = await Runner(audit_dsn, dsn, Settings()).run(select(shipped_suites(), names))
    assert [outcome.problem for outcome in outcomes if outcome.verdict == "failed"] == []
    return {outcome.check.name for outcome in outcomes if outcome.verdict == "violated"}


async def test_a_change_by_a_transaction_that_began_before_what_it_changes(
    plane: Plane, tenant: Tenant, audit_dsn: str, dsn: str
) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as early:
        await early.runs.count()
        run = await start_run(plane, tenant.tenant_id)
        early.runs.complete(await early.runs.get(run.id))
    assert await red(audit_dsn, dsn) == set()


async def test_a_refresh_while_a_run_is_being_completed(plane: Plane, tenant: Tenant, audit_dsn: str, dsn: str) -> None:
    run = await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.runs.complete(await tx.runs.get(run.id))
        await tx.flush()
        async with plane.pool.acquire() as connection:
            await connection.execute("SELECT persistence.refresh_projections()")
    assert await red(audit_dsn, dsn) == set()


async def test_a_client_that_speaks_another_encoding(plane: Plane, admin: psycopg.Connection, audit_dsn: str, dsn: str) -> None:
    admin.execute("SET client_encoding = 'LATIN1'")
    admin.execute("SELECT persistence.create_tenant(%s, 'Müller', %s, 'user:jörg')", (new_id(), new_id()))
    assert await red(audit_dsn, dsn, "event_digests", "memberships_recorded") == set()
    admin.execute("SET client_encoding = 'UTF8'")
    admin.execute("SELECT persistence.create_tenant(%s, '5 €', %s, 'user:jörg')", (new_id(), new_id()))
    assert await red(audit_dsn, dsn, "event_digests") == set()


async def test_a_member_may_leave_and_come_back(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection, audit_dsn: str, dsn: str
) -> None:
    user = new_id()
    assert await plane.tenants.add_user(tenant.tenant_id, user, actor=ACTOR)
    assert await plane.tenants.remove_user(tenant.tenant_id, user, actor=ACTOR)
    assert not await plane.tenants.remove_user(tenant.tenant_id, user, actor=ACTOR)
    assert await red(audit_dsn, dsn, "FIT-DATA-QUALITY-001") == set()
    assert await plane.tenants.add_user(tenant.tenant_id, user, actor=ACTOR)
    assert await red(audit_dsn, dsn, "FIT-DATA-QUALITY-001") == set()
    admin.execute("DELETE FROM user_tenants WHERE user_id = %s", (user,))
    assert await red(audit_dsn, dsn, "memberships_recorded") == {"memberships_recorded"}


async def test_a_service_with_one_role_only(plane: Plane, admin: psycopg.Connection, audit_dsn: str, dsn: str) -> None:
    admin.execute("CREATE ROLE only_app LOGIN IN ROLE persistence_app")
    try:
        assert await red(audit_dsn, dsn.replace("persistence_service@", "only_app@"), "FIT-PERSISTENCE-ABSTRACTION-001") == set()
    finally:
        admin.execute("DROP ROLE only_app")


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (
            "CREATE OR REPLACE FUNCTION in_sample(aggregate_id uuid, percent double precision) RETURNS boolean "
            "LANGUAGE sql IMMUTABLE RETURN false",
            "functions_as_shipped",
        ),
        ("ALTER FUNCTION settle_outbox SET synchronous_commit = off", "functions_as_shipped"),
        ("ALTER FUNCTION enter_tenant SECURITY DEFINER", "functions_as_shipped"),
        ("GRANT SELECT (tenant_id, run_type) ON run_summary TO persistence_app", "materialized_views_closed"),
        ("GRANT SELECT (payload) ON signals TO PUBLIC", "public_grants"),
        ("GRANT SELECT (payload) ON signals TO persistence_app WITH GRANT OPTION", "grant_options"),
        ("GRANT SELECT (payload) ON signals TO persistence_service", "grants_to_logins"),
        ("CREATE POLICY by_tenant ON runs FOR SELECT USING (tenant_id = current_tenant_id())", "stranger_sees_nothing"),
        ("CREATE TRIGGER append_only BEFORE UPDATE ON runs EXECUTE FUNCTION refuse_change()", "foreign_triggers"),
        (
            "DROP TRIGGER append_only ON orchestration_events;"
            "CREATE TRIGGER append_only BEFORE UPDATE OF id OR DELETE ON orchestration_events EXECUTE FUNCTION refuse_change()",
            "log_triggers",
        ),
    ],
)  # fmt: skip
async def test_what_is_hidden_is_found(
    plane: Plane, admin: psycopg.Connection, audit_dsn: str, dsn: str, fault: str, check: str
) -> None:
    await write_history(plane)
    admin.execute(fault)
    assert check in await red(audit_dsn, dsn, check)


async def test_roles_that_come_by_a_detour(admin: psycopg.Connection, audit_dsn: str, dsn: str, plane: Plane) -> None:
    wrong = {"service_logins", "services_do_not_audit", "durable_settings"}
    try:
        admin.execute("CREATE ROLE team IN ROLE persistence_app; CREATE ROLE strong LOGIN BYPASSRLS IN ROLE team")
        admin.execute("CREATE ROLE twofold LOGIN IN ROLE persistence_app")
        admin.execute("GRANT persistence_auditor TO twofold WITH INHERIT FALSE, SET TRUE")
        admin.execute("ALTER ROLE twofold SET synchronous_commit = 'no'")
        assert await red(audit_dsn, dsn, *wrong) == wrong
    finally:
        admin.execute("DROP ROLE IF EXISTS strong, team, twofold")


async def test_services_may_not_hold_the_outbox_nor_open_epochs(plane: Plane) -> None:
    for call in ("hold_outbox()", "release_outbox()", "open_epoch(1)", "record_backup_verification(NULL, '', '{}', '')"):
        async with plane.pool.acquire() as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"SELECT persistence.{call}")


async def test_purged_records_stay_purged_when_the_outbox_is_rebuilt(
    plane: Plane, admin: psycopg.Connection, admin_dsn: str, audit_dsn: str
) -> None:
    await write_history(plane)
    admin.execute("SET session_replication_role = replica")
    admin.execute("UPDATE outbox_events SET published_at = published_at - interval '2 hours' WHERE status = 'PUBLISHED'")
    [(purged,)] = admin.execute("SELECT purge_outbox('1 hour')").fetchall()
    assert purged > 0
    connection = await asyncpg.connect(admin_dsn)
    [done] = await rebuild(connection, ["outbox_events"])
    await connection.close()
    assert (done.deleted, done.corrected, done.restored) == (0, 0, 0)
    assert (await replayed(audit_dsn)).differences == []


async def test_a_rebuild_goes_on_beside_writers(plane: Plane, tenant: Tenant, admin_dsn: str, audit_dsn: str) -> None:
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            run = await start_run(plane, tenant.tenant_id)
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                tx.runs.complete(await tx.runs.get(run.id))

    writers = [asyncio.create_task(write()) for _ in range(4)]
    connection = await asyncpg.connect(admin_dsn)
    for _ in range(5):
        await rebuild(connection, ["runs", "steps"])
    await connection.close()
    stop.set()
    await asyncio.gather(*writers)
    assert (await replayed(audit_dsn)).differences == []
