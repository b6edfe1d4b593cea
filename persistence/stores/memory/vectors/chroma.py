"""Chroma: a server, or a folder of this machine (``path``; ``vectors/chroma`` of the data directory where ``host`` is ``local``)."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final
from uuid import UUID

import chromadb
from chromadb.config import Settings as ChromaSettings
from chromadb.errors import NotFoundError

from persistence.models import MemoryIndex
from persistence.repositories.memory_search import Hit, MemoryFilter
from persistence.stores.memory.models import Vector
from persistence.stores.memory.vectors import VectorRecord
from persistence.stores.memory.vectors.others import OtherVectors, in_thread

_PAGE: Final = 1000
_PORT: Final = 8000
_QUIET: Final = ChromaSettings(anonymized_telemetry=False)


class ChromaVectors(OtherVectors):
    """A collection for each index, with the cosine as its measure."""

    name: ClassVar[str] = "chroma"

    async def connect(self, secret: str | None) -> None:
        config = self.config
        if config.path is not None or config.host == "local":
            self._client: Any = await in_thread(chromadb.PersistentClient, self.folder("chroma"), settings=_QUIET)
        else:
            headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
            self._client = await in_thread(
                chromadb.HttpClient, config.host, config.port or _PORT, ssl=secret is not None, headers=headers, settings=_QUIET
            )

    async def make(self, index: MemoryIndex) -> None:
        self._of(index)

    def _of(self, index: MemoryIndex) -> Any:
        return self._client.get_or_create_collection(
            self.collection(index), configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )

    async def put(self, index: MemoryIndex, records: Sequence[VectorRecord]) -> None:
        def upsert() -> None:
            self._of(index).upsert(
                ids=[str(record.memory_id) for record in records],
                embeddings=[record.vector for record in records],
                # a list of nothing it does not take
                metadatas=[{name: value for name, value in record.metadata.items() if value != []} for record in records],
            )

        await in_thread(upsert)

    async def delete(self, index: MemoryIndex, ids: Sequence[UUID]) -> None:
        await in_thread(lambda: self._of(index).delete(ids=[str(memory_id) for memory_id in ids]))

    async def read(self, index: MemoryIndex, ids: Sequence[UUID]) -> dict[UUID, str]:
        found = await in_thread(lambda: self._of(index).get(ids=[str(memory_id) for memory_id in ids], include=["metadatas"]))
        return _digests(found)

    async def ask(self, index: MemoryIndex, vector: Vector, among: MemoryFilter, limit: int) -> list[Hit]:
        wanted = [{name: value} for name, value in (("agent_id", among.agent), ("context", among.context)) if value is not None]
        where = {"$and": wanted} if len(wanted) > 1 else wanted[0] if wanted else None

        def query() -> Any:
            collection = self._of(index)
            count = collection.count()
            return (
                collection.query(query_embeddings=[vector], n_results=min(limit, count), where=where, include=["distances"])
                if count
                else None
            )

        found = await in_thread(query)
        if found is None:
            return []
        return [Hit(UUID(one), 1 - distance) for one, distance in zip(found["ids"][0], found["distances"][0], strict=True)]

    async def page(self, index: MemoryIndex, after: Any) -> tuple[list[tuple[UUID, str]], Any]:
        offset = after or 0
        found = await in_thread(lambda: self._of(index).get(limit=_PAGE, offset=offset, include=["metadatas"]))
        digests = _digests(found)
        return list(digests.items()), offset + _PAGE if len(digests) == _PAGE else None

    async def destroy(self, index: MemoryIndex) -> None:
        with suppress(NotFoundError):
            await in_thread(self._client.delete_collection, self.collection(index))


def _digests(found: Any) -> dict[UUID, str]:
    return {UUID(one): str((data or {}).get("digest")) for one, data in zip(found["ids"], found["metadatas"], strict=True)}
