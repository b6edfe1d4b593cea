"""A vector store for LangChain (extra ``langchain``): documents as memories, whose vectors the application's own embeddings make.

A document is a memory of the agent ``langchain``: text and metadata as JSON, collection and id as tags. What is added again under an id supersedes
what was there; what is deleted is forgotten for good.
"""

import asyncio
import json
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final, Self
from urllib.parse import quote, unquote
from uuid import UUID, uuid5

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from persistence.errors import Conflict, InvalidInput, InvalidTransition
from persistence.integrations.threads import from_thread, running_loop
from persistence.models import Memory, MemoryIndex, new_id
from persistence.repositories.memory_search import MOST_FOUND, MemoryFilter
from persistence.stores.memory import Backends, VectorRecord
from persistence.stores.memory.models import GIVEN, Vector, normalised
from persistence.stores.memory.vectors.postgres import digest_of
from persistence.transaction import Transaction

AGENT: Final = "langchain"

_IN: Final = "in:"
_ID: Final = "id:"
_LONGEST_TAG: Final = 100
_TRIES: Final = 5


class PersistenceVectors(VectorStore):
    """A collection of documents of a tenant, in the name of an actor.

    collection: a name for what one model embeds; another model is another collection. Ids have at most 97 characters as they stand in an address.
    Use the asynchronous methods in the event loop that the plane was opened in; the others from threads, while that loop runs.
    """

    def __init__(
        self,
        backends: Backends,
        tenant_id: UUID,
        embedding: Embeddings,
        *,
        actor: str,
        collection: str = "documents",
        user_id: UUID | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """loop: the one that the plane was opened in; none: the one that runs now."""
        self._backends = backends
        self._plane = backends.plane
        self._tenant_id = tenant_id
        self._embedding = embedding
        self._actor = actor
        self._user_id = user_id
        self._collection = collection
        self._tag = _tag(_IN, collection, "collection")
        self._loop = loop or running_loop()

    @property
    def embeddings(self) -> Embeddings:
        """What makes the vectors."""
        return self._embedding

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Adds texts; those whose ids are there take the place of what is there. Returns the ids."""
        contents = list(texts)
        found = metadatas or [{}] * len(contents)
        names = [name or str(new_id()) for name in (ids or [""] * len(contents))]  # of some ids may be missing, too
        if not len(contents) == len(found) == len(names):
            raise InvalidInput("texts, metadatas, ids: are not as many", hint="one of each for each text", field="ids")
        if not contents:
            return []
        made = await self._embedding.aembed_documents(contents)
        vectors = [_as_kept(normalised(vector, "the embedding")) for vector in made]
        index = await self._index(len(vectors[0]))
        last = {name: number for number, name in enumerate(names)}  # of two with one id the last one stays
        wanted = [(names[n], contents[n], found[n], vectors[n]) for n in sorted(last.values())]
        records = await self._remember(index, wanted)
        store = await self._backends.store(self._tenant_id, "pgvector")
        await store.write(index, records)
        return names

    async def aadd_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        """Adds documents; see ``aadd_texts``."""
        ids = kwargs.pop("ids", None) or [document.id or "" for document in documents]
        texts = [document.page_content for document in documents]
        return await self.aadd_texts(texts, [document.metadata for document in documents], ids=ids)

    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> bool | None:
        """Forgets documents for good; none named: the whole collection. What is not there is no error."""
        async with self._writing() as tx:
            if ids is None:
                while there := await tx.memories.those(self._filter(), limit=MOST_FOUND):
                    for memory in there:
                        tx.memories.forget(memory, "deleted from the collection")
                    await tx.flush()
            else:
                for memory in (await self._there(tx, ids)).values():
                    tx.memories.forget(memory, "deleted from the collection")
        return True

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, as far as they are there."""
        async with self._reading() as tx:
            there = await self._there(tx, ids)
        return [_document(there[name]) for name in dict.fromkeys(ids) if name in there]

    async def asimilarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The nearest, with the cosine of the angle. filter: metadata that they have."""
        found = await self._nearest(embedding, k, kwargs.pop("filter", None))
        return [(_document(memory), score) for memory, score in found]

    async def asimilarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        return [document for document, _ in await self.asimilarity_search_with_score_by_vector(embedding, k, **kwargs)]

    async def asimilarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        return await self.asimilarity_search_with_score_by_vector(await self._embedding.aembed_query(query), k, **kwargs)

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **kwargs)]

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """The nearest that are not like each other. Carbonell and Goldstein, The Use of MMR (1998)."""
        import numpy as np  # noqa: PLC0415  (langchain-core brings it)

        vector = await self._embedding.aembed_query(query)
        found = await self._nearest(vector, max(k, fetch_k), kwargs.pop("filter", None))
        if not found:
            return []
        index = await self._index(len(vector))
        async with self._reading() as tx:
            vectors = await tx.memories.vectors(index, [memory.id for memory, _ in found])
        chosen = maximal_marginal_relevance(
            np.array(vector), [vectors[memory.id][1] for memory, _ in found], lambda_mult=lambda_mult, k=k
        )
        return [_document(found[number][0]) for number in chosen]

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        return from_thread(self._loop, self.aadd_texts(texts, metadatas, ids=ids))

    def add_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        return from_thread(self._loop, self.aadd_documents(documents, **kwargs))

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool | None:
        return from_thread(self._loop, self.adelete(ids))

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return from_thread(self._loop, self.aget_by_ids(ids))

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return from_thread(self._loop, self.asimilarity_search(query, k, **kwargs))

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        return from_thread(self._loop, self.asimilarity_search_with_score(query, k, **kwargs))

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        return from_thread(self._loop, self.asimilarity_search_by_vector(embedding, k, **kwargs))

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        return from_thread(self._loop, self.amax_marginal_relevance_search(query, k, fetch_k, lambda_mult, **kwargs))

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A collection with these texts. kwargs: backends, tenant_id, actor, and what else the class takes."""
        made = cls(embedding=embedding, **kwargs)
        await made.aadd_texts(texts, metadatas, ids=list(ids) if ids is not None else None)
        return made

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        made = cls(embedding=embedding, **kwargs)
        made.add_texts(texts, metadatas, ids=list(ids) if ids is not None else None)
        return made

    def _select_relevance_score_fn(self) -> Any:
        return lambda score: (score + 1) / 2

    async def _remember(self, index: MemoryIndex, wanted: Sequence[tuple[str, str, dict[str, Any], Vector]]) -> list[VectorRecord]:
        for left in reversed(range(_TRIES)):
            try:
                async with self._writing() as tx:
                    there = await self._there(tx, [name for name, *_ in wanted])
                    written = []
                    for name, text, metadata, vector in wanted:
                        memory = tx.memories.remember(
                            _written(text, metadata),
                            agent=AGENT,
                            context="doc",
                            tags=[self._tag, _tag(_ID, name, "ids")],
                            supersedes=there.get(name),
                            embed=False,
                        )
                        tx.memories.embed(memory, index, vector=digest_of(vector))
                        written.append(memory.id)
                async with self._reading() as tx:
                    stored = {memory.id: memory for memory in await tx.memories.get_many(written)}
            except (Conflict, InvalidTransition):  # somebody else added one of them meanwhile
                if not left:
                    raise
            else:
                return [_record(stored[one], vector) for one, (*_, vector) in zip(written, wanted, strict=True) if one in stored]
        raise AssertionError

    async def _nearest(self, vector: list[float], k: int, wanted: dict[str, Any] | None) -> list[tuple[Memory, float]]:
        index = await self._index(len(vector))
        asked = min(MOST_FOUND, k if not wanted else 4 * k)
        while True:
            async with self._reading() as tx:
                hits = await tx.memories.nearest(index, normalised(vector, "the embedding"), self._filter(), limit=max(1, asked))
                memories = {memory.id: memory for memory in await tx.memories.get_many([hit.id for hit in hits])}
            found = [(memories[hit.id], hit.score) for hit in hits if hit.id in memories]
            found = [one for one in found if _metadata(one[0]).items() >= (wanted or {}).items()]
            if len(found) >= k or len(hits) < asked or asked == MOST_FOUND:
                return found[:k]
            asked = min(MOST_FOUND, asked * 4)

    async def _index(self, dimensions: int) -> MemoryIndex:
        """The index of the collection; begun if it is not there."""
        index_id = uuid5(self._tenant_id, f"{GIVEN}{self._collection}:{dimensions}")
        async with self._reading() as tx:
            found = await tx.memory_indexes.find(index_id)
        if found is not None:
            return found
        try:
            async with self._writing() as tx:
                tx.memory_indexes.begin(
                    store="pgvector", model=f"{GIVEN}{self._collection}", dimensions=dimensions, index_id=index_id
                )
        except Conflict:
            pass  # somebody else was first
        async with self._reading() as tx:
            return await tx.memory_indexes.get(index_id)

    async def _there(self, tx: Transaction, ids: Iterable[str]) -> dict[str, Memory]:
        there = {}
        for name in dict.fromkeys(ids):
            found = await tx.memories.those(MemoryFilter(agent=AGENT, tags=[self._tag, _tag(_ID, name, "ids")]), limit=1)
            if found:
                there[name] = found[0]
        return there

    def _filter(self) -> MemoryFilter:
        return MemoryFilter(agent=AGENT, tags=[self._tag])

    def _reading(self) -> Transaction:
        return self._plane.snapshot(self._tenant_id, actor=self._actor, user_id=self._user_id)

    def _writing(self) -> Transaction:
        return self._plane.transaction(self._tenant_id, actor=self._actor, user_id=self._user_id)


def _tag(kind: str, text: str, field: str) -> str:
    tag = f"{kind}{quote(text, safe='')}"
    if len(tag) > _LONGEST_TAG:
        raise InvalidInput(f"{field}: {text[:50]!r}… is too long", hint="at most 97 characters as in an address", field=field)
    return tag


def _written(text: str, metadata: dict[str, Any]) -> str:
    try:
        return json.dumps({"text": text, "metadata": metadata}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"metadata: are not JSON: {error}", hint="give texts, numbers, lists and objects", field="metadata"
        ) from error


def _metadata(memory: Memory) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads(memory.content or "{}").get("metadata", {})
    return metadata


def _document(memory: Memory) -> Document:
    content = json.loads(memory.content or "{}")
    name = next(tag.removeprefix(_ID) for tag in memory.tags or () if tag.startswith(_ID))
    return Document(id=unquote(name), page_content=content.get("text", ""), metadata=content.get("metadata", {}))


def _record(memory: Memory, vector: Vector) -> VectorRecord:
    assert memory.created_at is not None
    return VectorRecord(memory.id, memory.digest, vector, memory.agent, memory.context, memory.tags or (), memory.created_at)


def _as_kept(vector: Vector) -> Vector:
    """With the singles that the database keeps."""
    return list(array("f", vector))
