"""Qdrant: a server, or a folder of this machine (``path``; ``vectors/agent_memory.qdrant`` of the data directory where ``host`` is ``local``)."""

from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID

from qdrant_client import AsyncQdrantClient
from qdrant_client.http import models as api

from persistence.models import MemoryIndex
from persistence.repositories.memory_search import Hit, MemoryFilter
from persistence.stores.memory.models import Vector
from persistence.stores.memory.vectors import VectorRecord
from persistence.stores.memory.vectors.others import OtherVectors

_PAGE = 1000
_PORT = 6333


class QdrantVectors(OtherVectors):
    """A collection for each index, with the cosine as its measure. It answers once what was written is applied (``wait``)."""

    name: ClassVar[str] = "qdrant"

    async def connect(self, secret: str | None) -> None:
        config = self.config
        if config.path is not None or config.host == "local":
            self._client = AsyncQdrantClient(path=self.folder("agent_memory.qdrant"))
        else:
            self._client = AsyncQdrantClient(
                host=config.host, port=config.port or _PORT, api_key=secret, https=secret is not None, check_compatibility=False
            )

    async def close(self) -> None:
        await self._client.close()

    async def make(self, index: MemoryIndex) -> None:
        if not await self._client.collection_exists(self.collection(index)):
            await self._client.create_collection(
                self.collection(index), vectors_config=api.VectorParams(size=index.dimensions, distance=api.Distance.COSINE)
            )

    async def put(self, index: MemoryIndex, records: Sequence[VectorRecord]) -> None:
        points = [api.PointStruct(id=str(record.memory_id), vector=record.vector, payload=record.metadata) for record in records]
        await self._client.upsert(self.collection(index), points=points, wait=True)

    async def delete(self, index: MemoryIndex, ids: Sequence[UUID]) -> None:
        selector = api.PointIdsList(points=[str(memory_id) for memory_id in ids])
        await self._client.delete(self.collection(index), points_selector=selector, wait=True)

    async def read(self, index: MemoryIndex, ids: Sequence[UUID]) -> dict[UUID, str]:
        found = await self._client.retrieve(
            self.collection(index), ids=[str(memory_id) for memory_id in ids], with_payload=["digest"]
        )
        return {UUID(str(point.id)): str((point.payload or {}).get("digest")) for point in found}

    async def ask(self, index: MemoryIndex, vector: Vector, among: MemoryFilter, limit: int) -> list[Hit]:
        wanted = {"agent_id": among.agent, "context": among.context}
        conditions: list[Any] = [
            api.FieldCondition(key=name, match=api.MatchValue(value=value)) for name, value in wanted.items() if value is not None
        ]
        answer = await self._client.query_points(
            self.collection(index),
            query=vector,
            limit=limit,
            query_filter=api.Filter(must=conditions) if conditions else None,
            with_payload=False,
        )
        return [Hit(UUID(str(point.id)), point.score) for point in answer.points]

    async def page(self, index: MemoryIndex, after: Any) -> tuple[list[tuple[UUID, str]], Any]:
        points, following = await self._client.scroll(self.collection(index), limit=_PAGE, offset=after, with_payload=["digest"])
        return [(UUID(str(point.id)), str((point.payload or {}).get("digest"))) for point in points], following

    async def destroy(self, index: MemoryIndex) -> None:
        await self._client.delete_collection(self.collection(index))
