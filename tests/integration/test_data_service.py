"""/v1/data: posting, reading, listing and deleting data files over HTTP."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from persistence import Plane
from persistence.errors import NotAuthenticated
from persistence.ingest import DATA_INGEST_MAX_SIZE, DataFileEnvelope, Ingest
from persistence.models import Role, Tenant
from persistence.service.app import DEFAULT_MAX_SIZE
from persistence.service.token_cache import TokenCache
from persistence.telemetry import LISTENING
from persistence.tokens import CHANNEL
from tests.proxy import way_to
from tests.serving import Service, serving

PROBLEM = "application/problem+json"
SCOPE = "test.scope"


async def until_revocations_are_heard() -> None:
    """Whoever begins to listen forgets which tokens held before."""
    async with asyncio.timeout(60):
        while not LISTENING.labels(CHANNEL)._value.get():
            await asyncio.sleep(0.02)


@pytest.fixture
async def service(plane: Plane, tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(plane, folder=tmp_path, max_data=3_000_000, max_body=2000, requests_per_second=1000) as running:
        yield running


@pytest.fixture
async def client(service: Service, tenant: Tenant) -> AsyncIterator[httpx2.AsyncClient]:
    async with service.client(tenant) as opened:
        yield opened


def test_the_limits() -> None:
    assert (DATA_INGEST_MAX_SIZE, DEFAULT_MAX_SIZE) == (52_428_800, 1_048_576)


async def test_a_post_is_stored(client: httpx2.AsyncClient, service: Service, tenant: Tenant, tmp_path: Path) -> None:
    answer = await client.post(f"/v1/data/{SCOPE}", json={"hello": "world"})
    assert answer.status_code == 201
    body = answer.json()
    assert body == {"scope": SCOPE, "collectedAt": body["collectedAt"], "status": "stored", "recorded": False}
    assert datetime.fromisoformat(body["collectedAt"]).tzinfo
    place = tmp_path / str(tenant.tenant_id) / "data" / "test" / "scope" / (body["collectedAt"].replace(":", "-") + ".json")
    assert DataFileEnvelope.model_validate_json(place.read_text()).model_dump(by_alias=True) == {
        "version": "1.0",
        "scope": SCOPE,
        "collectedAt": body["collectedAt"],
        "data": {"hello": "world"},
    }
    [row] = await service.ingest.list(tenant.tenant_id)
    assert (row.scope, row.collected_at, row.size_bytes) == (SCOPE, body["collectedAt"], place.stat().st_size)
    assert answer.headers["location"] == f"/v1/data/{SCOPE}/{body['collectedAt']}"


async def test_two_posts_are_two_versions(client: httpx2.AsyncClient) -> None:
    times = [(await client.post(f"/v1/data/{SCOPE}", json={"n": n})).json()["collectedAt"] for n in (1, 2)]
    found = (await client.get(f"/v1/data/{SCOPE}")).json()
    assert [item["collectedAt"] for item in found["items"]] == times[::-1]
    latest, first = await client.get(f"/v1/data/{SCOPE}/latest"), await client.get(f"/v1/data/{SCOPE}/{times[0]}")
    assert (latest.json()["data"], first.json()["data"]) == ({"n": 2}, {"n": 1})
    assert latest.headers["content-location"] == f"/v1/data/{SCOPE}/{times[1]}"


@pytest.mark.parametrize("scope", ["bad", "Test.Scope", "a.b.c.d", "1a.b", "a.b%00"])
async def test_a_bad_scope_is_refused(client: httpx2.AsyncClient, scope: str, tmp_path: Path) -> None:
    for method, path in (("POST", f"/v1/data/{scope}"), ("GET", f"/v1/data/{scope}"), ("GET", f"/v1/data/{scope}/latest")):
        answer = await client.request(method, path, json={} if method == "POST" else None)
        assert (answer.status_code, answer.headers["content-type"]) == (400, PROBLEM), (method, path)
        assert answer.json()["field"] == "scope"


@pytest.mark.parametrize("body", [b"", b"{", b"not json", b"[1, 2]", b'"text"', b"null", b"1", b'{"a":1}{', b'{"a":"\xff"}'])
async def test_a_body_that_is_no_object_is_refused(client: httpx2.AsyncClient, body: bytes) -> None:
    answer = await client.post(f"/v1/data/{SCOPE}", content=body)
    assert (answer.status_code, answer.headers["content-type"], answer.json()["field"]) == (400, PROBLEM, "body")
    assert (await client.get(f"/v1/data/{SCOPE}")).json()["items"] == []


async def test_a_body_beyond_the_limit_is_refused_announced_or_not(
    client: httpx2.AsyncClient, tenant: Tenant, tmp_path: Path
) -> None:
    async def unannounced(size: int) -> AsyncIterator[bytes]:
        yield b'{"a":"'
        for _ in range(size // 50_000):
            yield b"x" * 50_000
        yield b'"}'

    fits = await client.post(f"/v1/data/{SCOPE}", content=unannounced(2_900_000))
    assert fits.status_code == 201
    for content in (b'{"a":"' + b"x" * 3_000_000 + b'"}', unannounced(3_000_000)):
        answer = await client.post(f"/v1/data/{SCOPE}", content=content)
        assert (answer.status_code, answer.headers["content-type"]) == (413, PROBLEM)
        assert answer.json()["error"] == "CONTENT_TOO_LARGE"
        assert "3000000 bytes" in answer.json()["message"]
    other = await client.post("/v1/signals", json={"payload": "x" * 3000})
    assert (other.status_code, other.json()["error"]) == (413, "CONTENT_TOO_LARGE")
    folder = tmp_path / str(tenant.tenant_id) / "data" / "test" / "scope"
    assert len(list(folder.iterdir())) == 1


async def test_a_large_body_takes_no_memory(plane: Plane, tenant: Tenant) -> None:
    """50 MiB pass through while the process's own memory grows by less than a fifth of that. (The file's pages are the system's.)"""
    size = DATA_INGEST_MAX_SIZE - 1000

    async def body() -> AsyncIterator[bytes]:
        yield b'{"list":["'
        for _ in range(size // 65_536):
            yield b"x" * 65_533 + b'","'[:3]
        yield b'"]}'

    def own_memory() -> int:
        [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:")]
        return int(line.split()[1]) * 1024

    async with serving(plane) as service, service.client(tenant) as client:
        await client.post(f"/v1/data/{SCOPE}", json={})
        before, most, done = own_memory(), 0, asyncio.Event()

        async def watch() -> None:
            nonlocal most
            while not done.is_set():
                most = max(most, own_memory())
                await asyncio.sleep(0.002)

        watching = asyncio.create_task(watch())
        answer = await client.post(f"/v1/data/{SCOPE}", content=body())
        async with client.stream("GET", f"/v1/data/{SCOPE}/latest", headers={"Accept-Encoding": "identity"}) as stream:
            read = sum([len(chunk) async for chunk in stream.aiter_raw()])
        done.set()
        await watching
    assert (answer.status_code, read > size - 100_000) == (201, True)
    assert most - before < size / 5


async def test_a_key_stands_for_one_post(client: httpx2.AsyncClient) -> None:
    async def post(n: int, key: str | None = "k", **more: Any) -> tuple[int, str]:
        answer = await client.post(f"/v1/data/{SCOPE}", json={"n": n}, headers={"Idempotency-Key": key} if key else {}, **more)
        return answer.status_code, answer.json().get("collectedAt")

    first = await post(1)
    assert (first[0], await post(1)) == (201, (200, first[1]))
    assert (await post(1, "k2"))[0] == 201
    assert await post(2) == (422, None)
    assert await post(1, None, params={"deduplicate": "true"}) == (200, first[1])
    assert (await post(1, None))[0] == 201


async def test_who_waits_is_told_once_it_is_recorded(client: httpx2.AsyncClient, plane: Plane, tenant: Tenant) -> None:
    answer = await client.post(f"/v1/data/{SCOPE}", json={"n": 1}, headers={"Prefer": "respond-async, wait=30"})
    assert (answer.json()["recorded"], answer.headers["preference-applied"]) == (True, "wait=30")
    [item] = (await client.get(f"/v1/data/{SCOPE}")).json()["items"]
    signal = (await client.get(f"/v1/signals/{item['signalId']}")).json()
    assert (signal["source_channel"], signal["actor"], signal["payload"]["sha256"]) == (f"data:{SCOPE}", "user:ada", item["sha256"])


async def test_pages_reach_every_version_once(client: httpx2.AsyncClient) -> None:
    for n in range(25):
        await client.post(f"/v1/data/{SCOPE}", json={"n": n})
    seen, cursor = [], None
    while True:
        page = (await client.get(f"/v1/data/{SCOPE}", params={"limit": 10, **({"cursor": cursor} if cursor else {})})).json()
        seen += [item["collectedAt"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 25
    [scope] = (await client.get("/v1/data")).json()["items"]
    assert (scope["scope"], scope["files"], scope["latest"]) == (SCOPE, 25, seen[0])


async def test_a_deleted_version_is_gone(client: httpx2.AsyncClient) -> None:
    path = (await client.post(f"/v1/data/{SCOPE}", json={})).headers["location"]
    assert [(await client.request(method, path)).status_code for method in ("GET", "DELETE", "GET", "DELETE")] == [
        200,
        204,
        404,
        404,
    ]
    for wrong in ("latest", "2026-01-21", "index.db"):
        assert (await client.delete(f"/v1/data/{SCOPE}/{wrong}")).status_code == 400


async def test_a_reader_reads_and_no_more(service: Service, tenant: Tenant, client: httpx2.AsyncClient) -> None:
    path = (await client.post(f"/v1/data/{SCOPE}", json={"n": 1})).headers["location"]
    async with service.client(tenant, Role.READER) as reader:
        assert (await reader.get(path)).json()["data"] == {"n": 1}
        assert (await reader.post(f"/v1/data/{SCOPE}", json={})).status_code == 403
        assert (await reader.delete(path)).status_code == 403


async def test_another_tenants_data_do_not_exist(service: Service, plane: Plane, client: httpx2.AsyncClient) -> None:
    path = (await client.post(f"/v1/data/{SCOPE}", json={"secret": 1})).headers["location"]
    other = await plane.tenants.create("other", actor="system:test")
    async with service.client(other) as stranger:
        assert (await stranger.get(path)).status_code == 404
        assert (await stranger.delete(path)).status_code == 404
        assert (await stranger.get(f"/v1/data/{SCOPE}")).json()["items"] == []
        assert (await stranger.get("/v1/data")).json()["items"] == []


async def test_a_revoked_token_ends_at_once(service: Service, plane: Plane, tenant: Tenant) -> None:
    token = await service.token(tenant)
    async with httpx2.AsyncClient(timeout=60, base_url=service.url, headers={"Authorization": f"Bearer {token}"}) as client:
        posts = [asyncio.create_task(client.post(f"/v1/data/{SCOPE}", json={})) for _ in range(30)]
        assert {(await post).status_code for post in posts} == {201}
        await plane.tokens.revoke(tenant.tenant_id, (await plane.tokens.authenticate(token)).token_id, actor="user:boss")
        assert (await client.post(f"/v1/data/{SCOPE}", json={})).status_code == 401


async def test_while_the_database_is_away_data_come_in_and_are_read(
    postgresql: psycopg.Connection, dsn: str, plane: Plane, tenant: Tenant
) -> None:
    host = postgresql.info.host
    rules = {"data:test.*": {"run": "triage"}}
    async with (
        way_to(host) as way,
        Plane(dsn=dsn.replace(host, way.host), retry_for=0.2) as distant,
        serving(distant, rules=rules) as service,
    ):
        tokens = [
            await Service(plane, "", service.ingest).token(tenant, role) for role in (Role.OPERATOR, Role.READER, Role.OPERATOR)
        ]
        known, reader, unknown = ({"Authorization": f"Bearer {token}"} for token in tokens)
        async with httpx2.AsyncClient(base_url=service.url, timeout=30) as client:
            await until_revocations_are_heard()
            for headers in (known, reader):
                assert (await client.get(f"/v1/data/{SCOPE}", headers=headers)).status_code == 200
            await way.close()
            for n in range(5):
                answer = await client.post(f"/v1/data/{SCOPE}", json={"n": n}, headers=known)
                assert (answer.status_code, answer.json()["recorded"]) == (201, False)
            assert (await client.get(f"/v1/data/{SCOPE}/latest", headers=reader)).json()["data"] == {"n": 4}
            assert (await client.post(f"/v1/data/{SCOPE}", json={}, headers=reader)).status_code == 403
            assert (await client.post(f"/v1/data/{SCOPE}", json={}, headers=unknown)).status_code == 503
            assert (await client.get("/v1/runs", headers=known)).status_code == 503
            await way.reopen()
            answer = await client.post(f"/v1/data/{SCOPE}", json={"n": 5}, headers={**known, "Prefer": "wait=30"})
            assert answer.json()["recorded"]
    async with plane.transaction(tenant.tenant_id, actor="user:test") as tx:
        assert await tx.runs.count(run_type="triage") == 6


async def test_nonsense_does_not_slow_down_those_who_are_known(
    postgresql: psycopg.Connection, dsn: str, plane: Plane, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = postgresql.info.host
    async with way_to(host) as way, Plane(dsn=dsn.replace(host, way.host), retry_for=30) as distant:
        token = await Service(plane, "", Ingest(Path("/nowhere"))).token(tenant)
        async with TokenCache(distant) as tokens:
            await until_revocations_are_heard()
            await tokens.bearer_remembered(token)
            await way.close()
            await tokens.bearer_remembered(token)
            with pytest.raises(NotAuthenticated):
                await tokens.bearer_remembered("pp_nonsense")
            begun = time.monotonic()
            await tokens.bearer_remembered(token)
            assert time.monotonic() - begun < 0.9, "it is known to be away"
        await way.reopen()


async def test_an_upload_that_breaks_off_is_no_fault_of_the_service(
    service: Service, tenant: Tenant, client: httpx2.AsyncClient
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
    head = f"POST /v1/data/{SCOPE} HTTP/1.1\r\nHost: x\r\nAuthorization: {client.headers['authorization']}\r\nContent-Length: 1000000\r\n\r\n"
    writer.write(head.encode() + b'{"a":"' + b"x" * 500_000)
    await writer.drain()
    writer.close()
    await reader.read()
    assert (await client.post(f"/v1/data/{SCOPE}", json={"n": 1})).status_code == 201
    assert len((await client.get(f"/v1/data/{SCOPE}")).json()["items"]) == 1


async def test_an_expired_token_is_not_remembered(
    postgresql: psycopg.Connection, dsn: str, plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    host = postgresql.info.host
    async with way_to(host) as way, Plane(dsn=dsn.replace(host, way.host), retry_for=0.2) as distant, serving(distant) as service:
        token = await Service(plane, "", service.ingest).token(tenant)
        async with httpx2.AsyncClient(base_url=service.url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
            assert (await client.get("/v1/data")).status_code == 200
            admin.execute("ALTER TABLE api_tokens DISABLE TRIGGER USER")
            admin.execute("UPDATE api_tokens SET expires_at = now() + interval '1 second'")
            assert (await client.get("/v1/data")).status_code == 200
            await way.close()
            statuses = set()
            while 401 not in statuses:
                statuses.add((await client.get("/v1/data")).status_code)
            assert statuses <= {200, 401}


async def test_the_document_shows_what_to_post(client: httpx2.AsyncClient) -> None:
    spec = (await client.get("/v1/openapi.json")).json()
    operation = spec["paths"]["/v1/data/{scope}"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"type": "object"}
    assert {"200", "201", "400", "401", "403", "413", "507"} <= set(operation["responses"])
    assert re.search("durable", operation["description"])
    assert json.dumps(spec)
