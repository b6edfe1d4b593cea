"""Where vectors of memories are kept: one interface over pgvector and other stores."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

from persistence.errors import ConfigurationError, PersistenceError
from persistence.models import MemoryIndex
from persistence.plane import Plane
from persistence.repositories.memory_search import Hit, MemoryFilter
from persistence.stores.memory.configuration import VectorConfig
from persistence.stores.memory.models import AskForKey, Vector


class StoreFailed(PersistenceError):
    """A store did not answer, or refused what it was given; it may do better next time."""


@dataclass(frozen=True)
class VectorRecord:
    """What a store has of a memory: its vector of length 1, the digest of the text it was made from, and what it is filtered by."""

    memory_id: UUID
    digest: str
    vector: Vector
    agent: str
    context: str
    tags: Sequence[str]
    created_at: datetime

    @property
    def metadata(self) -> dict[str, Any]:
        """The same as JSON, without the vector: ``agent_id``, ``timestamp`` (RFC 3339), ``context``, ``tags`` and ``digest``."""
        return {
            "agent_id": self.agent,
            "timestamp": self.created_at.isoformat(),
            "context": self.context,
            "tags": list(self.tags),
            "digest": self.digest,
        }


class VectorStore(Protocol):
    """Keeps vectors of memories, each index apart. All raise StoreFailed.

    A store is written before the effect that asked for it is settled, so it may be written twice: the second time changes nothing.
    """

    @property
    def name(self) -> str: ...

    async def write(self, index: MemoryIndex, records: Sequence[VectorRecord]) -> Mapping[UUID, str]:
        """Keeps these; returns once they are safe. What an index has of a memory is replaced.

        Returns a digest of each vector as it is kept, where the store can say, by memory; what was forgotten meanwhile is not in it.
        """

    async def remove(self, index: MemoryIndex, ids: Sequence[UUID]) -> None:
        """Drops what there is of these memories."""

    async def digests(self, index: MemoryIndex, ids: Sequence[UUID]) -> Mapping[UUID, str]:
        """Digests of the texts that the vectors of these memories were made from, as far as there are any."""

    async def nearest(self, index: MemoryIndex, vector: Vector, among: MemoryFilter, limit: int) -> list[Hit]:
        """The nearest of those that may be found, the nearest first. Never fewer than ``limit`` while so many are there."""

    def held(self, index: MemoryIndex) -> AsyncIterator[tuple[UUID, str]]:
        """Ids and digests of all that an index has."""

    async def drop(self, index: MemoryIndex) -> None:
        """Drops an index with all that it has."""


_KINDS: Final = {
    "qdrant": "Qdrant",
    "chroma": "Chroma",
    "milvus": "Milvus",
    "weaviate": "Weaviate",
    "pinecone": "Pinecone",
}


def open_store(
    name: str, plane: Plane, tenant_id: UUID, config: VectorConfig, key: AskForKey
) -> AbstractAsyncContextManager[VectorStore]:
    """A tenant's part of a store. key: gives the tenant's secrets. Raises ConfigurationError, also for one whose extra is not installed."""
    if name == "pgvector":
        from persistence.stores.memory.vectors.postgres import postgres_vectors  # noqa: PLC0415

        return postgres_vectors(plane, tenant_id)
    if name not in _KINDS:
        raise ConfigurationError(f"vector.provider: {name!r} is none", hint=f"pgvector, {', '.join(_KINDS)}")
    from persistence.stores.memory.vectors.others import open_other  # noqa: PLC0415

    return open_other(name, plane, tenant_id, config, key)
