"""Looking after indexes of memories: a new generation beside the old, what differs from the log, and making it good."""

from collections import Counter
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from persistence.errors import Conflict
from persistence.models import MemoryIndex, new_id
from persistence.repositories.memory_search import BEFORE_ALL
from persistence.stores.memory.backends import Backends
from persistence.stores.memory.embedding import Embedder

_PAGE: Final = 1000
_SHOWN: Final = 20


@dataclass(frozen=True)
class Comparison:
    """What an index has beside what it is to have. missing: memories without a vector, or with that of another text; surplus: vectors
    of no memory, or of one that is forgotten; asked_for: of the missing, those whose vectors are asked for and under way.
    """

    index: MemoryIndex
    memories: int
    missing: int
    surplus: int
    asked_for: int
    examples: tuple[UUID, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether it holds what the log says, no more and no less, but for what is under way."""
        return self.surplus == 0 and self.missing <= self.asked_for


class Upkeep:
    """Works on the indexes of a tenant. All take the actor who asks for it."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._embedder = Embedder(backends)

    async def begin(self, tenant_id: UUID, *, actor: str) -> tuple[MemoryIndex, int]:
        """Makes an index of all memories with the store and the model of the configuration, beside those that are there. It is searched once it is
        activated. Returns it, and how many memories' vectors were asked for.
        """
        plane = self._backends.plane
        async with plane.transaction(tenant_id, actor=actor) as tx:
            there = await tx.memory_indexes.all()
        config = self._backends.config
        alike = Counter((index.store, index.model) for index in there)[config.provider, self._backends.model().name]
        index = await self._embedder.begin(tenant_id, actor=actor, number=alike)
        return index, await self.fill(tenant_id, index, actor=actor)

    async def fill(self, tenant_id: UUID, index: MemoryIndex, *, actor: str) -> int:
        """Asks for all vectors that an index does not have. Returns how many."""
        plane = self._backends.plane
        store = await self._backends.store(tenant_id, index.store)
        after, asked, key = BEFORE_ALL, 0, str(new_id())
        while True:
            async with plane.transaction(tenant_id, actor=actor) as tx:
                page = await tx.memories.with_texts(after=after, limit=_PAGE)
                if not page:
                    return asked
                held = await store.digests(index, [memory_id for memory_id, _ in page])
                lacking = [memory_id for memory_id, digest in page if held.get(memory_id) != digest]
                for memory in await tx.memories.get_many(lacking) if lacking else ():
                    tx.memories.embed(memory, index, key=key)
                    asked += 1
            after = page[-1][0]

    async def activate(self, tenant_id: UUID, index_id: UUID, reason: str, *, actor: str, partly: bool = False) -> MemoryIndex:
        """From now on this index is searched. Raises Conflict while it lacks vectors, unless ``partly``."""
        if not partly:
            async with self._backends.plane.transaction(tenant_id, actor=actor) as tx:
                index = await tx.memory_indexes.get(index_id)
            found = await self.compare(tenant_id, index, actor=actor)
            if found.missing:
                raise Conflict(
                    f"index {index_id} lacks the vectors of {found.missing} of {found.memories} memories",
                    hint="wait for the worker, or say that it may be searched as it is",
                )
        async with self._backends.plane.transaction(tenant_id, actor=actor) as tx:
            return tx.memory_indexes.activate(await tx.memory_indexes.get(index_id), reason)

    async def retire(self, tenant_id: UUID, index_id: UUID, reason: str, *, actor: str) -> MemoryIndex:
        """An index is kept up no more, and what it has goes. Raises Conflict for the one that is searched."""
        plane = self._backends.plane
        async with plane.transaction(tenant_id, actor=actor) as tx:
            index = await tx.memory_indexes.get(index_id)
            searched = await tx.memory_indexes.searched()
            if searched is not None and searched.id == index_id:
                raise Conflict(f"index {index_id} is what is searched", hint="activate another one first")
            retired = tx.memory_indexes.retire(index, reason)
        store = await self._backends.store(tenant_id, index.store)
        await store.drop(index)
        return retired

    async def compare(self, tenant_id: UUID, index: MemoryIndex, *, actor: str) -> Comparison:
        """What an index has beside what it is to have by the log."""
        plane = self._backends.plane
        store = await self._backends.store(tenant_id, index.store)
        held = {memory_id: digest async for memory_id, digest in store.held(index)}
        missing: list[UUID] = []
        after, memories = BEFORE_ALL, 0
        while True:
            async with plane.transaction(tenant_id, actor=actor) as tx:
                page = await tx.memories.with_texts(after=after)
            if not page:
                break
            memories += len(page)
            missing += [memory_id for memory_id, digest in page if held.pop(memory_id, None) != digest]
            after = page[-1][0]
        async with plane.transaction(tenant_id, actor=actor) as tx:
            under_way = {
                effect.memory_id
                for first in range(0, len(missing), _PAGE)
                for effect in await tx.effects.all(memory_id=missing[first : first + _PAGE], status="PENDING")
            }
        return Comparison(
            index, memories, len(missing), len(held), len(under_way & set(missing)), tuple([*missing, *held][:_SHOWN])
        )

    async def rebuild(self, tenant_id: UUID, index: MemoryIndex, *, actor: str) -> Comparison:
        """Drops from an index what no memory has, and asks for what it lacks. Returns what differed."""
        found = await self.compare(tenant_id, index, actor=actor)
        if found.surplus:
            store = await self._backends.store(tenant_id, index.store)
            async with self._backends.plane.transaction(tenant_id, actor=actor) as tx:
                wanted: set[UUID] = set()
                after = BEFORE_ALL
                while page := await tx.memories.with_texts(after=after):
                    wanted |= {memory_id for memory_id, _ in page}
                    after = page[-1][0]
            await store.remove(index, [memory_id async for memory_id, _ in store.held(index) if memory_id not in wanted])
        if found.missing:
            await self.fill(tenant_id, index, actor=actor)
        return found
