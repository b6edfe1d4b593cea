"""What the service holds against: revoked tokens, strangers who cost memory, other sites, forged hosts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import httpx2
import psycopg
import pytest

from persistence import Plane
from persistence.errors import Unavailable
from persistence.models import Role, Tenant, new_id
from persistence.service import protocol
from tests.helpers import ACTOR, start_run
from tests.serving import Service, serving


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a slow database."""
    monkeypatch.setattr("persistence.service.token_cache._PATIENCE_WHILE_SLOW", 0.1)


@pytest.fixture
async def service(plane: Plane) -> AsyncIterator[Service]:
    async with serving(plane, failures_per_minute=5) as running:
        yield running


async def tokens_of(service: Service, tenant: Tenant) -> tuple[str, httpx2.AsyncClient]:
    text, about = await service.plane.tokens.issue(tenant.tenant_id, "t", role=Role.OPERATOR, acts_as="user:ada", actor="user:boss")
    return str(about.token_id if hasattr(about, "token_id") else about.id), httpx2.AsyncClient(
        base_url=service.url, headers={"Authorization": f"Bearer {text}"}, timeout=30
    )


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_revoked_token_ends_at_once_also_while_the_database_is_slow(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection, service: Service, where: str
) -> None:
    """Slow is not away: what is remembered of a token does not count then, and what was revoked is forgotten."""
    token_id, client = await tokens_of(service, tenant)
    async with client:
        assert (await client.get("/v1/data")).status_code == 200
        if where == "here":
            async with service.client(tenant, Role.ADMIN) as boss:
                assert (await boss.delete(f"/v1/tokens/{token_id}")).status_code == 204
        else:
            admin.execute("SELECT revoke_token(%s, %s, 'user:boss')", (tenant.tenant_id, token_id))
        with admin.transaction():
            admin.execute("LOCK TABLE api_tokens IN ACCESS EXCLUSIVE MODE")  # nobody can be asked about tokens
            assert (await client.get("/v1/data")).status_code in {401, 503}
            assert (await client.post("/v1/data/web.orders", json={"n": 1})).status_code in {401, 503}
        assert (await client.get("/v1/data")).status_code == 401


@pytest.mark.usefixtures("impatient")
async def test_a_slow_database_is_not_away(plane: Plane, tenant: Tenant, admin: psycopg.Connection, service: Service) -> None:
    _, client = await tokens_of(service, tenant)
    async with client:
        assert (await client.get("/v1/data")).status_code == 200
        with admin.transaction():
            admin.execute("LOCK TABLE api_tokens IN ACCESS EXCLUSIVE MODE")
            answer = await client.post("/v1/data/web.orders", json={"n": 1})
        assert (answer.status_code, "slow" in answer.text) == (503, True)
        assert (await client.post("/v1/data/web.orders", json={"n": 1})).status_code == 201


async def test_a_busy_pool_keeps_nobody_at_the_door(dsn: str, tenant: Tenant, plane: Plane) -> None:
    async with Plane(dsn, pool_max=1, retry_for=0.2) as small, serving(small) as service, AsyncExitStack() as stack:
        await stack.enter_async_context(small.pool.acquire())
        text, _ = await plane.tokens.issue(tenant.tenant_id, "t", role=Role.READER, acts_as="user:ada", actor="user:b")
        async with httpx2.AsyncClient(timeout=60, base_url=service.url, headers={"Authorization": f"Bearer {text}"}) as client:
            assert (await client.get("/v1/data")).status_code == 200
            async with asyncio.timeout(2):
                assert (await client.get("/readyz")).status_code == 200


async def test_a_revoked_stream_ends_within_a_second(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection, service: Service
) -> None:
    token_id, client = await tokens_of(service, tenant)
    async with client, client.stream("GET", "/v1/events/stream") as stream:
        lines = stream.aiter_lines()
        await anext(lines)
        admin.execute("SELECT revoke_token(%s, %s, 'user:boss')", (tenant.tenant_id, token_id))
        async with asyncio.timeout(5):  # a second where the machine is not busy
            async for _ in lines:
                pass


async def test_failed_authentications_are_limited_by_address_and_known_tokens_are_not(
    plane: Plane, tenant: Tenant, service: Service
) -> None:
    _, client = await tokens_of(service, tenant)
    async with client, httpx2.AsyncClient(timeout=60, base_url=service.url) as stranger:
        assert (await client.get("/v1/data")).status_code == 200
        answers = [(await stranger.get("/v1/data", headers={"Authorization": "Bearer pp_nonsense"})).status_code for _ in range(8)]
        assert answers == [401] * 5 + [429] * 3
        assert (await client.get("/v1/data")).status_code == 200


async def raw(service: Service, *chunks: bytes) -> bytes:
    """What comes back; the connection must end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
    try:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        async with asyncio.timeout(30):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_heads_that_do_not_end_are_not_kept(service: Service, tenant: Tenant) -> None:
    line = b"x-filler: " + b"a" * 1000 + b"\r\n"
    for said in (  # nothing, where the connection is reset before the answer is read
        await raw(service, b"GET /healthz HTTP/1.1\r\nhost: x\r\n", *([line] * 200)),
        await raw(service, b"GET /" + b"a" * 200_000),
    ):
        assert said == b"" or b" 431 " in said
    _, client = await tokens_of(service, tenant)
    async with client:
        for _ in range(2):  # on one connection
            assert (await client.post("/v1/data/web.orders", json={"a": "x" * 300_000, "n": str(new_id())})).status_code == 201


async def test_those_who_say_nothing_are_hung_up_on(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    assert await raw(service) == b""
    assert await raw(service, b"GET /healthz HTTP/1.1\r\nhost:") == b""


async def test_the_host_that_a_request_names_leads_nowhere(service: Service) -> None:
    async with httpx2.AsyncClient(timeout=60, base_url=service.url, headers={"host": "evil.example"}) as client:
        for path in ("/console", "/console/runs/", "/v1/runs/", "/console/login/", "/console/runs"):
            answer = await client.get(path)
            assert "evil" not in answer.headers.get("location", "")
            assert "evil" not in answer.text


async def test_a_session_can_be_ended_and_is_not_replaced_by_a_link(plane: Plane, tenant: Tenant, service: Service) -> None:
    run = await start_run(plane, tenant.tenant_id)
    other = await plane.tenants.create("other", actor="system:test")
    page = f"/console/runs/{run.id}"
    async with httpx2.AsyncClient(timeout=60, base_url=service.url) as browser:
        entered = await browser.post("/console/login", data={"token": await service.token(tenant)})
        assert entered.headers["location"] == "/console/"
        [name] = [cookie.value for cookie in browser.cookies.jar]
        assert not name.startswith("pp_")
        assert (await browser.get(page)).status_code == 200
        link = await browser.get("/console/login", params={"code": "whatever", "token": await service.token(other)})
        assert "Log in anew" in link.text
        assert (await browser.get(page)).status_code == 200, "still who it was"
        await browser.post("/console/logout")
    async with httpx2.AsyncClient(timeout=60, base_url=service.url, cookies={"persistence_session": name}) as thief:
        assert "login" in (await thief.get(page)).headers.get("location", "")


async def test_a_login_code_is_good_once(plane: Plane, tenant: Tenant) -> None:
    from persistence.service.console.sessions import Sessions

    sessions = Sessions()
    code = sessions.code("pp_x")
    assert (sessions.redeem(code), sessions.redeem(code), sessions.redeem("?")) == ("pp_x", None, None)


async def test_nobody_else_can_take_an_ordering_keys_lock(
    plane: Plane, tenant: Tenant, dsn: str, admin: psycopg.Connection
) -> None:
    """Advisory locks are the cluster's. The number of a name cannot be computed by others; and who waits in vain is told so, as 503."""
    thief = await asyncpg.connect(dsn)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await thief.fetch("SELECT * FROM canon.installation")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await thief.fetch("SELECT persistence.plane_lock('x')")
    run = await start_run(plane, tenant.tenant_id)
    async with Plane(dsn, lock_timeout=0.2, retry_for=0.3) as victim:
        await thief.execute("SELECT pg_advisory_lock(hashtextextended($1, 4))", f"{tenant.tenant_id}k")
        async with victim.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.effects.request(run, "TEST", spec={}, idempotency_key="k", ordering_key="k")
        admin.execute("SELECT pg_advisory_lock(plane_lock(%s))", (f"{tenant.tenant_id}k",))
        with pytest.raises(Unavailable, match="for longer than lock_timeout"):
            async with victim.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                tx.effects.request(run, "TEST", spec={}, idempotency_key="k2", ordering_key="k")
        admin.execute("SELECT pg_advisory_unlock_all()")
    await thief.close()
