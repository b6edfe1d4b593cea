"""What every store of vectors promises, tried on each: pgvector, Qdrant, Chroma and Milvus as they are; Weaviate and Pinecone against stand-ins."""

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from persistence import Plane
from persistence.errors import ConfigurationError, PersistenceError
from persistence.models import Memory, MemoryIndex, Tenant
from persistence.outbox import Worker
from persistence.outbox.embed_handler import add_embed_handler
from persistence.repositories.memory_search import ANY, MemoryFilter
from persistence.stores.memory import (
    Backends,
    MemorySearch,
    StoreFailed,
    Upkeep,
    VectorConfig,
    VectorRecord,
    VectorStore,
    open_store,
)
from tests.helpers import ACTOR
from tests.vector_servers import pinecone, served, weaviate

NAMES = ["pgvector", "qdrant", "chroma", "milvus", "weaviate", "pinecone"]
KEY = "pc-abc"
TEXTS = ["Ada likes tea", "the meeting is on Monday", "invoices are paid within ten days", "Ada's cat is called Mochi"]


@dataclass
class World:
    """A tenant whose vectors are kept in one of the stores."""

    plane: Plane
    tenant: Tenant
    backends: Backends

    async def store(self) -> VectorStore:
        return await self.backends.store(self.tenant.tenant_id, self.backends.config.provider)

    async def remember(self, *texts: str, agent: str = "agent:desk", tags: tuple[str, ...] = ()) -> list[Memory]:
        async with self.plane.transaction(self.tenant.tenant_id, actor=ACTOR) as tx:
            ids = [tx.memories.remember(text, agent=agent, context="chat", tags=tags).id for text in texts]
        async with self.plane.transaction(self.tenant.tenant_id, actor=ACTOR) as tx:
            return list(await tx.memories.get_many(ids))

    async def work(self) -> None:
        worker = add_embed_handler(Worker(name="tester", listen=False), self.backends)
        await worker.drain(self.plane, until="settled", timeout=120)

    async def index(self) -> MemoryIndex:
        async with self.plane.transaction(self.tenant.tenant_id, actor=ACTOR) as tx:
            index = await tx.memory_indexes.searched()
        assert index is not None
        return index

    async def held(self, index: MemoryIndex | None = None) -> dict[Any, str]:
        index = index or await self.index()
        return {memory_id: digest async for memory_id, digest in (await self.store()).held(index)}

    async def found(self, text: str, limit: int = 10, **among: Any) -> list[str | None]:
        findings = await MemorySearch(self.backends).search(
            self.tenant.tenant_id, text, MemoryFilter(**among), actor=ACTOR, mode="vectors", limit=limit
        )
        return [one.memory.content for one in findings.found]

    async def change(self, what: str, memory: Memory) -> None:
        async with self.plane.transaction(self.tenant.tenant_id, actor=ACTOR) as tx:
            getattr(tx.memories, what)(await tx.memories.get(memory.id), "tried")


@pytest.fixture(params=NAMES)
async def world(request: pytest.FixtureRequest, plane: Plane, tenant: Tenant, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        settings: dict[str, object] = {"provider": request.param, "embedding_model": "hashing-64"}
        if request.param in {"qdrant", "chroma", "milvus"}:
            settings["path"] = tmp_path / "vectors"
        elif request.param == "weaviate":
            settings |= {"host": "127.0.0.1", "port": await stack.enter_async_context(served(weaviate()))}
        elif request.param == "pinecone":
            port = await stack.enter_async_context(served(pinecone(KEY)))
            settings |= {"host": "127.0.0.1", "port": port, "store_key": "pinecone"}
        backends = await stack.enter_async_context(Backends(plane, VectorConfig.model_validate(settings)))
        backends._keys[tenant.tenant_id, "pinecone"] = KEY, math.inf
        yield World(plane, tenant, backends)


def as_record(memory: Memory, vector: list[float]) -> VectorRecord:
    assert memory.created_at is not None
    return VectorRecord(memory.id, memory.digest, vector, memory.agent, memory.context, memory.tags or (), memory.created_at)


async def test_what_is_remembered_is_found_by_its_vector(world: World) -> None:
    memories = await world.remember(*TEXTS)
    await world.work()
    assert await world.held() == {memory.id: memory.digest for memory in memories}
    assert (await world.found("what is the cat of Ada called"))[0] == TEXTS[3]
    assert len(await world.found("anything", limit=4)) == 4


async def test_what_is_written_twice_is_there_once(world: World) -> None:
    [memory] = await world.remember(TEXTS[0])
    await world.work()
    store, index = await world.store(), await world.index()
    vector = world.backends.model().vector(TEXTS[0])  # type: ignore[attr-defined]
    first = await store.write(index, [as_record(memory, vector)])
    assert await store.write(index, [as_record(memory, vector)]) == first
    assert await world.held() == {memory.id: memory.digest}


async def test_the_nearest_come_first_with_the_cosine_as_their_score(world: World) -> None:
    memories = await world.remember(*(f"number {n}" for n in range(5)))
    await world.work()
    store, index = await world.store(), await world.index()
    angles = [0.1 + 0.3 * n for n in range(5)]
    vectors = [[math.cos(angle), math.sin(angle), *[0.0] * 62] for angle in angles]
    await store.write(index, [as_record(memory, vector) for memory, vector in zip(memories, vectors, strict=True)])
    hits = await store.nearest(index, [1.0, *[0.0] * 63], ANY, 5)
    assert [hit.id for hit in hits] == [memory.id for memory in memories]
    assert [hit.score for hit in hits] == pytest.approx([math.cos(angle) for angle in angles], abs=1e-3)


async def test_filters_leave_as_many_as_were_asked_for_while_there_are_so_many(world: World) -> None:
    await world.remember(*(f"tea number {n}" for n in range(200)), agent="agent:other")
    await world.remember(*(f"coffee number {n}" for n in range(6)), tags=("hot",))
    await world.work()
    assert len(await world.found("tea number 7", agent="agent:desk", limit=6)) == 6
    assert len(await world.found("tea number 7", tags=("hot",), limit=6)) == 6
    assert len(await world.found("tea number 7", context="doc")) == 0
    assert len(await world.found("coffee number 7", limit=120)) == 120


async def test_agents_of_any_name_are_told_apart(world: World) -> None:
    name = 'agent:"a\'b\\c" or 1 == 1 é {x} \u2028'
    await world.remember("Ada likes tea", agent=name)
    await world.remember("Ada likes coffee")
    await world.work()
    assert await world.found("Ada likes", agent=name) == ["Ada likes tea"]


async def test_what_is_left_aside_or_does_not_hold_any_more_is_not_found(world: World) -> None:
    tea, meeting, *_ = await world.remember(*TEXTS)
    await world.work()
    before = datetime.now(UTC)
    await world.change("prune", tea)
    async with world.plane.transaction(world.tenant.tenant_id, actor=ACTOR) as tx:
        tx.memories.remember("the meeting is on Tuesday", agent="agent:desk", context="chat", supersedes=meeting)
    await world.work()
    now = await world.found("Ada likes tea on Monday", limit=10)
    assert TEXTS[0] not in now
    assert TEXTS[1] not in now
    assert len(now) == 3
    assert set(await world.found("Ada likes tea on Monday", limit=10, at=before)) == set(TEXTS)
    await world.change("restore", tea)
    assert (await world.found("Ada likes tea"))[0] == TEXTS[0]


async def test_what_is_forgotten_is_gone_from_the_store(world: World) -> None:
    tea, *others = await world.remember(*TEXTS)
    await world.work()
    await world.change("forget", tea)
    await world.work()
    assert (await world.held()).keys() == {memory.id for memory in others}
    assert TEXTS[0] not in await world.found("Ada likes tea", limit=10)


async def test_what_is_forgotten_while_its_vector_is_written_is_not_kept(world: World) -> None:
    [tea] = await world.remember(TEXTS[0])
    await world.work()
    store, index = await world.store(), await world.index()
    await world.change("forget", tea)
    assert await store.write(index, [as_record(tea, [1.0, *[0.0] * 63])]) == {}
    assert await world.held() == {}


async def test_a_new_generation_is_made_beside_the_old_and_searched_once_it_is_whole(world: World) -> None:
    await world.remember(*TEXTS)
    await world.work()
    old = await world.index()
    tenant_id, upkeep = world.tenant.tenant_id, Upkeep(world.backends)
    new, asked = await upkeep.begin(tenant_id, actor=ACTOR)
    assert (asked, (await world.index()).id) == (4, old.id)
    with pytest.raises(PersistenceError, match="lacks the vectors of 4 of 4 memories"):
        await upkeep.activate(tenant_id, new.id, "tried", actor=ACTOR)
    await world.remember("said meanwhile")
    await world.work()
    assert len(await world.held(new)) == len(await world.held(old)) == 5
    await upkeep.activate(tenant_id, new.id, "tried", actor=ACTOR)
    assert (await world.index()).id == new.id
    await upkeep.activate(tenant_id, old.id, "the new one was worse", actor=ACTOR)
    await upkeep.retire(tenant_id, new.id, "not needed", actor=ACTOR)
    assert await world.held(new) == {}
    assert len(await world.found("Ada likes tea", limit=10)) == 5


async def test_what_is_missing_and_what_is_too_much_is_found_and_made_good(world: World) -> None:
    tea, meeting, *_ = memories = await world.remember(*TEXTS)
    await world.work()
    store, index, upkeep = await world.store(), await world.index(), Upkeep(world.backends)
    assert (await upkeep.compare(world.tenant.tenant_id, index, actor=ACTOR)).is_whole
    if index.store == "pgvector":  # which keeps nobody else's vectors, and drops none by itself
        return
    await store.remove(index, [tea.id])
    stray = as_record(meeting.model_copy(update={"id": uuid7()}), [1.0, *[0.0] * 63])
    await store.put(index, [stray])  # type: ignore[attr-defined]
    found = await upkeep.compare(world.tenant.tenant_id, index, actor=ACTOR)
    assert (found.memories, found.missing, found.surplus, found.is_whole) == (4, 1, 1, False)
    assert set(found.examples) == {tea.id, stray.memory_id}
    await upkeep.rebuild(world.tenant.tenant_id, index, actor=ACTOR)
    assert (await upkeep.compare(world.tenant.tenant_id, index, actor=ACTOR)).asked_for == 1
    await world.work()
    assert (await upkeep.compare(world.tenant.tenant_id, index, actor=ACTOR)).is_whole
    assert await world.held() == {memory.id: memory.digest for memory in memories}


async def test_tenants_are_apart(world: World) -> None:
    await world.remember(*TEXTS)
    other = await world.plane.tenants.create("other", actor=ACTOR)
    world.backends._keys[other.tenant_id, "pinecone"] = KEY, math.inf
    elsewhere = World(world.plane, other, world.backends)
    await elsewhere.remember("Ada likes beer")
    await world.work()
    assert await elsewhere.found("Ada likes tea", limit=10) == ["Ada likes beer"]
    assert set(await world.found("Ada likes beer", limit=10)) == set(TEXTS)
    theirs = await (await elsewhere.store()).nearest(await elsewhere.index(), [1.0, *[0.0] * 63], MemoryFilter(), 10)
    assert len(theirs) == 1
    ours = await (await elsewhere.store()).nearest(await world.index(), [1.0, *[0.0] * 63], MemoryFilter(), 10)
    assert ours == []


@pytest.mark.parametrize("vector", [[1.0] * 63, [math.nan] * 64, [1e30] * 64, [0.0] * 64], ids=["short", "nan", "long", "zeros"])
async def test_the_database_keeps_vectors_of_length_one_with_the_dimensions_of_their_index(
    plane: Plane, tenant: Tenant, vector: list[float]
) -> None:
    async with Backends(plane, VectorConfig(embedding_model="hashing-64")) as backends:
        world = World(plane, tenant, backends)
        [memory] = await world.remember(TEXTS[0])
        await world.work()
        with pytest.raises(PersistenceError):
            await (await world.store()).write(await world.index(), [as_record(memory, vector)])
        assert len(await world.held()) == 1


@pytest.mark.parametrize("name", ["qdrant", "chroma", "milvus", "weaviate", "pinecone"])
async def test_a_store_that_is_away_says_so_and_words_are_searched_all_the_same(plane: Plane, tenant: Tenant, name: str) -> None:
    nowhere = VectorConfig(provider=name, host="127.0.0.1", port=9, embedding_model="hashing-64", store_key="key")  # type: ignore[arg-type]
    async with Backends(plane, nowhere) as backends:
        backends._keys[tenant.tenant_id, "key"] = KEY, math.inf
        world = World(plane, tenant, backends)
        [memory] = await world.remember(TEXTS[0])
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            index = tx.memory_indexes.begin(store=name, model="hashing-64", dimensions=64)
            tx.memory_indexes.activate(index)
        with pytest.raises(StoreFailed, match=name):
            await (await world.store()).write(index, [as_record(memory, [1.0, *[0.0] * 63])])
        findings = await MemorySearch(backends).search(tenant.tenant_id, "tea", actor=ACTOR)
        assert [one.memory.content for one in findings.found] == [TEXTS[0]]
        assert findings.without is not None
        assert name in findings.without


async def test_a_store_whose_extra_is_missing_says_what_to_install(
    plane: Plane, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "qdrant_client", None)
    monkeypatch.delitem(__import__("sys").modules, "persistence.stores.memory.vectors.qdrant", raising=False)
    with pytest.raises(ConfigurationError, match="persistence-plane\\[qdrant\\]"):
        open_store("qdrant", plane, tenant.tenant_id, VectorConfig(), Backends(plane).key_of(tenant.tenant_id))
