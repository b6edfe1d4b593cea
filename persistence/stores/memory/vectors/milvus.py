"""Milvus: a server, or a folder of this machine by Milvus Lite (``path``; ``vectors/milvus`` of the data directory where ``host`` is ``local``)."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Final
from uuid import UUID

from pymilvus import DataType, MilvusClient

from persistence.models import MemoryIndex
from persistence.repositories.memory_search import Hit, MemoryFilter
from persistence.stores.memory.models import Vector
from persistence.stores.memory.vectors import VectorRecord
from persistence.stores.memory.vectors.others import OtherVectors, in_thread

_PAGE: Final = 1000
_PORT: Final = 19_530


class MilvusVectors(OtherVectors):
    """A collection for each index, with the cosine as its measure; read as of the last write (``Strong``)."""

    name: ClassVar[str] = "milvus"

    async def connect(self, secret: str | None) -> None:
        config = self.config
        if config.path is not None or config.host == "local":
            self._client = await in_thread(MilvusClient, self.folder("milvus", ".db"))
        else:
            address = f"http{'' if secret is None else 's'}://{config.host}:{config.port or _PORT}"
            self._client = await in_thread(MilvusClient, address, token=secret or "")

    async def close(self) -> None:
        await in_thread(self._client.close)

    async def make(self, index: MemoryIndex) -> None:
        def make() -> None:
            name = self.collection(index)
            if self._client.has_collection(name):
                self._client.load_collection(name)
                return
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=True)
            schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=36)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=index.dimensions)
            parameters = self._client.prepare_index_params()
            parameters.add_index("vector", index_type="AUTOINDEX", metric_type="COSINE")
            self._client.create_collection(name, schema=schema, index_params=parameters, consistency_level="Strong")

        await in_thread(make)

    async def put(self, index: MemoryIndex, records: Sequence[VectorRecord]) -> None:
        rows = [{"id": str(record.memory_id), "vector": record.vector, **record.metadata} for record in records]
        await in_thread(self._client.upsert, self.collection(index), rows)

    async def delete(self, index: MemoryIndex, ids: Sequence[UUID]) -> None:
        await in_thread(self._client.delete, self.collection(index), ids=[str(memory_id) for memory_id in ids])

    async def read(self, index: MemoryIndex, ids: Sequence[UUID]) -> dict[UUID, str]:
        if not ids:
            return {}
        found = await in_thread(
            self._client.get, self.collection(index), ids=[str(memory_id) for memory_id in ids], output_fields=["id", "digest"]
        )
        return {UUID(row["id"]): row["digest"] for row in found}

    async def ask(self, index: MemoryIndex, vector: Vector, among: MemoryFilter, limit: int) -> list[Hit]:
        wanted = {"agent_id": among.agent, "context": among.context}
        # Milvus Lite takes no parameters; strings are written as in JSON.
        conditions = [f"{name} == {json.dumps(value, ensure_ascii=False)}" for name, value in wanted.items() if value is not None]
        [hits] = await in_thread(
            self._client.search,
            self.collection(index),
            data=[vector],
            limit=limit,
            search_params={"metric_type": "COSINE"},
            filter=" and ".join(conditions),
        )
        return [Hit(UUID(hit["id"]), hit["distance"]) for hit in hits]

    async def page(self, index: MemoryIndex, after: Any) -> tuple[list[tuple[UUID, str]], Any]:
        iterator = after or await in_thread(
            self._client.query_iterator, self.collection(index), batch_size=_PAGE, output_fields=["id", "digest"]
        )
        rows = await in_thread(iterator.next)
        if not rows:
            await in_thread(iterator.close)
            return [], None
        return [(UUID(row["id"]), row["digest"]) for row in rows], iterator

    async def destroy(self, index: MemoryIndex) -> None:
        await in_thread(self._client.drop_collection, self.collection(index))
