"""What the other stores share: they know vectors, and the database knows which memories may be found."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import sha256
from importlib import import_module
from struct import pack
from typing import Any, ClassVar, Final, TypeVar
from uuid import UUID

from persistence.errors import ConfigurationError, PersistenceError
from persistence.models import MemoryIndex
from persistence.plane import Plane
from persistence.repositories.memory_search import Hit, MemoryFilter
from persistence.stores.memory.configuration import VectorConfig
from persistence.stores.memory.models import AskForKey, Vector
from persistence.stores.memory.vectors import StoreFailed, VectorRecord

T = TypeVar("T")

ACTOR: Final = "system:memory"

_FIRST: Final = 50
_FACTOR: Final = 4
_MODULES: Final = {
    "qdrant": "QdrantVectors",
    "chroma": "ChromaVectors",
    "milvus": "MilvusVectors",
    "weaviate": "WeaviateVectors",
    "pinecone": "PineconeVectors",
}


class OtherVectors(ABC):
    """A tenant's vectors in another store, each index in a collection of its own."""

    name: ClassVar[str]
    most: ClassVar[int] = 10_000
    """So many it gives at once at most."""

    def __init__(self, plane: Plane, tenant_id: UUID, config: VectorConfig, key: AskForKey) -> None:
        self._plane = plane
        self._tenant_id = tenant_id
        self.config = config
        self._key = key
        self._prepared: set[UUID] = set()
        self._preparing = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def opened(cls, plane: Plane, tenant_id: UUID, config: VectorConfig, key: AskForKey) -> "AsyncIterator[OtherVectors]":
        """Connects, and disconnects in the end."""
        store = cls(plane, tenant_id, config, key)
        secret = None if config.store_key is None else await key(config.store_key)
        await store.told("open", store.connect(secret))
        try:
            yield store
        finally:
            await store.close()

    def folder(self, default: str, ending: str = "") -> str:
        """Where it keeps this tenant's files on this machine. default: the folder in ``vectors`` of the data directory, where none is configured."""
        path = self.config.path or self._plane.settings.data_dir / "vectors" / default
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return str(path / f"{self._tenant_id}{ending}")

    def collection(self, index: MemoryIndex) -> str:
        """What the collection of an index is called: the index is one tenant's alone."""
        return f"{self.config.collection}_{index.id.hex}"

    async def write(self, index: MemoryIndex, records: Sequence[VectorRecord]) -> Mapping[UUID, str]:
        """As VectorStore says; digests are SHA-256 of the numbers as they were given, little-endian singles."""
        await self._prepare(index)
        await self.told("write", self.put(index, records))
        async with self._plane.transaction(
            self._tenant_id, actor=ACTOR
        ) as tx:  # forgotten meanwhile? whoever forgets asks to have it dropped, too
            memories = await tx.memories.get_many([record.memory_id for record in records])
        there = {memory.id for memory in memories if memory.content is not None}
        gone = [record.memory_id for record in records if record.memory_id not in there]
        if gone:
            await self.remove(index, gone)
        return {
            record.memory_id: sha256(pack(f"<{len(record.vector)}f", *record.vector)).hexdigest()
            for record in records
            if record.memory_id in there
        }

    async def remove(self, index: MemoryIndex, ids: Sequence[UUID]) -> None:
        await self._prepare(index)
        await self.told("remove", self.delete(index, ids))

    async def digests(self, index: MemoryIndex, ids: Sequence[UUID]) -> Mapping[UUID, str]:
        await self._prepare(index)
        found: dict[UUID, str] = await self.told("read", self.read(index, ids))
        return found

    async def nearest(self, index: MemoryIndex, vector: Vector, among: MemoryFilter, limit: int) -> list[Hit]:
        """As VectorStore says, but never more than ``most`` are looked at."""
        await self._prepare(index)
        asked = min(self.most, max(_FIRST, limit))
        while True:
            hits = await self.told("search", self.ask(index, vector, among, asked))
            async with self._plane.transaction(self._tenant_id, actor=ACTOR) as tx:
                eligible = await tx.memories.among([hit.id for hit in hits], among)
            found = [hit for hit in hits if hit.id in eligible]
            if len(found) >= limit or len(hits) < asked or asked == self.most:
                return found[:limit]
            asked = min(self.most, asked * _FACTOR)

    async def held(self, index: MemoryIndex) -> AsyncIterator[tuple[UUID, str]]:
        await self._prepare(index)
        after: Any = None
        while True:
            page, after = await self.told("list", self.page(index, after))
            for item in page:
                yield item
            if after is None:
                return

    async def drop(self, index: MemoryIndex) -> None:
        await self.told("drop", self.destroy(index))
        self._prepared.discard(index.id)

    async def _prepare(self, index: MemoryIndex) -> None:
        async with self._preparing:
            if index.id not in self._prepared:
                await self.told("prepare", self.make(index))
                self._prepared.add(index.id)

    async def told(self, what: str, work: Any) -> Any:
        """What a store answers. Raises StoreFailed for whatever its client raises."""
        try:
            return await work
        except PersistenceError:
            raise
        except Exception as error:
            raise StoreFailed(f"{self.name}: cannot {what}: {type(error).__name__}: {error}") from error

    @abstractmethod
    async def connect(self, secret: str | None) -> None:
        """Opens it. secret: what ``store_key`` names, if it names one."""

    async def close(self) -> None:  # noqa: B027  (not every client needs it)
        """Lets go of it."""

    @abstractmethod
    async def make(self, index: MemoryIndex) -> None:
        """Makes an index's collection unless it is there."""

    @abstractmethod
    async def put(self, index: MemoryIndex, records: Sequence[VectorRecord]) -> None: ...

    @abstractmethod
    async def delete(self, index: MemoryIndex, ids: Sequence[UUID]) -> None: ...

    @abstractmethod
    async def read(self, index: MemoryIndex, ids: Sequence[UUID]) -> dict[UUID, str]:
        """Digests by memory."""

    @abstractmethod
    async def ask(self, index: MemoryIndex, vector: Vector, among: MemoryFilter, limit: int) -> list[Hit]:
        """The nearest by the cosine, of one agent and context if that is asked; the database looks after the rest."""

    @abstractmethod
    async def page(self, index: MemoryIndex, after: Any) -> tuple[list[tuple[UUID, str]], Any]:
        """Ids and digests, and where the next page begins; None: there is none."""

    @abstractmethod
    async def destroy(self, index: MemoryIndex) -> None:
        """Drops a collection, if it is there."""


async def in_thread(work: Callable[..., T], *given: Any, **named: Any) -> T:
    """Runs what blocks elsewhere."""
    return await asyncio.to_thread(work, *given, **named)


def open_other(
    name: str, plane: Plane, tenant_id: UUID, config: VectorConfig, key: AskForKey
) -> AbstractAsyncContextManager[OtherVectors]:
    """A tenant's part of another store. Raises ConfigurationError where its extra is not installed."""
    try:
        kind: type[OtherVectors] = getattr(import_module(f"persistence.stores.memory.vectors.{name}"), _MODULES[name])
    except ImportError as error:
        raise ConfigurationError(
            f"vector.provider: {name} needs what is not installed: {error.name}", hint=f"pip install 'persistence-plane[{name}]'"
        ) from error
    return kind.opened(plane, tenant_id, config, key)
