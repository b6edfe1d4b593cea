"""Pinecone, by its data plane. Tried against recorded answers only: it is a service.

``host`` is the address of an index that is there, with the cosine as its measure and the model's dimensions; each index of memories is a namespace of
it. It acknowledges before what was written can be found.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Final
from uuid import UUID

from persistence.errors import ConfigurationError
from persistence.models import MemoryIndex
from persistence.repositories.memory_search import Hit, MemoryFilter
from persistence.stores.memory.models import Vector
from persistence.stores.memory.vectors import VectorRecord
from persistence.stores.memory.vectors.by_http import HttpStore
from persistence.stores.memory.vectors.others import OtherVectors

_VERSION: Final = "2025-04"
_AT_ONCE: Final = 100
_LOCAL: Final = ("localhost", "127.0.0.1")


class PineconeVectors(OtherVectors):
    """A namespace for each index."""

    name: ClassVar[str] = "pinecone"

    async def connect(self, secret: str | None) -> None:
        if secret is None:
            raise ConfigurationError("vector.store_key: Pinecone asks for a key", hint="name the tenant's secret that holds it")
        scheme = "http" if self.config.host in _LOCAL else "https"
        port = "" if self.config.port is None else f":{self.config.port}"
        headers = {"Api-Key": secret, "X-Pinecone-API-Version": _VERSION}
        self._http = HttpStore(self.name, f"{scheme}://{self.config.host}{port}", headers)

    async def close(self) -> None:
        await self._http.close()

    async def make(self, index: MemoryIndex) -> None:
        """A namespace is made by the first write."""

    async def put(self, index: MemoryIndex, records: Sequence[VectorRecord]) -> None:
        for first in range(0, len(records), _AT_ONCE):
            vectors = [
                {"id": str(record.memory_id), "values": record.vector, "metadata": record.metadata}
                for record in records[first : first + _AT_ONCE]
            ]
            await self._http.ask("POST", "/vectors/upsert", json={"vectors": vectors, "namespace": self.collection(index)})

    async def delete(self, index: MemoryIndex, ids: Sequence[UUID]) -> None:
        for first in range(0, len(ids), _AT_ONCE):
            some = [str(memory_id) for memory_id in ids[first : first + _AT_ONCE]]
            await self._http.ask("POST", "/vectors/delete", may_miss=True, json={"ids": some, "namespace": self.collection(index)})

    async def read(self, index: MemoryIndex, ids: Sequence[UUID]) -> dict[UUID, str]:
        digests: dict[UUID, str] = {}
        for first in range(0, len(ids), _AT_ONCE):
            asked = {"ids": [str(memory_id) for memory_id in ids[first : first + _AT_ONCE]], "namespace": self.collection(index)}
            answer = await self._http.ask("GET", "/vectors/fetch", params=asked, may_miss=True, missing={})
            digests |= {UUID(one): found["metadata"]["digest"] for one, found in (answer.get("vectors") or {}).items()}
        return digests

    async def ask(self, index: MemoryIndex, vector: Vector, among: MemoryFilter, limit: int) -> list[Hit]:
        wanted = {"agent_id": among.agent, "context": among.context}
        conditions = {name: {"$eq": value} for name, value in wanted.items() if value is not None}
        asked = {
            "vector": vector,
            "topK": limit,
            "namespace": self.collection(index),
            **({"filter": conditions} if conditions else {}),
        }
        answer = await self._http.ask("POST", "/query", json=asked)
        return [Hit(UUID(match["id"]), match["score"]) for match in answer.get("matches") or []]

    async def page(self, index: MemoryIndex, after: Any) -> tuple[list[tuple[UUID, str]], Any]:
        asked = {"namespace": self.collection(index), "limit": str(_AT_ONCE), **({"paginationToken": after} if after else {})}
        answer = await self._http.ask("GET", "/vectors/list", params=asked, may_miss=True, missing={})
        ids = [UUID(found["id"]) for found in answer.get("vectors") or []]
        digests = await self.read(index, ids)
        return list(digests.items()), (answer.get("pagination") or {}).get("next")

    async def destroy(self, index: MemoryIndex) -> None:
        await self._http.ask(
            "POST", "/vectors/delete", may_miss=True, json={"deleteAll": True, "namespace": self.collection(index)}
        )
