"""LangChain's vector store on the plane: the suite of langchain-tests, with and without an event loop, and what it does not ask."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from persistence import Plane
from persistence.errors import InvalidInput
from persistence.gates.checks import shipped_suites
from persistence.gates.fit import Options, Runner
from persistence.integrations.langchain_vectors import PersistenceVectors
from persistence.models import Tenant
from persistence.outbox import Worker
from persistence.outbox.embed_handler import add_embed_handler
from persistence.stores.memory import Backends
from persistence.stores.memory.models.hashing import FeatureHashing
from tests.helpers import ACTOR


class Hashing(Embeddings):
    """Feature hashing as LangChain's embeddings."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return FeatureHashing(64).vector(text)


class TestInItsLoop(VectorStoreIntegrationTests):
    @property
    def has_sync(self) -> bool:
        return False

    @pytest.fixture
    async def vectorstore(self, plane: Plane, tenant: Tenant) -> AsyncIterator[PersistenceVectors]:  # type: ignore[override]
        async with Backends(plane) as backends:
            yield PersistenceVectors(backends, tenant.tenant_id, self.get_embeddings(), actor=ACTOR)


class TestFromThreads(VectorStoreIntegrationTests):
    @property
    def has_async(self) -> bool:
        return False

    @pytest.fixture
    def vectorstore(self, dsn: str, admin_dsn: str, tmp_path: Path) -> Iterator[PersistenceVectors]:  # type: ignore[override]
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()

        def done(work: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(work, loop).result()

        plane = done(Plane(dsn=dsn, admin_dsn=admin_dsn, data_dir=tmp_path).__aenter__())
        tenant = done(plane.tenants.create("acme", actor=ACTOR))
        yield PersistenceVectors(Backends(plane), tenant.tenant_id, self.get_embeddings(), actor=ACTOR, loop=loop)
        done(plane.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@pytest.fixture
async def vectors(plane: Plane, tenant: Tenant) -> AsyncIterator[PersistenceVectors]:
    async with Backends(plane) as backends:
        yield PersistenceVectors(backends, tenant.tenant_id, Hashing(), actor=ACTOR)


async def test_the_nearest_with_scores_filters_and_variety(vectors: PersistenceVectors) -> None:
    texts = ["Ada likes tea", "Ada likes tea a lot", "invoices are paid within ten days", "the meeting is on Monday"]
    await vectors.aadd_texts(texts, [{"kind": "taste", "n": n} for n in range(2)] + [{"kind": "rule"}, {"kind": "date"}])
    [(best, score), *_] = await vectors.asimilarity_search_with_score("Ada likes tea", k=2)
    assert (best.page_content, best.metadata) == ("Ada likes tea", {"kind": "taste", "n": 0})
    assert score == pytest.approx(1.0, abs=1e-5)
    assert [one.page_content for one in await vectors.asimilarity_search("Ada likes tea", k=3, filter={"kind": "rule"})] == [
        texts[2]
    ]
    various = await vectors.amax_marginal_relevance_search("Ada likes tea", k=2, fetch_k=4, lambda_mult=0.1)
    assert various[0].page_content == "Ada likes tea"
    assert "Ada likes tea a lot" not in [one.page_content for one in various]
    [(_, relevance)] = await vectors.asimilarity_search_with_relevance_scores("Ada likes tea", k=1)
    assert relevance == pytest.approx(1.0, abs=1e-5)


async def test_what_a_worker_does_with_it_harms_nothing_and_the_gates_hold(
    vectors: PersistenceVectors, plane: Plane, tenant: Tenant, audit_dsn: str, dsn: str
) -> None:
    names = await vectors.aadd_documents([Document(id="a", page_content="one"), Document(id="b", page_content="two")])
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.memories.remember("three", agent="agent:desk", context="chat")
    async with Backends(plane) as backends:
        await add_embed_handler(Worker(name="tester", listen=False), backends).drain(plane, until="settled", timeout=60)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert {effect.status for effect in await tx.effects.all(effect_type="EMBED")} == {"EXECUTED"}
    await vectors.aadd_documents([Document(id="a", page_content="one and a half")])
    assert [one.page_content for one in await vectors.aget_by_ids(names)] == ["one and a half", "two"]
    await vectors.adelete(["b"])
    outcomes = await Runner(audit_dsn, dsn, plane.settings, Options()).run(
        [check for check in shipped_suites() if "vectors" in check.name or "memor" in check.name]
    )
    assert [outcome for outcome in outcomes if outcome.violations] == []


async def test_collections_and_tenants_are_apart(vectors: PersistenceVectors, plane: Plane, tenant: Tenant) -> None:
    await vectors.aadd_texts(["Ada likes tea"], ids=["a"])
    other = await plane.tenants.create("other", actor=ACTOR)
    async with Backends(plane) as backends:
        for its, collection in ((tenant, "more"), (other, "documents")):
            apart = PersistenceVectors(backends, its.tenant_id, Hashing(), actor=ACTOR, collection=collection)
            assert await apart.aget_by_ids(["a"]) == []
            assert await apart.asimilarity_search("tea") == []
            await apart.adelete(["a"])
            await apart.adelete()
    assert len(await vectors.aget_by_ids(["a"])) == 1
    await vectors.adelete()
    assert await vectors.asimilarity_search("tea") == []


async def test_what_cannot_be_kept_is_refused_by_name(vectors: PersistenceVectors) -> None:
    with pytest.raises(InvalidInput, match="ids"):
        await vectors.aadd_texts(["a"], ids=["x" * 98])
    with pytest.raises(InvalidInput, match="metadata"):
        await vectors.aadd_texts(["a"], [{"n": object()}])
    with pytest.raises(InvalidInput, match="not as many"):
        await vectors.aadd_texts(["a"], [{}, {}])
    assert DeterministicFakeEmbedding(size=6).embed_query("x")
