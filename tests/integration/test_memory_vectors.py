"""Vectors of memories: asked for with them, made by the worker, searched with words, kept by the database as the log says."""

import json
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import psycopg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from persistence import Plane
from persistence.errors import ConfigurationError, InvalidInput
from persistence.models import Effect, Memory, MemoryIndex, Tenant
from persistence.outbox import Worker
from persistence.outbox.embed_handler import add_embed_handler
from persistence.repositories.memory_search import ANY, MemoryFilter
from persistence.stores.memory import Backends, Embedder, MemorySearch, Request, Upkeep, VectorConfig
from persistence.stores.memory.models.hashing import FeatureHashing
from persistence.vault import Opener
from tests.helpers import ACTOR, let_time_pass
from tests.vector_servers import served

TEXTS = ["Ada likes tea", "the meeting is on Monday", "invoices are paid within ten days", "Ada's cat is called Mochi"]


async def remembered(plane: Plane, tenant: Tenant, *texts: str, **more: Any) -> list[Memory]:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        return [tx.memories.remember(text, **{"agent": "agent:desk", "context": "chat", **more}) for text in texts]


async def embedded(plane: Plane, config: VectorConfig | None = None) -> int:
    async with Backends(plane, config) as backends:
        return await add_embed_handler(Worker(name="tester", listen=False), backends).drain(plane, until="settled", timeout=60)


async def once(plane: Plane, config: VectorConfig) -> int:
    """Delivers what is due, and no more."""
    async with Backends(plane, config) as backends:
        return await add_embed_handler(Worker(name="tester", listen=False), backends).drain(plane, timeout=60)


async def effects(plane: Plane, tenant: Tenant) -> list[Effect]:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        return list(await tx.effects.all(effect_type="EMBED"))


async def index_of(plane: Plane, tenant: Tenant) -> MemoryIndex:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        index = await tx.memory_indexes.searched()
    assert index is not None
    return index


class Provider:
    """A server that answers as OpenAI does; ``answer`` may say otherwise."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.answer: Callable[[dict[str, Any]], Response | None] = lambda body: None

    async def embeddings(self, request: HttpRequest) -> Response:
        body = await request.json()
        self.asked.append((dict(request.headers), body))
        data = [{"index": n, "embedding": FeatureHashing(32).vector(text)} for n, text in enumerate(body["input"])]
        return self.answer(body) or JSONResponse({"data": data[::-1], "model": body["model"]})

    async def embed(self, request: HttpRequest) -> Response:
        body = await request.json()
        self.asked.append((dict(request.headers), body))
        return JSONResponse({"embeddings": [FeatureHashing(32).vector(text) for text in body["input"]]})

    @property
    def texts(self) -> list[list[str]]:
        return [body["input"] for _, body in self.asked]


@asynccontextmanager
async def provided() -> AsyncIterator[tuple[Provider, VectorConfig]]:
    provider = Provider()
    app = Starlette(
        routes=[
            Route("/v1/embeddings", provider.embeddings, methods=["POST"]),
            Route("/api/embed", provider.embed, methods=["POST"]),
        ]
    )
    async with served(app) as port:
        url = f"http://127.0.0.1:{port}"
        yield provider, VectorConfig(embedding_model="small", embedding_url=f"{url}/v1", embedding_key="none")


async def test_a_memory_is_found_by_its_words_and_by_its_vector(plane: Plane, tenant: Tenant) -> None:
    await remembered(plane, tenant, *TEXTS)
    assert await embedded(plane) == 4
    async with Backends(plane) as backends:
        findings = await MemorySearch(backends).search(tenant.tenant_id, "what is the cat's name", actor=ACTOR, limit=2)
    assert findings.found[0].memory.content == TEXTS[3]
    assert findings.found[0].why.keys() == {"words_rank", "words_score", "vectors_rank", "vectors_score"}
    assert findings.index is not None
    assert (findings.index.model, findings.index.dimensions, findings.index.store) == ("hashing-256", 256, "pgvector")


async def test_a_search_without_an_index_says_so(plane: Plane, tenant: Tenant) -> None:
    await remembered(plane, tenant, *TEXTS)
    async with Backends(plane) as backends:
        search = MemorySearch(backends)
        findings = await search.search(tenant.tenant_id, "tea", actor=ACTOR)
        assert ([one.memory.content for one in findings.found], findings.index) == ([TEXTS[0]], None)
        assert findings.without is not None
        assert "no index" in findings.without
        with pytest.raises(ConfigurationError, match="a worker that delivers EMBED"):
            await search.search(tenant.tenant_id, "tea", actor=ACTOR, mode="vectors")
        with pytest.raises(InvalidInput, match="mode"):
            await search.search(tenant.tenant_id, "tea", actor=ACTOR, mode="guess")  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="limit"):
            await search.search(tenant.tenant_id, "tea", actor=ACTOR, limit=0)


async def test_a_story_tells_of_vectors_that_were_made_for_it(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="talk")
        memory = tx.memories.remember("Ada likes tea", agent="agent:desk", context="chat", origin=run)
    await embedded(plane)
    [effect] = await effects(plane, tenant)
    assert (effect.memory_id, effect.run_id, effect.correlation_id) == (memory.id, None, run.correlation_id)
    assert effect.status == "EXECUTED"
    index = await index_of(plane, tenant)
    assert effect.execution_result is not None
    assert effect.execution_result["indexes"][str(index.id)]["done"] == "made"


async def test_the_key_of_a_model_comes_from_the_vault_and_its_reading_is_on_the_record(plane: Plane, tenant: Tenant) -> None:
    plane.vault.vault.create([Opener("environment", bytearray(range(32)))])
    await plane.vault.changed("created")
    await plane.secrets.set(tenant.tenant_id, "openai", "sk-abc", actor=ACTOR)
    await remembered(plane, tenant, *TEXTS)
    async with provided() as (provider, config):
        config = config.model_copy(update={"embedding_model": "text-embedding-ada-002", "embedding_key": "openai"})
        provider.answer = lambda body: JSONResponse(
            {"data": [{"index": n, "embedding": [1.0] * 1536} for n in range(len(body["input"]))]}
        )
        await embedded(plane, config)
        [(headers, body)] = provider.asked
    assert headers["authorization"] == "Bearer sk-abc"
    assert (body["model"], sorted(body["input"])) == ("text-embedding-ada-002", sorted(TEXTS))
    assert (await index_of(plane, tenant)).dimensions == 1536
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        events, _ = await tx.events.newest(types=["SECRET_READ"])
    assert [event.event_data["purpose"] for event, _ in events] == ["vectors of memories"]
    assert "sk-abc" not in str(events)


async def test_ollama_is_asked_as_it_is_documented_to_be(plane: Plane, tenant: Tenant) -> None:
    await remembered(plane, tenant, *TEXTS)
    async with provided() as (provider, config):
        url = config.embedding_url.removesuffix("/v1")
        await embedded(plane, config.model_copy(update={"embedding_model": "ollama:nomic", "embedding_url": url}))
        assert {body["model"] for _, body in provider.asked} == {"nomic"}
    assert (await index_of(plane, tenant)).model == "ollama:nomic"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_model_that_takes_nothing_now_is_no_failure(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection, status: int
) -> None:
    await remembered(plane, tenant, *TEXTS)
    async with provided() as (provider, config):
        provider.answer = lambda body: (
            JSONResponse({}, status, headers={"Retry-After": "1"}) if "how many dimensions" not in body["input"] else None
        )
        for _ in range(3):
            await once(plane, config)
            let_time_pass(admin)
        assert {(effect.status, effect.retry_count) for effect in await effects(plane, tenant)} == {("PENDING", 0)}
        provider.answer = lambda body: None
        await once(plane, config)
    assert {effect.status for effect in await effects(plane, tenant)} == {"EXECUTED"}


ODD: dict[str, Callable[[dict[str, Any]], Response]] = {
    "an error": lambda body: JSONResponse({"error": "no"}, 500),
    "no key": lambda body: JSONResponse({"error": "no"}, 401),
    "no json": lambda body: Response("<html>"),
    "no data": lambda body: JSONResponse({"data": 5}),
    "too few": lambda body: JSONResponse({"data": []}),
    "words": lambda body: JSONResponse({"data": [{"index": n, "embedding": ["a"] * 32} for n in range(len(body["input"]))]}),
    "zeros": lambda body: JSONResponse({"data": [{"index": n, "embedding": [0] * 32} for n in range(len(body["input"]))]}),
    "no numbers": lambda body: Response(
        json.dumps({"data": [{"index": n, "embedding": [math.nan] * 32} for n in range(len(body["input"]))]})
    ),
    "other dimensions": lambda body: JSONResponse(
        {"data": [{"index": n, "embedding": [1.0] * 31} for n in range(len(body["input"]))]}
    ),
}


@pytest.mark.parametrize("name", ODD)
async def test_what_is_no_vector_is_not_kept_and_is_tried_again(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection, name: str
) -> None:
    await remembered(plane, tenant, *TEXTS)
    async with provided() as (provider, config):
        provider.answer = lambda body: None if "how many dimensions" in body["input"] else ODD[name](body)
        await once(plane, config)
        found = await effects(plane, tenant)
        assert {effect.status for effect in found} == {"PENDING"}
        assert min(effect.retry_count for effect in found) >= 1
        assert admin.execute("SELECT count(*) FROM persistence.memory_vectors").fetchone() == (0,)
        provider.answer = lambda body: None
        let_time_pass(admin)
        await once(plane, config)
    assert {effect.status for effect in await effects(plane, tenant)} == {"EXECUTED"}


async def test_one_bad_text_stops_nobody(plane: Plane, tenant: Tenant) -> None:
    await remembered(plane, tenant, *TEXTS, "bad", *(f"number {n}" for n in range(20)))
    async with provided() as (provider, config):
        provider.answer = lambda body: JSONResponse({"error": "too long"}, 400) if "bad" in body["input"] else None
        await embedded(plane, config)
    ends = {(effect.status, (effect.error_details or {}).get("message")) for effect in await effects(plane, tenant)}
    assert ends == {("EXECUTED", None), ("DEAD_LETTER", 'small: answered 400: {"error":"too long"}')}
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert len(await tx.memories.held(await index_of(plane, tenant))) == 24


async def test_what_was_made_is_not_made_again(plane: Plane, tenant: Tenant) -> None:
    memories = await remembered(plane, tenant, *TEXTS, TEXTS[0])
    async with provided() as (provider, config):
        await embedded(plane, config)
        assert sorted(text for texts in provider.texts[1:] for text in texts) == sorted(TEXTS)  # the same text once
        provider.asked.clear()
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            for memory in await tx.memories.get_many([memory.id for memory in memories]):
                tx.memories.embed(memory, key="again")
        await embedded(plane, config)
        assert provider.asked == []
        async with Backends(plane, config) as backends:  # as by a worker that was lost before it could say so
            said = await Embedder(backends).embed(tenant.tenant_id, [Request(memories[0].id), Request(memories[1].id)])
    index = await index_of(plane, tenant)
    assert said == [{"indexes": {str(index.id): {"done": "there"}}}] * 2


async def test_batched_they_go_together_and_a_text_of_another_tenant_stays_apart(plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor=ACTOR)
    async with provided() as (provider, config):
        config = VectorConfig.model_validate({**config.model_dump(), "mode": "batched", "sync_interval": "200ms", "batch": 50})
        for n in range(10):
            await remembered(plane, tenant, f"a{n}")
            await remembered(plane, other, f"b{n}")
        await embedded(plane, config)
        asked = [texts for texts in provider.texts if texts != ["how many dimensions"]]
    assert len(asked) <= 4
    assert all(len({text[0] for text in texts}) == 1 for texts in asked)
    assert sum(map(len, asked)) == 20


async def test_the_configuration_is_read_again_when_it_changes(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persistence.stores.memory.backends._LOOK_EVERY", -1.0)
    file = plane.settings.config_folder / "vector_config.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    async with Backends(plane) as backends:
        assert backends.model().name == "hashing-256"
        file.write_text("vector:\n  embedding_model: hashing-512\n  sync_interval: 5s\n")
        assert backends.model().name == "hashing-512"
        file.write_text("vector:\n  embedding_modell: x\n")
        assert backends.model().name == "hashing-512"
        file.write_text("vector:\n  provider: qdrant\n  host: localhost\n  collection: agent_memory\n  mode: streaming\n")
        assert backends.config.provider == "qdrant"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("vector:\n  provider: oracle\n", "provider"),
        ("vector:\n  sync_interval: 0s\n", "sync_interval"),
        ("vector:\n  batch: 0\n", "batch"),
        ("vector:\n  embedding_url: ftp://x\n", "embedding_url"),
        ("vector:\n  collection: ../x\n", "collection"),
    ],
)
async def test_a_configuration_that_is_wrong_is_refused_by_file_and_key(plane: Plane, text: str, problem: str) -> None:
    file = plane.settings.config_folder / "vector_config.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=f"vector_config.yaml.*{problem}"):
        Backends(plane)


@pytest.mark.parametrize("name", ["hashing", "hashing-", "hashing-8", "hashing-256x", "hashing-99999"])
async def test_a_model_that_there_is_not_is_refused(plane: Plane, name: str) -> None:
    with pytest.raises(ConfigurationError, match="embedding_model"):
        Backends(plane, VectorConfig(embedding_model=name)).model()


async def test_who_used_a_memory_is_on_the_record_and_what_nobody_used_is_weak(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    tea, meeting, invoices, _ = await remembered(plane, tenant, *TEXTS)
    await remembered(plane, tenant, "matters", importance=1.0)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="talk")
        recall = tx.memory_recalls.record(await tx.memories.search("ada likes tea"), agent="agent:desk", origin=run)
        tx.memory_recalls.record([invoices, meeting], agent="agent:desk")
        tx.memory_recalls.record([invoices], agent="agent:desk")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        [used] = await tx.memory_recalls.of(tea)
        assert (used.id, used.run_id, used.memories, used.agent) == (recall.id, run.id, [tea.id], "agent:desk")
        assert len(await tx.memory_recalls.of(invoices)) == 2
        assert await tx.memories.weakest(timedelta(days=30)) == []
    admin.execute("UPDATE persistence.memories SET created_at = created_at - interval '90 days'")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        weakest = await tx.memories.weakest(timedelta(days=30))
        texts = [(await tx.memories.get(hit.id)).content for hit in weakest]
    assert texts == [TEXTS[3], *sorted((TEXTS[1], TEXTS[0]), key=texts.index), "matters", TEXTS[2]]
    assert weakest[0].score == pytest.approx(0.5 / 8, rel=0.01)


async def test_vectors_of_another_tenant_are_neither_seen_nor_written(plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor=ACTOR)
    [memory] = await remembered(plane, tenant, TEXTS[0])
    await embedded(plane)
    index = await index_of(plane, tenant)
    vector = FeatureHashing(256).vector("x")
    async with plane.transaction(other.tenant_id, actor=ACTOR) as tx:
        assert await tx.memories.nearest(index, vector) == []
        assert await tx.memories.held(index) == []
        assert await tx.memories.vectors(index, [memory.id]) == {}
    async with plane.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('app.tenant_id', $1, true)", str(other.tenant_id))
        assert await connection.fetch("SELECT * FROM persistence.memory_vectors") == []
    for statement in (
        "UPDATE persistence.memory_vectors SET embedding = '{}'",
        "DELETE FROM persistence.memory_vectors",
        "INSERT INTO persistence.memory_vectors SELECT * FROM persistence.memory_vectors",
    ):
        async with plane.pool.acquire() as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


async def test_without_pgvector_the_same_is_found(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    await remembered(plane, tenant, *(f"number {n} of many" for n in range(100)))
    await embedded(plane)
    index, vector = await index_of(plane, tenant), FeatureHashing(256).vector("number 42")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        by_extension = await tx.memories.nearest(index, vector, limit=20)
    admin.execute("DROP EXTENSION vector CASCADE")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        by_hand = await tx.memories.nearest(index, vector, limit=20)
    assert [hit.score for hit in by_hand] == pytest.approx([hit.score for hit in by_extension], abs=1e-5)
    assert by_hand[0].id == by_extension[0].id


class Cloud:
    """Many memories whose vectors are drawn at random, and what is nearest among them by comparing all."""

    dimensions = 128

    def __init__(self, plane: Plane, tenant: Tenant, seed: int = 7) -> None:
        self.plane, self.tenant = plane, tenant
        self.random = random.Random(seed)
        self.vectors: dict[Any, list[float]] = {}
        self.tags: dict[Any, set[str]] = {}

    def vector(self) -> list[float]:
        numbers = [self.random.gauss(0, 1) for _ in range(self.dimensions)]
        length = math.sqrt(sum(number * number for number in numbers))
        return [number / length for number in numbers]

    async def grow(self, count: int, tags: Callable[[int], set[str]] = lambda n: set(), alike: bool = False) -> None:
        tenant_id = self.tenant.tenant_id
        async with Backends(self.plane, VectorConfig(embedding_model=f"hashing-{self.dimensions}")) as backends:
            [self.index] = await Embedder(backends).indexes(tenant_id)
            store = await backends.store(tenant_id, "pgvector")
            one = self.vector()
            for first in range(0, count, 1000):
                async with self.plane.transaction(tenant_id, actor=ACTOR) as tx:
                    memories = [
                        tx.memories.remember(
                            f"text {self.random.random()}", agent="agent:desk", context="doc", tags=sorted(tags(n)), embed=False
                        )
                        for n in range(first, min(first + 1000, count))
                    ]
                records = []
                for n, memory in enumerate(memories, first):
                    self.vectors[memory.id] = one if alike else self.vector()
                    self.tags[memory.id] = tags(n)
                    records.append(_record_of(memory, self.vectors[memory.id]))
                await store.write(self.index, records)

    def exact(self, vector: list[float], tag: str | None, limit: int) -> list[Any]:
        may = [one for one in self.vectors if tag is None or tag in self.tags[one]]
        return sorted(may, key=lambda one: -math.sumprod(self.vectors[one], vector) if hasattr(math, "sumprod") else -sum(
            a * b for a, b in zip(self.vectors[one], vector, strict=True)))[:limit]  # fmt: skip

    async def recall(self, tag: str | None = None, *, queries: int = 10, limit: int = 10) -> float:
        """The part of the nearest that is found. As many as there are, each time."""
        right = 0
        async with self.plane.transaction(self.tenant.tenant_id, actor=ACTOR) as tx:
            for _ in range(queries):
                vector = self.vector()
                hits = await tx.memories.nearest(
                    self.index, vector, MemoryFilter(tags=(tag,)) if tag is not None else ANY, limit=limit
                )
                wanted = self.exact(vector, tag, limit)
                assert len(hits) == len(wanted)
                assert sorted((hit.score for hit in hits), reverse=True) == [hit.score for hit in hits]
                right += len({hit.id for hit in hits} & set(wanted))
        return right / (queries * limit)


def _record_of(memory: Memory, vector: list[float]) -> Any:
    from persistence.stores.memory import VectorRecord

    return VectorRecord(memory.id, memory.digest, vector, memory.agent, memory.context, memory.tags or (), datetime.now(UTC))


async def test_the_index_finds_what_comparing_all_finds_also_with_filters_and_after_deletions(plane: Plane, tenant: Tenant) -> None:
    """What pgvector tries of its own index (012 recall, 017 and 044 filters and iterative scans, 046 and 047 after deletions), through ours."""
    cloud = Cloud(plane, tenant)
    await cloud.grow(3500, lambda n: {"half"} if n % 2 else {"few"} if n % 100 == 0 else {"rest"})
    assert await cloud.recall() >= 0.9  # a cloud without any structure is the hardest there is
    assert await cloud.recall("half") >= 0.9
    assert await cloud.recall("few") == 1.0
    assert await cloud.recall("half", limit=200, queries=2) >= 0.9
    assert await cloud.recall("none", queries=2) == 0.0
    gone = list(cloud.vectors)[::5]
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        for memory in await tx.memories.get_many(gone):
            tx.memories.forget(memory, "tried")
            del cloud.vectors[memory.id]
    assert await cloud.recall() >= 0.9
    assert await cloud.recall("half", limit=200, queries=2) >= 0.9


async def test_vectors_that_are_alike_are_all_found(plane: Plane, tenant: Tenant) -> None:
    cloud = Cloud(plane, tenant)
    await cloud.grow(2200, alike=True)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert len(await tx.memories.nearest(cloud.index, cloud.vector(), limit=500)) == 500


async def test_a_model_that_cannot_be_asked_does_not_begin_an_index(plane: Plane, tenant: Tenant) -> None:
    async with provided() as (provider, config):
        provider.answer = lambda body: JSONResponse({}, 500)
        async with Backends(plane, config) as backends:
            with pytest.raises(Exception, match="answered 500"):
                await Upkeep(backends).begin(tenant.tenant_id, actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.memory_indexes.all() == []
