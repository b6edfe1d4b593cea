"""Where contexts are signed, SQL that was smuggled into a service can claim any tenant, and reach none but the one that was entered."""

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.cli.console import find_tenant
from persistence.database.signing import ContextKeys, padded, proof_of
from persistence.errors import ConfigurationError, TenantDenied
from persistence.models import Role, Tenant
from persistence.settings import Settings

SECRET = "a secret of the services that SQL is never told"
CLAIM = "SELECT set_config('persistence.tenant_id', $1, true), set_config('persistence.user_id', $2, true)"


@pytest.fixture
async def signing(dsn: str, admin_dsn: str, plane: Plane, tenant: Tenant) -> AsyncIterator[Plane]:
    """A plane that signs, of a database that asks for it; `plane` does not sign."""
    ContextKeys(admin_dsn).set([padded(SECRET)], actor="user:dba")
    async with Plane(dsn, retry_for=5, context_secret=SECRET) as opened:
        yield opened


async def test_who_signs_works_as_before(signing: Plane, tenant: Tenant) -> None:
    async with signing.transaction(tenant.tenant_id, actor="agent:a") as tx:  # one statement
        run = tx.runs.start(run_type="order")
        step = tx.steps.start(run, step_type="charge")
        effect = tx.effects.request(step, "LOG", spec={"text": "x"}, idempotency_key="k")
    async with signing.transaction(tenant.tenant_id, actor="agent:a") as tx:  # several
        signal = await tx.signals.receive("web", "1", "order.placed", {})
        assert (await tx.runs.get(run.id)).status == "RUNNING"
        await tx.flush()
        tx.signals.process(signal)
    async with (
        signing.pool.acquire() as connection,
        connection.transaction(),
        signing.bind(connection, tenant.tenant_id, actor="agent:a") as bound,
    ):
        bound.runs.start(run_type="bound")
    async with signing.transaction(tenant.tenant_id, actor="agent:a") as tx:  # a known key is looked up after the end
        again = tx.effects.request(step, "LOG", spec={"text": "x"}, idempotency_key="k")
    assert again.id == effect.id
    assert await signing.dead_letters(tenant.tenant_id, actor="user:o").requeue([effect.id]) == set()
    token, _ = await signing.tokens.issue(tenant.tenant_id, "t", role=Role.READER, acts_as="user:r", actor="user:o")
    assert (await signing.tokens.authenticate(token)).tenant == tenant.name


async def test_who_does_not_sign_enters_nothing(plane: Plane, signing: Plane, tenant: Tenant) -> None:
    with pytest.raises(TenantDenied, match="cannot prove it.*PERSISTENCE_CONTEXT_SECRET"):
        async with plane.transaction(tenant.tenant_id, actor="agent:a") as tx:
            tx.runs.start(run_type="order")
    with pytest.raises(TenantDenied):
        async with plane.transaction(tenant.tenant_id, actor="agent:a") as tx:
            await tx.runs.list()
    with pytest.raises(TenantDenied):
        await plane.dead_letters(tenant.tenant_id, actor="user:o").requeue([uuid4()])


async def test_smuggled_sql_reaches_no_other_tenant(signing: Plane, tenant: Tenant) -> None:
    victim = await signing.tenants.create("victim", actor="system:test")
    async with signing.transaction(victim.tenant_id, actor="agent:v") as tx:
        tx.runs.start(run_type="secret")
    user = str(signing.settings.user_id)
    proof = proof_of(signing.settings, tenant.tenant_id, signing.settings.service_user)
    async with signing.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT persistence.enter_tenant($1, $2, $3)", tenant.tenant_id, signing.settings.user_id, proof)
        assert await connection.fetchval("SELECT count(*) FROM tenants") == 1
        await connection.execute(CLAIM, str(victim.tenant_id), user)  # the same user serves both
        for table in ("runs", "orchestration_events", "tenants", "user_tenants", "tenant_run_summary", "api_tokens"):
            assert await connection.fetchval(f"SELECT count(tenant_id) FROM {table}") == 0, table
    for statement in (
        "SELECT persistence.enter_tenant($1, $2)",
        "SELECT persistence.enter_tenant($1, $2, $3)",
        "SELECT persistence.append_events($1, $2, '[]', $3)",
        "SELECT persistence.receive_signals($1, $2, '[]')",
        "SELECT persistence.read_events($1, $2, 0, '0', 0, 10)",
        "SELECT persistence.requeue_outbox($1, $2, '{}', 'user:o', 'because', $3)",
        "SELECT persistence.discard_outbox($1, $2, '{}', 'user:o', 'because', $3)",
    ):
        arguments = (victim.tenant_id, signing.settings.user_id, proof)[: statement.count("$")]
        async with signing.pool.acquire() as connection:
            with pytest.raises(asyncpg.PostgresError) as refusal:
                await connection.execute(statement, *arguments)
            assert refusal.value.sqlstate == "PE005", statement


@pytest.mark.parametrize(
    "forged",
    [
        "",
        ":",
        "nonsense",
        "99999999999",
        "99999999999:",
        "99999999999:" + "0" * 64,
        "9" * 40 + ":" + "0" * 64,
        "-1:" + "0" * 64,
        "é:ü",
    ],
)
async def test_a_proof_that_is_none_is_refused_without_a_sound(signing: Plane, tenant: Tenant, forged: str) -> None:
    async with signing.pool.acquire() as connection:
        with pytest.raises(asyncpg.PostgresError) as refusal:
            await connection.execute(
                "SELECT persistence.enter_tenant($1, $2, $3)", tenant.tenant_id, signing.settings.user_id, forged
            )
        assert refusal.value.sqlstate == "PE005"


async def test_a_proof_ends(signing: Plane, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persistence.database.signing.time.time", lambda: 1_700_000_000)
    with pytest.raises(TenantDenied):
        async with signing.transaction(tenant.tenant_id, actor="agent:a") as tx:
            tx.runs.start(run_type="order")


async def test_a_proof_does_not_replace_membership(signing: Plane, tenant: Tenant) -> None:
    with pytest.raises(TenantDenied):
        async with signing.transaction(tenant.tenant_id, actor="agent:a", user_id=uuid4()) as tx:
            tx.runs.start(run_type="order")


async def test_secrets_change_without_a_break_and_each_change_is_an_event(
    signing: Plane, tenant: Tenant, admin: psycopg.Connection, admin_dsn: str, dsn: str
) -> None:
    keys = ContextKeys(admin_dsn)
    other = "x" * 70  # longer than a block of SHA-256
    keys.set([padded(SECRET), padded(other)], actor="user:dba")
    assert not keys.set([padded(other), padded(SECRET)], actor="user:dba")
    async with Plane(dsn, context_secret=other) as renewed:
        for each in (signing, renewed):
            async with each.transaction(tenant.tenant_id, actor="agent:a") as tx:
                tx.runs.start(run_type="order")
        keys.set([padded(other)], actor="user:dba")
        async with renewed.transaction(tenant.tenant_id, actor="agent:a") as tx:
            tx.runs.start(run_type="order")
        with pytest.raises(TenantDenied):
            async with signing.transaction(tenant.tenant_id, actor="agent:a") as tx:
                tx.runs.start(run_type="order")
    recorded = admin.execute(
        "SELECT (event_data ->> 'keys')::integer, actor FROM orchestration_events WHERE event_type = 'CONTEXT_KEYS_SET' ORDER BY sequence_number"
    ).fetchall()
    assert recorded == [(1, "user:dba"), (2, "user:dba"), (1, "user:dba")]


@pytest.mark.parametrize("login", ["service", "auditor"])
async def test_nobody_reads_or_sets_the_keys(signing: Plane, audit_dsn: str, login: str) -> None:
    connection = await asyncpg.connect(signing.server.dsn if login == "service" else audit_dsn)
    try:
        for statement in (
            "SELECT inner_pad FROM canon.context_keys",
            "SELECT * FROM canon.context_keys",
            "SELECT service_user FROM canon.installation",
            "DELETE FROM canon.context_keys",
            "SELECT persistence.set_context_keys('{}', '{}', 'user:me')",
            "SELECT persistence.record_context_keys(0, 'user:me')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_the_service_user_is_this_installations_own_and_told_to_operators_only(
    plane: Plane, admin: psycopg.Connection
) -> None:
    row = admin.execute("SELECT service_user FROM canon.installation").fetchone()
    assert row is not None
    assert plane.settings.user_id == row[0]
    assert row[0].version == 4


async def test_a_login_that_is_no_operator_says_in_whose_name(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection, dsn: str
) -> None:
    admin.execute("CREATE ROLE humble LOGIN")
    try:
        admin.execute("GRANT persistence_app TO humble")
        humble = dsn.replace("persistence_service@", "humble@")
        async with Plane(humble) as unnamed:
            with pytest.raises(ConfigurationError, match="PERSISTENCE_USER_ID"):
                unnamed.transaction(tenant.tenant_id, actor="agent:a")
        user = uuid4()
        await plane.tenants.add_user(tenant.tenant_id, user, actor="user:o")
        async with Plane(humble, user_id=user) as named:
            async with named.transaction(tenant.tenant_id, actor="agent:a") as tx:
                tx.runs.start(run_type="order")
            assert await find_tenant(named, str(tenant.tenant_id)) == tenant  # as commands do
            with pytest.raises(ConfigurationError, match="may not list tenants.*--tenant"):
                await find_tenant(named, None)
    finally:
        admin.execute("DROP OWNED BY humble; DROP ROLE humble")


def test_a_secret_is_long() -> None:
    with pytest.raises(ValueError, match="context_secret"):
        Settings(context_secret="short")  # type: ignore[arg-type]


LIAR = """
CREATE FUNCTION pg_temp.liar() RETURNS uuid LANGUAGE plpgsql STABLE AS $$
DECLARE
  n integer := coalesce(nullif(current_setting('my.n', true), ''), '0')::integer + 1;
BEGIN
  PERFORM set_config('my.n', n::text, true);
  RETURN CASE WHEN n <= current_setting('my.honest')::integer THEN current_setting('my.own')::uuid ELSE current_setting('my.other')::uuid END;
END
$$
"""


@pytest.fixture
async def victim(plane: Plane) -> Tenant:
    """Another tenant of the same service, with something to see."""
    victim = await plane.tenants.create("victim", actor="system:test")
    async with plane.transaction(victim.tenant_id, actor="agent:v") as tx:
        tx.runs.start(run_type="secret")
    return victim


@pytest.mark.parametrize("honest", range(6))
async def test_a_function_that_answers_otherwise_the_second_time_sees_nothing(
    victim: Tenant, signing: Plane, tenant: Tenant, honest: int
) -> None:
    """What a query says of tenant_id is never taken for what the policy says."""
    proof = proof_of(signing.settings, tenant.tenant_id, signing.settings.service_user)
    async with signing.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT persistence.enter_tenant($1, $2, $3)", tenant.tenant_id, signing.settings.user_id, proof)
        for name, value in (
            ("honest", str(honest)),
            ("own", str(tenant.tenant_id)),
            ("other", str(victim.tenant_id)),
            ("t", str(tenant.tenant_id)),
        ):
            await connection.execute("SELECT set_config($1, $2, true)", f"my.{name}", value)
        await connection.execute(LIAR)
        for table in ("runs", "orchestration_events", "tenants", "user_tenants", "tenant_run_summary"):
            await connection.execute("SELECT set_config('my.n', '0', true)")
            rows = await connection.fetch(f"SELECT tenant_id FROM persistence.{table} WHERE tenant_id = pg_temp.liar()")
            assert {row["tenant_id"] for row in rows} <= {tenant.tenant_id}, table
        rows = await connection.fetch(
            "SELECT r.tenant_id FROM (VALUES ($1), ($2)) AS t (id), "
            "LATERAL (SELECT set_config('my.t', t.id, true) OFFSET 0) AS told, "
            "LATERAL (SELECT r.* FROM persistence.runs AS r WHERE r.tenant_id = current_setting('my.t')::uuid) AS r",
            str(tenant.tenant_id),
            str(victim.tenant_id),
        )
        assert {row["tenant_id"] for row in rows} <= {tenant.tenant_id}


async def test_an_operator_of_ones_own_decides_nothing(
    victim: Tenant, signing: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    admin.execute("CREATE SCHEMA shop AUTHORIZATION persistence_service")
    async with signing.pool.acquire() as connection, connection.transaction():
        for kind in ("name", "text", "uuid", "bytea"):
            await connection.execute(
                f"CREATE FUNCTION shop.yes({kind}, {kind}) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';"
                f"CREATE OPERATOR shop.= (LEFTARG = {kind}, RIGHTARG = {kind}, FUNCTION = shop.yes)"
            )
        await connection.execute("SET LOCAL search_path = shop, pg_catalog")
        await connection.execute(CLAIM, str(victim.tenant_id), str(signing.settings.user_id))
        assert await connection.fetch("SELECT tenant_id FROM persistence.runs") == []
        assert await connection.fetch("SELECT tenant_id FROM persistence.user_tenants") == []


async def test_what_smuggled_sql_leaves_in_a_session_is_gone_for_the_next(
    victim: Tenant, signing: Plane, tenant: Tenant, admin: psycopg.Connection, dsn: str
) -> None:
    async with Plane(dsn, context_secret=SECRET, pool_min=1, pool_max=1) as one:
        async with one.transaction(tenant.tenant_id, actor="agent:a") as tx:
            await tx.runs.list()
        async with one.pool.acquire() as connection:
            await connection.execute("CREATE TEMP TABLE loot (x text); SET SESSION work_mem = '64kB'; SET search_path = pg_temp")
            for name in await connection.fetch("SELECT name FROM pg_catalog.pg_prepared_statements WHERE name <> ''"):
                await connection.execute(f'DEALLOCATE "{name["name"]}"')
            await connection.execute("PREPARE mine AS SELECT 1; LISTEN anything; SELECT pg_catalog.pg_advisory_lock(1)")
            pid = await connection.fetchval("SELECT pg_backend_pid()")
        async with one.transaction(victim.tenant_id, actor="agent:v") as tx:
            assert (await tx.fetch("SELECT pg_backend_pid() AS pid"))[0]["pid"] == pid
            [left] = await tx.fetch(
                """
                SELECT
                  current_setting('work_mem') AS work_mem, current_setting('search_path') AS path,
                  (SELECT count(*) FROM pg_catalog.pg_prepared_statements WHERE name <> '') AS statements,
                  to_regclass('pg_temp.loot') AS loot, (SELECT count(*) FROM pg_catalog.pg_listening_channels()) AS channels
                """
            )
            assert dict(left) == {"work_mem": "16MB", "path": "persistence", "statements": 0, "loot": None, "channels": 0}
    assert admin.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = %s", (pid,)).fetchone() == (0,)
