"""/v1/memories and the console's pages of them."""

from collections.abc import AsyncIterator
from uuid import uuid4

import httpx2
import pytest

from persistence import Plane
from persistence.models import Role, Tenant, new_id
from persistence.outbox import Worker
from persistence.outbox.embed_handler import add_embed_handler
from persistence.queries.causation import causation_of
from persistence.queries.search import search_runs
from persistence.queries.trace import trace_correlation, trace_run
from persistence.stores.memory import Backends
from tests.helpers import ACTOR
from tests.serving import Service, serving

TEA = {"content": "Ada likes tea", "agent": "agent:desk", "tags": ["taste"], "importance": 0.5}


@pytest.fixture
async def service(plane: Plane) -> AsyncIterator[Service]:
    async with serving(plane) as running:
        yield running


@pytest.fixture
async def client(service: Service, tenant: Tenant) -> AsyncIterator[httpx2.AsyncClient]:
    async with service.client(tenant) as opened:
        yield opened


async def embed(plane: Plane) -> None:
    async with Backends(plane) as backends:
        await add_embed_handler(Worker(name="tester", listen=False), backends).drain(plane, until="settled", timeout=60)


async def test_a_memory_is_written_found_explained_and_forgotten(client: httpx2.AsyncClient, plane: Plane) -> None:
    written = await client.post("/v1/memories", json=TEA)
    assert written.status_code == 201
    memory = written.json()
    assert (memory["content"], memory["status"], written.headers["etag"]) == ("Ada likes tea", "ACTIVE", '"1"')
    await client.post("/v1/memories", json={**TEA, "content": "invoices are paid within ten days", "tags": []})
    await embed(plane)
    found = (await client.get("/v1/memories/search", params={"text": "what does Ada like"})).json()
    assert found["found"][0]["memory"]["id"] == memory["id"]
    assert found["found"][0]["why"]["vectors_rank"] == 1
    assert (found["index"]["model"], found["without"]) == ("hashing-256", None)
    only = (await client.get("/v1/memories/search", params={"text": "paid tea", "tag": "taste", "mode": "vectors"})).json()
    assert [one["memory"]["id"] for one in only["found"]] == [memory["id"]]
    used = await client.post("/v1/memories/recalls", json={"memories": [memory["id"]], "agent": "agent:desk"})
    assert used.status_code == 201
    story = (await client.get(f"/v1/memories/{memory['id']}/story")).json()
    assert [event["event_type"] for event in story["events"]] == ["MEMORY_REMEMBERED"]
    assert ([one["status"] for one in story["effects"]], len(story["indexes"])) == (["EXECUTED"], 1)
    assert [one["id"] for one in story["recalls"]] == [used.json()["id"]]
    for what, status in (("prune", "PRUNED"), ("restore", "ACTIVE"), ("forget", "FORGOTTEN")):
        path = f"/v1/memories/{memory['id']}/{what}"
        assert (await client.post(path, json={"reason": "tried"})).status_code == 428
        assert (await client.post(path, json={"reason": "tried"}, headers={"If-Match": '"99"'})).status_code == 412
        changed = await client.post(path, json={"reason": "tried"}, headers={"If-Match": "*"})
        assert (changed.status_code, changed.json()["status"]) == (200, status)
    assert (await client.get(f"/v1/memories/{memory['id']}")).json()["content"] is None
    listed = (await client.get("/v1/memories", params={"agent": "agent:desk", "status": "ACTIVE"})).json()["items"]
    assert [one["content"] for one in listed] == ["invoices are paid within ten days"]
    [day] = (await client.get("/v1/memories/activity")).json()
    assert (day["agent"], day["learned"], day["used"]) == ("agent:desk", 2, 1)
    assert len((await client.get("/v1/memories/indexes")).json()) == 1


async def test_a_memory_takes_the_place_of_another_and_is_written_once(client: httpx2.AsyncClient) -> None:
    first = (await client.post("/v1/memories", json=TEA)).json()
    known = str(new_id())
    body = {**TEA, "content": "Ada likes coffee", "supersedes": first["id"], "id": known}
    assert (await client.post("/v1/memories", json=body)).json()["id"] == known
    assert (await client.post("/v1/memories", json=body)).status_code == 409
    story = (await client.get(f"/v1/memories/{first['id']}/story")).json()
    assert [one["id"] for one in story["later"]] == [known]
    assert [one["id"] for one in (await client.get(f"/v1/memories/{known}/story")).json()["earlier"]] == [first["id"]]


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"content": ""}, 422, "content"),
        ({"content": "x" * 70_000}, 422, "content"),
        ({"content": "é" * 40_000}, 422, "content"),
        ({"context": "dream"}, 422, "context"),
        ({"tags": [""]}, 422, "tags"),
        ({"importance": 2}, 422, "importance"),
        ({"run_id": str(uuid4())}, 404, "Run"),
        ({"run_id": str(uuid4()), "step_id": str(uuid4())}, 422, "run_id"),
        ({"supersedes": str(uuid4())}, 404, "Memory"),
        ({"colour": "red"}, 422, "colour"),
    ],
)
async def test_what_cannot_be_remembered_is_refused_by_name(
    client: httpx2.AsyncClient, change: dict[str, object], status: int, field: str
) -> None:
    answer = await client.post("/v1/memories", json={**TEA, **change})
    assert (answer.status_code, field in answer.text) == (status, True), answer.text
    assert (await client.get("/v1/memories")).json()["items"] == []


async def test_what_another_tenant_remembers_does_not_exist(service: Service, client: httpx2.AsyncClient, plane: Plane) -> None:
    memory = (await client.post("/v1/memories", json=TEA)).json()
    await embed(plane)
    other = await plane.tenants.create("other", actor=ACTOR)
    async with service.client(other) as stranger:
        assert (await stranger.get(f"/v1/memories/{memory['id']}")).status_code == 404
        assert (await stranger.get(f"/v1/memories/{memory['id']}/story")).status_code == 404
        assert (await stranger.get("/v1/memories/search", params={"text": "tea"})).json()["found"] == []
        assert (await stranger.post("/v1/memories/recalls", json={"memories": [memory["id"]], "agent": "x"})).status_code == 404
        for what in ("prune", "restore", "forget"):
            path = f"/v1/memories/{memory['id']}/{what}"
            assert (await stranger.post(path, json={"reason": "x"}, headers={"If-Match": "*"})).status_code == 404
    async with service.client(other, Role.READER) as reader:
        assert (await reader.post("/v1/memories", json=TEA)).status_code == 403


async def test_a_run_shows_what_it_learned_and_what_it_remembered(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        alone = tx.memories.remember("on its own", agent="agent:desk", context="doc")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="talk")
        step = tx.steps.start(run, step_type="listen")
        learned = tx.memories.remember("Ada likes tea", agent="agent:desk", context="chat", origin=step)
        tx.memory_recalls.record([alone], agent="agent:desk", origin=run)
    await embed(plane)
    async with plane.snapshot(tenant.tenant_id, actor=ACTOR) as tx:
        trace = await trace_run(tx, run.id)
        by_itself = await trace_correlation(tx, alone.correlation_id)
        causes = await causation_of(tx, run.correlation_id)
        behind = await search_runs(tx, str(learned.id))
    [root] = trace.roots
    assert {child.kind for child in root.children} == {"step", "recall"}
    [memory] = next(child for child in root.children if child.kind == "step").children
    assert (memory.kind, memory.name) == ("memory", "Ada likes tea")
    assert [(one.kind, one.name, one.status) for one in memory.children] == [("effect", "EMBED", "EXECUTED")]
    assert [(one.kind, [part.kind for part in one.children]) for one in by_itself.roots] == [("memory", ["effect"])]
    assert causes.breaks == []
    assert [(one.what, one.run_id) for one in behind] == [("memory", run.id)]


async def test_the_console_searches_and_shows_a_memory_with_its_story(
    service: Service, client: httpx2.AsyncClient, plane: Plane, tenant: Tenant
) -> None:
    memory = (await client.post("/v1/memories", json={**TEA, "content": "Ada likes <b>tea</b>"})).json()
    await client.post("/v1/memories/recalls", json={"memories": [memory["id"]], "agent": "agent:desk"})
    async with service.console(tenant) as browser:
        before = (await browser.get("/console/memories?text=tea")).text
        assert "By words only: no index" in before
        await embed(plane)
        page = (await browser.get("/console/memories?text=what+does+Ada+like&agent=agent%3Adesk")).text
        assert f"/console/memories/{memory['id']}" in page
        assert "&lt;b&gt;tea" in page
        assert "<b>tea" not in page
        assert "1 learned, 1 used" in page
        assert "hashing-256" in page
        story = (await browser.get(f"/console/memories/{memory['id']}")).text
        for text in ("MEMORY_REMEMBERED", "agent:desk", "EXECUTED", "hashing-256", "with 0 others"):
            assert text in story
        effect = (await client.get(f"/v1/memories/{memory['id']}/story")).json()["effects"][0]
        assert memory["id"] in (await browser.get(f"/console/effects/{effect['id']}")).text
        assert (await browser.get(f"/console/memories/{uuid4()}")).status_code == 404
        assert (await browser.get("/console/memories?at=yesterday&text=x")).status_code == 422
