"""LangGraph's store on the plane: items in namespaces, with their history, found by what they mean."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from langgraph.store.base import GetOp, PutOp, SearchOp

from persistence import Plane
from persistence.errors import InvalidInput
from persistence.integrations.langgraph_store import PersistenceStore
from persistence.models import Tenant
from persistence.outbox import Worker
from persistence.outbox.embed_handler import add_embed_handler
from persistence.stores.memory import Backends
from tests.helpers import ACTOR

ADA = ("users", "ada")


@pytest.fixture
async def store(plane: Plane, tenant: Tenant) -> AsyncIterator[PersistenceStore]:
    async with Backends(plane) as backends:
        yield PersistenceStore(backends, tenant.tenant_id, actor=ACTOR)


async def test_an_item_is_put_got_changed_and_deleted(store: PersistenceStore, plane: Plane, tenant: Tenant) -> None:
    assert await store.aget(ADA, "tea") is None
    await store.aput(ADA, "tea", {"text": "Ada likes tea", "n": 1})
    first = await store.aget(ADA, "tea")
    assert first is not None
    assert (first.value, first.key, first.namespace) == ({"text": "Ada likes tea", "n": 1}, "tea", ADA)
    await store.aput(ADA, "tea", {"text": "Ada likes coffee"})
    second = await store.aget(ADA, "tea")
    assert second is not None
    assert (second.value, second.created_at) == ({"text": "Ada likes coffee"}, first.created_at)
    assert second.updated_at > first.updated_at
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert [memory.status for memory in await tx.memories.all()] == ["SUPERSEDED", "ACTIVE"]
    await store.adelete(ADA, "tea")
    assert await store.aget(ADA, "tea") is None
    await store.adelete(ADA, "tea")


async def test_items_are_searched_by_namespace_filter_and_meaning(store: PersistenceStore, plane: Plane) -> None:
    for n in range(30):
        await store.aput(ADA, f"n{n}", {"text": f"number {n}", "n": n, "odd": n % 2 == 1})
    await store.aput(("users", "adam"), "x", {"text": "somebody else", "n": 3})
    await store.aput(("users",), "top", {"text": "Ada's cat is called Mochi", "deep": {"a": 1}})
    async with Backends(plane) as backends:
        await add_embed_handler(Worker(name="tester", listen=False), backends).drain(plane, until="settled", timeout=60)
    assert len(await store.asearch(ADA, limit=100)) == 30
    assert len(await store.asearch(("users",), limit=100)) == 32
    assert len(await store.asearch((), limit=100)) == 32
    assert [one.value["n"] for one in await store.asearch(ADA, filter={"odd": True}, limit=3)] == [29, 27, 25]
    assert [one.value["n"] for one in await store.asearch(ADA, filter={"n": {"$gte": 3, "$lt": 5}})] == [4, 3]
    assert [one.key for one in await store.asearch((), filter={"deep": {"a": 1}})] == ["top"]
    assert [one.value["n"] for one in await store.asearch(ADA, limit=2, offset=28)] == [1, 0]
    [best, *_] = await store.asearch(("users",), query="what is the name of Ada's cat", limit=3)
    assert (best.key, best.score is not None) == ("top", True)
    with pytest.raises(InvalidInput, match="filter"):
        await store.asearch(ADA, filter={"n": {"$near": 3}})


async def test_namespaces_are_listed(store: PersistenceStore) -> None:
    for namespace in (("a", "b", "c"), ("a", "b", "d"), ("a", "x"), ("z", "b", "c")):
        await store.aput(namespace, "k", {"v": 1})
    assert await store.alist_namespaces(prefix=("a",)) == [("a", "b", "c"), ("a", "b", "d"), ("a", "x")]
    assert await store.alist_namespaces(suffix=("b", "c")) == [("a", "b", "c"), ("z", "b", "c")]
    assert await store.alist_namespaces(prefix=("a", "*"), max_depth=2) == [("a", "b"), ("a", "x")]
    assert await store.alist_namespaces(limit=2, offset=1) == [("a", "b", "d"), ("a", "x")]


async def test_a_batch_answers_as_it_was_before_and_keeps_the_last(store: PersistenceStore) -> None:
    await store.aput(ADA, "a", {"n": 1})
    got, _, _, found = await store.abatch([GetOp(ADA, "a"), PutOp(ADA, "a", {"n": 2}), PutOp(ADA, "a", {"n": 3}), SearchOp(ADA)])
    assert got.value == {"n": 1}  # type: ignore[union-attr]
    assert len(found) == 1  # type: ignore[arg-type]
    assert (await store.aget(ADA, "a")).value == {"n": 3}  # type: ignore[union-attr]


async def test_many_who_put_the_same_leave_one(store: PersistenceStore) -> None:
    await store.aput(ADA, "a", {"n": 0})
    done = await asyncio.gather(*(store.aput(ADA, "a", {"n": n}) for n in range(4)), return_exceptions=True)
    assert done == [None] * 4
    assert len(await store.asearch(ADA)) == 1


async def test_names_of_any_kind_and_other_tenants(store: PersistenceStore, plane: Plane) -> None:
    odd = ("a/b", "c%d", "é")
    await store.aput(odd, "k/1 ", {"v": 1})
    await store.aput(("a", "b"), "k", {"v": 2})
    assert (await store.aget(odd, "k/1 ")).value == {"v": 1}  # type: ignore[union-attr]
    assert [one.namespace for one in await store.asearch(("a",))] == [("a", "b")]
    assert await store.alist_namespaces() == [("a", "b"), odd]
    other = await plane.tenants.create("other", actor=ACTOR)
    async with Backends(plane) as backends:
        theirs = PersistenceStore(backends, other.tenant_id, actor=ACTOR)
        assert (await theirs.aget(odd, "k/1 "), await theirs.asearch(()), await theirs.alist_namespaces()) == (None, [], [])
    with pytest.raises(InvalidInput, match="namespace"):
        await store.aput(("x" * 100,), "k", {})
    with pytest.raises(InvalidInput, match="key"):
        await store.aput(("x",), "k" * 100, {})
    with pytest.raises(InvalidInput, match="value"):
        await store.aput(("x",), "k", {"v": object()})


async def test_from_threads(store: PersistenceStore) -> None:
    await asyncio.to_thread(store.put, ADA, "a", {"n": 1})
    assert (await asyncio.to_thread(store.get, ADA, "a")).value == {"n": 1}  # type: ignore[union-attr]
    with pytest.raises(InvalidInput, match="asynchronous"):
        store.get(ADA, "a")


async def test_what_is_deleted_is_gone_with_all_that_it_was(store: PersistenceStore, plane: Plane, tenant: Tenant) -> None:
    await asyncio.gather(*(store.aput(("u",), "k", {"text": f"first {number}"}) for number in range(6)))
    assert len([item for item in await store.asearch(("u",), limit=50) if item.key == "k"]) == 1
    await store.aput(("u",), "k", {"text": "second"})
    await store.adelete(("u",), "k")
    assert await store.aget(("u",), "k") is None
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert {memory.content for memory in await tx.memories.all()} == {None}
    await store.aput(("u",), "k", {"text": "again"})
    assert (await store.aget(("u",), "k")).value == {"text": "again"}


async def test_beyond_a_thousand_items_all_are_found(store: PersistenceStore) -> None:
    for start in range(0, 1_040, 40):
        await store.abatch([PutOp(("many",), f"i{number}", {"n": number}, index=False) for number in range(start, start + 40)])
    assert [item.key for item in await store.asearch(("many",), filter={"n": 3})] == ["i3"]
    assert len(await store.asearch(("many",), limit=1_100)) == 1_040
    assert len(await store.asearch(("many",), limit=30, offset=1_030)) == 10
