"""The interface for programs: access, conditions, problems, pages, streams."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import fastjsonschema
import httpx2
import psycopg
import pytest

from persistence import Plane
from persistence.models import Effect, Role, Tenant
from persistence.outbox import Delivery, PermanentFailure
from persistence.service.examples import EXAMPLES
from tests.helpers import ACTOR, get_effect, request_effect, start_run, worker_with
from tests.serving import Service, serving

PROBLEM = "application/problem+json"


@pytest.fixture
async def service(plane: Plane) -> AsyncIterator[Service]:
    async with serving(plane) as running:
        yield running


@pytest.fixture
async def client(service: Service, tenant: Tenant) -> AsyncIterator[httpx2.AsyncClient]:
    async with service.client(tenant) as opened:
        yield opened


async def dead_letter(plane: Plane, tenant: Tenant, key: str = "key") -> Effect:
    effect = await request_effect(plane, tenant.tenant_id, key)

    async def refuse(_: Delivery) -> None:
        raise PermanentFailure("no such mailbox")

    await worker_with(refuse).drain(plane)
    return effect


def signal(**changes: Any) -> dict[str, Any]:
    return {"source_channel": "web", "source_id": "order-1", "signal_type": "order", "payload": {"amount": 20}, **changes}


async def test_without_a_token_there_is_nothing(service: Service) -> None:
    async with httpx2.AsyncClient(timeout=60, base_url=service.url) as nobody:
        spec = (await nobody.get("/v1/openapi.json")).json()
        for path, operations in spec["paths"].items():
            for method in operations:
                if path in {"/healthz", "/readyz", "/metrics"}:
                    continue
                answer = await nobody.request(method, path.replace("{", "").replace("}", ""))
                assert answer.status_code in {401, 422}, (method, path)
                answer = await nobody.request(
                    method,
                    path.format(
                        scope="test.scope",
                        collected_at="latest",
                        name="stripe",
                        **dict.fromkeys(("signal_id", "run_id", "effect_id", "token_id", "snapshot_id", "memory_id"), uuid4()),
                    ),
                    json={},
                )
                assert answer.status_code == 401, (method, path, answer.text)
                assert answer.headers["content-type"] == PROBLEM
                assert "Bearer" in answer.headers["www-authenticate"]


async def test_a_reader_changes_nothing(service: Service, tenant: Tenant, plane: Plane) -> None:
    effect = await dead_letter(plane, tenant)
    async with service.client(tenant, Role.READER) as reader:
        assert (await reader.get("/v1/runs")).status_code == 200
        for path, body in (
            ("/v1/signals", signal()),
            (f"/v1/effects/{effect.id}/cancel", {}),
            ("/v1/dead-letters/requeue", {"ids": [str(effect.id)]}),
            (f"/v1/runs/{effect.run_id}/cancel", {"message": "x"}),
        ):
            answer = await reader.post(path, json=body, headers={"If-Match": "*"})
            assert answer.status_code == 403, path
        assert (await reader.get("/v1/tokens")).status_code == 403
    assert (await get_effect(plane, tenant.tenant_id, effect.id)).status == "DEAD_LETTER"


async def test_what_another_tenant_has_does_not_exist(service: Service, tenant: Tenant, plane: Plane) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    effect = await dead_letter(plane, tenant)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        received = await tx.signals.receive("web", "1", "order")
    token, _ = await plane.tokens.issue(tenant.tenant_id, "x", role=Role.READER, acts_as="user:x", actor="user:x")
    token_id = (await plane.tokens.authenticate(token)).token_id
    async with service.client(other, Role.ADMIN) as stranger:
        for path in (
            f"/v1/runs/{effect.run_id}",
            f"/v1/runs/{effect.run_id}/trace",
            f"/v1/runs/{effect.run_id}/waterfall",
            f"/v1/runs/{effect.run_id}/causation",
            f"/v1/runs/{effect.run_id}/diagnosis",
            f"/v1/runs/{effect.run_id}/comparison?with={effect.run_id}",
            f"/v1/effects/{effect.id}",
            f"/v1/effects/{effect.id}/diagnosis",
            f"/v1/dead-letters/{effect.id}",
            f"/v1/signals/{received.id}",
        ):
            answer = await stranger.get(path)
            assert answer.status_code == 404, path
        for path in (f"/v1/runs/{effect.run_id}/cancel", f"/v1/effects/{effect.id}/cancel"):
            assert (
                await stranger.post(path, json={"message": "x"} if "runs" in path else {}, headers={"If-Match": "*"})
            ).status_code == 404
        assert (await stranger.delete(f"/v1/tokens/{token_id}")).status_code == 404
        moved = (await stranger.post("/v1/dead-letters/requeue", json={"ids": [str(effect.id)]})).json()
        assert moved == {"moved": [], "left": [str(effect.id)]}
        for path in ("/v1/runs", "/v1/effects", "/v1/signals", "/v1/dead-letters/entries"):
            assert (await stranger.get(path)).json()["items"] == [], path
        assert (await stranger.get("/v1/dead-letters")).json() == []
        events = (await stranger.get("/v1/events")).json()["items"]
        assert {item["event"]["tenant_id"] for item in events} == {str(other.tenant_id)}
    assert (await get_effect(plane, tenant.tenant_id, effect.id)).status == "DEAD_LETTER"


async def test_a_signal_comes_in_once(client: httpx2.AsyncClient, plane: Plane, tenant: Tenant) -> None:
    first = await client.post("/v1/signals", json=signal())
    again = await client.post("/v1/signals", json=signal())
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert first.headers["location"] == f"/v1/signals/{first.json()['id']}"
    changed = await client.post("/v1/signals", json=signal(payload={"amount": 21}))
    assert changed.status_code == 422
    assert "another type or payload" in changed.json()["detail"]
    read = await client.get(first.headers["location"])
    assert (read.json()["payload"], read.headers["etag"]) == ({"amount": 20}, '"1"')
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        [event] = await tx.events.of_aggregate(UUID(first.json()["id"]))
    assert (event.actor, event.source) == ("user:ada", "http")


async def test_an_idempotency_key_stands_for_the_source_id(client: httpx2.AsyncClient) -> None:
    body = signal(source_id=None)
    nameless = await client.post("/v1/signals", json=body)
    assert nameless.status_code == 428
    answers = [await client.post("/v1/signals", json=body, headers={"Idempotency-Key": "k-1"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json()["source_id"] == "k-1"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"source_channel": "web"}, "signal_type"),
        (signal(source_channel=""), "source_channel"),
        (signal(colour="red"), "colour"),
        (signal(occurred_at="2026-01-01T00:00:00"), "occurred_at"),
        (signal(payload={"a": "\x00"}), "payload"),
        (signal(source_id="\x00"), "source_id"),
    ],
)
async def test_bad_input_is_refused_by_name(client: httpx2.AsyncClient, body: dict[str, Any], field: str) -> None:
    answer = await client.post("/v1/signals", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
    assert field in answer.json()["detail"]


async def test_what_is_no_json_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/signals", content=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
    assert (answer.json()["field"], answer.json()["detail"].partition(" at ")[0]) == ("body", "body: is no JSON")
    deep = await client.post("/v1/signals", content=b"[" * 100_000, headers={"Content-Type": "application/json"})
    assert (deep.status_code, deep.json()["field"]) in {(400, "body"), (422, "body")}


async def test_a_body_that_is_too_large_is_refused(plane: Plane, tenant: Tenant) -> None:
    async with serving(plane, max_body=2000) as service, service.client(tenant) as client:
        small = await client.post("/v1/signals", json=signal(payload="x" * 1000))
        large = await client.post("/v1/signals", json=signal(payload="x" * 2000, source_id="2"))

        async def unannounced() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b"x" * 500

        streamed = await client.post("/v1/signals", content=unannounced(), headers={"Content-Type": "application/json"})
    assert (small.status_code, large.status_code, streamed.status_code) == (201, 413, 413)
    assert large.headers["content-type"] == PROBLEM


async def test_a_change_is_meant_for_one_version(client: httpx2.AsyncClient, plane: Plane, tenant: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)
    path = f"/v1/runs/{run.id}"
    etag = (await client.get(path)).headers["etag"]
    body = {"message": "withdrawn"}
    assert (await client.post(f"{path}/cancel", json=body)).status_code == 428
    assert (await client.post(f"{path}/cancel", json=body, headers={"If-Match": '"9"'})).status_code == 412
    done = await client.post(f"{path}/cancel", json=body, headers={"If-Match": etag})
    assert (done.status_code, done.json()["status"], done.headers["etag"]) == (200, "CANCELLED", '"2"')
    over = await client.post(f"{path}/cancel", json=body, headers={"If-Match": "*"})
    assert over.status_code == 409


async def test_a_failed_run_is_retried(client: httpx2.AsyncClient, plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.fail(tx.runs.start(run_type="x"), {"type": "T", "message": "m"})
    assert "T: m" in (await client.get(f"/v1/runs/{run.id}/diagnosis")).json()["conclusion"]
    done = await client.post(f"/v1/runs/{run.id}/retry", headers={"If-Match": '"2"'})
    assert (done.status_code, done.json()["status"], done.json()["retry_count"]) == (200, "RUNNING", 1)


async def test_dead_letters_are_requeued_and_discarded(client: httpx2.AsyncClient, plane: Plane, tenant: Tenant) -> None:
    effects = [await dead_letter(plane, tenant, f"k-{n}") for n in range(3)]
    [group] = (await client.get("/v1/dead-letters")).json()
    assert (group["effect_type"], group["error_type"], group["entries"]) == ("TEST", "PermanentFailure", 3)
    shown = (await client.get(f"/v1/dead-letters/{effects[0].id}")).json()
    assert [event["event_type"] for event in shown["attempts"]] == ["EFFECT_DEAD_LETTERED"]
    ids = [str(effects[0].id), str(uuid4())]
    dry = (await client.post("/v1/dead-letters/requeue", json={"ids": ids, "dry_run": True})).json()
    assert dry == {"moved": ids[:1], "left": ids[1:]}
    assert len((await client.get("/v1/dead-letters/entries")).json()["items"]) == 3
    assert (await client.post("/v1/dead-letters/requeue", json={"ids": ids, "reason": "it is back"})).json() == dry
    assert (await client.post("/v1/dead-letters/discard", json={"filter": {}})).status_code == 422
    gone = (await client.post("/v1/dead-letters/discard", json={"filter": {"effect_type": "TEST"}, "reason": "by hand"})).json()
    assert len(gone["moved"]) == 2
    assert (await client.post("/v1/dead-letters/requeue", json={"ids": ids, "filter": {}})).status_code == 422
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        events = await tx.events.of_aggregate(effects[0].id)
    assert (events[-1].event_type, events[-1].actor, events[-1].event_data["reason"]) == (
        "EFFECT_REQUEUED",
        "user:ada",
        "it is back",
    )


async def test_lists_are_paged_by_cursor(client: httpx2.AsyncClient, plane: Plane, tenant: Tenant) -> None:
    for key in ("a", "b", "c"):
        await request_effect(plane, tenant.tenant_id, key)
    for path in ("/v1/runs", "/v1/effects"):
        first = (await client.get(path, params={"limit": 2})).json()
        rest = (await client.get(path, params={"limit": 2, "cursor": first["next"]})).json()
        assert (len(first["items"]), len(rest["items"]), rest["next"]) == (2, 1, None)
        assert len({item["id"] for item in first["items"] + rest["items"]}) == 3
    assert (await client.get("/v1/runs", params={"limit": 0})).status_code == 422


async def test_large_answers_are_compressed(client: httpx2.AsyncClient, plane: Plane, tenant: Tenant) -> None:
    for key in range(10):
        await request_effect(plane, tenant.tenant_id, str(key))
    answer = await client.get("/v1/effects")
    assert answer.headers["content-encoding"] == "gzip"


async def test_too_many_requests_are_held_back(plane: Plane, tenant: Tenant) -> None:
    async with serving(plane, requests_per_second=3) as service, service.client(tenant) as client:
        answers = [await client.get("/v1/overview") for _ in range(8)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert refused[0].headers["retry-after"] == "1"


async def test_the_log_is_read_in_pages(client: httpx2.AsyncClient, plane: Plane, tenant: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)
    first = (await client.get("/v1/events", params={"limit": 2})).json()
    rest = (await client.get("/v1/events", params={"after": first["next"]})).json()
    kinds = [item["event"]["event_type"] for item in first["items"] + rest["items"]]
    assert kinds == ["TENANT_CREATED", "TENANT_USER_ADDED", "TENANT_TOKEN_ISSUED", "RUN_STARTED"]
    assert rest["items"][-1]["event"]["aggregate_id"] == str(run.id)
    end = (await client.get("/v1/events", params={"after": rest["next"]})).json()
    assert (end["items"], end["next"]) == ([], rest["next"])
    assert (await client.get("/v1/events", params={"after": "soon"})).status_code == 422


async def frames(answer: httpx2.Response, count: int) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    frame: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if not line:
            if "data" in frame:
                found.append(frame)
            if len(found) == count:
                return found
            frame = {}
            continue
        name, _, value = line.partition(": ")
        frame[name] = value
    return found


async def test_the_stream_goes_on_where_it_was_left(client: httpx2.AsyncClient, plane: Plane, tenant: Tenant) -> None:
    async with asyncio.timeout(20):
        async with client.stream("GET", "/v1/events/stream", params={"type": "RUN_STARTED"}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            run = await start_run(plane, tenant.tenant_id)
            [frame] = await frames(answer, 1)
        assert (frame["event"], json.loads(frame["data"])["aggregate_id"]) == ("RUN_STARTED", str(run.id))
        missed = [await start_run(plane, tenant.tenant_id) for _ in range(3)]
        async with client.stream("GET", "/v1/events/stream", headers={"Last-Event-ID": frame["id"]}) as answer:
            again = await frames(answer, 3)
    assert [json.loads(frame["data"])["aggregate_id"] for frame in again] == [str(run.id) for run in missed]


async def test_tokens_are_an_admins_business(service: Service, tenant: Tenant) -> None:
    async with service.client(tenant, Role.ADMIN) as admin:
        made = (await admin.post("/v1/tokens", json={"name": "ci", "role": "reader", "acts_as": "agent:ci", "days": 1})).json()
        async with httpx2.AsyncClient(timeout=60, base_url=service.url, headers={"Authorization": f"Bearer {made['token']}"}) as ci:
            assert (await ci.get("/v1/runs")).status_code == 200
            assert (await admin.delete(f"/v1/tokens/{made['about']['id']}")).status_code == 204
            assert (await ci.get("/v1/runs")).status_code == 401
        listed = (await admin.get("/v1/tokens")).json()
    assert made["token"] not in str(listed)
    assert {item["name"] for item in listed} == {"ci", "test"}


async def test_probes_say_whether_it_lives_and_can_work(service: Service, admin: psycopg.Connection) -> None:
    async with httpx2.AsyncClient(timeout=60, base_url=service.url) as probe:
        assert (await probe.get("/healthz")).json() == {"status": "ok"}
        assert (await probe.get("/readyz")).status_code == 200
        admin.execute("UPDATE canon.schema_version SET version_num = '20200101000000'")
        unready = await probe.get("/readyz")
        assert (unready.status_code, unready.headers["content-type"]) == (503, PROBLEM)
        assert "persistence migrate up" in unready.json()["detail"]
        assert (await probe.get("/healthz")).status_code == 200


async def test_errors_of_every_kind_are_problems(client: httpx2.AsyncClient) -> None:
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("DELETE", "/v1/runs", 405),
        ("GET", "/v1/runs/no-uuid", 422),
        ("GET", f"/v1/runs/{uuid4()}", 404),
        ("GET", "/v1/runs?status=BROKEN", 422),
        ("GET", "/v1/runs?search=%00", 422),
        ("GET", "/v1/runs?since=0001-01-01T00:00:00", 200),
        ("GET", "/v1/events?after=0-99999999999999999999999999-0", 422),
    ):
        answer = await client.request(method, path)
        assert answer.status_code == status, path
        if status != 200:
            assert answer.headers["content-type"] == PROBLEM
            assert answer.json()["detail"]


async def test_whoever_lost_the_membership_is_out(service: Service, tenant: Tenant, plane: Plane) -> None:
    async with service.client(tenant) as client:
        assert (await client.get("/v1/runs")).status_code == 200
        await plane.tenants.remove_user(tenant.tenant_id, plane.settings.user_id, actor="user:boss")
        assert (await client.get("/v1/runs")).status_code == 401
        assert (await client.get("/v1/events/stream", params={"after": "0-0-0"})).status_code == 401
        assert (await client.delete(f"/v1/tokens/{uuid4()}")).status_code == 401


async def test_a_token_works_in_the_name_of_its_own_user(service: Service, tenant: Tenant, plane: Plane) -> None:
    user = uuid4()
    await plane.tenants.add_user(tenant.tenant_id, user, actor="user:boss")
    await plane.tenants.remove_user(tenant.tenant_id, plane.settings.user_id, actor="user:boss")
    text, _ = await plane.tokens.issue(tenant.tenant_id, "x", role=Role.READER, acts_as="user:x", actor="user:boss", user_id=user)
    async with httpx2.AsyncClient(timeout=60, base_url=service.url, headers={"Authorization": f"Bearer {text}"}) as client:
        assert (await client.get("/v1/runs")).status_code == 200
        async with asyncio.timeout(20), client.stream("GET", "/v1/events/stream", params={"after": "0-0-0"}) as answer:
            assert (await frames(answer, 1))[0]["event"] == "TENANT_CREATED"


async def test_each_answer_has_an_example_that_fits_it(service: Service) -> None:
    async with httpx2.AsyncClient(timeout=60, base_url=service.url) as client:
        document = (await client.get("/v1/openapi.json")).json()
    schemas = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                shape = (answer.get("content") or {}).get("application/json", {}).get("schema", {})
                shape = next((part for part in shape.get("anyOf", [shape]) if "$ref" in part or "items" in part), shape)
                name = str((shape.get("items") or shape).get("$ref", "")).rpartition("/")[2]
                if name not in {"", "Health", "Problem"} and status.startswith("2"):
                    assert schemas[name].get("examples"), f"{method} {path}: {name}"
    for name, example in EXAMPLES.items():
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        fastjsonschema.validate(schema, example)
        assert set(example) == set(schemas[name]["properties"]), name


async def test_a_parameter_that_an_operation_does_not_know_is_refused(client: httpx2.AsyncClient) -> None:
    """What it was meant to leave out would be answered."""
    for path, name in (("/v1/runs?stat=FAILED", "stat"), ("/v1/overview?x=1", "x"), ("/v1/runs?limit=1&cursr=1", "cursr")):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["field"]) == (422, name)
    assert "status" in (await client.get("/v1/runs?stat=FAILED")).json()["hint"]


async def test_a_body_that_is_not_sent_as_json_says_so(client: httpx2.AsyncClient) -> None:
    answer = await client.post(
        "/v1/signals", content='{"source_channel": "web"}', headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["hint"]


async def test_signals_are_found_by_status_and_channel(client: httpx2.AsyncClient) -> None:
    for channel in ("web", "mail"):
        await client.post("/v1/signals", json=signal(source_channel=channel))
    found = (await client.get("/v1/signals", params={"status": "RECEIVED", "source_channel": "mail"})).json()["items"]
    assert [one["source_channel"] for one in found] == ["mail"]
    assert (await client.get("/v1/signals", params={"status": "PROCESSED"})).json()["items"] == []
    wrong = await client.get("/v1/signals", params={"status": "OPEN"})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "status")
    assert "RECEIVED" in wrong.json()["hint"]
