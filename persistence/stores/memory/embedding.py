"""Keeping vectors in step with what is remembered: what the effect EMBED asks for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid5

from persistence.errors import Conflict, PersistenceError
from persistence.models import Memory, MemoryIndex
from persistence.stores.memory.backends import Backends
from persistence.stores.memory.models import GIVEN, AskForKey, EmbeddingModel, ModelFailed, Overloaded, Unembeddable, Vector
from persistence.stores.memory.vectors import VectorRecord

ACTOR: Final = "system:memory"

Done = dict[str, str]
Outcome = dict[str, Any] | PersistenceError
"""What came of a request: by index what was done, or why nothing was."""


@dataclass(frozen=True)
class Request:
    """The vectors of a memory are asked for: in all indexes that are kept up, or in one. causation_id, correlation_id: of the effect."""

    memory_id: UUID
    index_id: UUID | None = None
    causation_id: UUID | None = None
    correlation_id: UUID | None = None


class Embedder:
    """Brings indexes up to date with memories. What is there already is not made again."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    async def embed(self, tenant_id: UUID, requests: Sequence[Request]) -> list[Outcome]:
        """What came of each request. A text that a model refuses stands in nobody's way: the others are given to it without that one.

        Raises what the database raises.
        """
        plane = self._backends.plane
        indexes = await self.indexes(tenant_id)
        async with plane.transaction(tenant_id, actor=ACTOR) as tx:
            memories = {memory.id: memory for memory in await tx.memories.get_many(list({r.memory_id for r in requests}))}
        done: dict[UUID, dict[str, Any]] = {request.memory_id: {} for request in requests}
        failed: dict[UUID, PersistenceError] = {}
        for index in indexes:
            wanted = [
                memories[request.memory_id]
                for request in _once(requests)
                if request.memory_id in memories and request.index_id in {None, index.id}
            ]
            if not wanted:
                continue
            key = self._backends.key_of(tenant_id, requests[0].causation_id, requests[0].correlation_id)
            for memory_id, outcome in (await self._update(tenant_id, index, wanted, key)).items():
                if isinstance(outcome, PersistenceError):
                    failed.setdefault(memory_id, outcome)
                else:
                    done[memory_id][str(index.id)] = outcome
        return [failed.get(request.memory_id) or {"indexes": done[request.memory_id]} for request in requests]

    async def indexes(self, tenant_id: UUID) -> list[MemoryIndex]:
        """The tenant's indexes that are kept up; the first one is made as the configuration says."""
        plane = self._backends.plane
        async with plane.transaction(tenant_id, actor=ACTOR) as tx:
            there = list(await tx.memory_indexes.all())
        there = [index for index in there if not index.model.startswith(GIVEN)]
        if there:
            return [index for index in there if index.status != "RETIRED"]
        await self.begin(tenant_id, activated="it is the first")
        return await self.indexes(tenant_id)

    async def begin(self, tenant_id: UUID, *, activated: str | None = None, actor: str = ACTOR, number: int = 0) -> MemoryIndex:
        """Makes an index as the configuration says; nothing is in it yet. activated: why it is searched from now on. number: tells it from another
        of the same model and store. Whoever comes second finds it made.
        """
        config, model = self._backends.config, self._backends.model()
        dimensions = model.dimensions
        if dimensions is None:
            [vector] = await model.embed(["how many dimensions"], self._backends.key_of(tenant_id))
            dimensions = len(vector)
        index_id = uuid5(tenant_id, f"{config.provider}:{model.name}:{dimensions}:{number}")
        plane = self._backends.plane
        try:
            async with plane.transaction(tenant_id, actor=actor) as tx:
                index = tx.memory_indexes.begin(store=config.provider, model=model.name, dimensions=dimensions, index_id=index_id)
                if activated is not None:
                    tx.memory_indexes.activate(index, activated)
        except Conflict:
            pass  # somebody else made it
        async with plane.transaction(tenant_id, actor=ACTOR) as tx:
            return await tx.memory_indexes.get(index_id)

    async def _update(
        self, tenant_id: UUID, index: MemoryIndex, memories: Sequence[Memory], key: AskForKey
    ) -> dict[UUID, Done | PersistenceError]:
        """What was done with each memory in one index."""
        try:
            store = await self._backends.store(tenant_id, index.store)
            there = await store.digests(index, [memory.id for memory in memories])
            outcomes: dict[UUID, Done | PersistenceError] = {}
            texts: dict[str, str] = {}
            for memory in memories:
                if memory.content is None:
                    outcomes[memory.id] = {"done": "forgotten"}
                elif there.get(memory.id) == memory.digest:
                    outcomes[memory.id] = {"done": "there"}
                else:
                    texts[memory.digest] = memory.content
            gone = [memory.id for memory in memories if memory.content is None]
            if gone:
                await store.remove(index, gone)
            made = await embedded(self._backends.model(index.model), texts, key) if texts else {}
            records = []
            for memory in memories:
                if memory.id in outcomes:
                    continue
                vector = made[memory.digest]
                if isinstance(vector, PersistenceError):
                    outcomes[memory.id] = vector
                elif len(vector) != index.dimensions:
                    outcomes[memory.id] = ModelFailed(
                        f"{index.model}: gives {len(vector)} dimensions, index {index.id} has {index.dimensions}"
                    )
                else:
                    records.append(_record(memory, vector))
            kept = await store.write(index, records) if records else {}
            for record in records:
                digest = kept.get(record.memory_id)
                outcomes[record.memory_id] = {"done": "forgotten"} if digest is None else {"done": "made", "vector": digest}
        except PersistenceError as error:
            return {memory.id: error for memory in memories}
        return outcomes


async def embedded(model: EmbeddingModel, texts: Mapping[str, str], key: AskForKey) -> dict[str, Vector | PersistenceError]:
    """The vectors of texts, by their digests; in the place of one that could not be made, why."""
    made: dict[str, Vector | PersistenceError] = {}
    digests = list(texts)
    for first in range(0, len(digests), model.at_once):
        made |= await _halved(model, texts, digests[first : first + model.at_once], key)
    return made


async def _halved(
    model: EmbeddingModel, texts: Mapping[str, str], digests: Sequence[str], key: AskForKey
) -> dict[str, Vector | PersistenceError]:
    """Finds what a model refuses by halving what it was given."""
    try:
        vectors = await model.embed([texts[digest] for digest in digests], key)
    except Unembeddable as error:
        if len(digests) == 1:
            return {digests[0]: error}
        middle = len(digests) // 2
        return await _halved(model, texts, digests[:middle], key) | await _halved(model, texts, digests[middle:], key)
    except (Overloaded, ModelFailed) as error:
        return dict.fromkeys(digests, error)
    return dict(zip(digests, vectors, strict=True))


def _record(memory: Memory, vector: Vector) -> VectorRecord:
    assert memory.created_at is not None
    return VectorRecord(memory.id, memory.digest, vector, memory.agent, memory.context, memory.tags or (), memory.created_at)


def _once(requests: Iterable[Request]) -> list[Request]:
    """Each memory once for each index that is meant."""
    return list({(request.memory_id, request.index_id): request for request in requests}.values())
