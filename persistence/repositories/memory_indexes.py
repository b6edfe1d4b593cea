"""Who used memories, and which vectors of them there are: the machines MEMORY_RECALL and MEMORY_INDEX of the canon."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Unpack
from uuid import UUID

from persistence.database.tables import MEMORY_INDEXES, MEMORY_RECALLS
from persistence.encoding import encode
from persistence.errors import InvalidInput
from persistence.models import Memory, MemoryIndex, MemoryRecall, Run, Step
from persistence.repositories.base import AggregateRepository, Details, checked
from persistence.repositories.memory_search import MOST_FOUND, Found, check_limit

_NEVER: Final = datetime.min.replace(tzinfo=UTC)

_USED: Final = """
SELECT r.id
FROM persistence.memory_recalls AS r
WHERE r.tenant_id = $1
  AND r.memories @> $2::jsonb
ORDER BY r.id DESC
LIMIT $3
"""


class MemoryRecallRepository(AggregateRepository[MemoryRecall]):
    """Who used which memories."""

    table = MEMORY_RECALLS
    model = MemoryRecall

    def record(
        self,
        memories: Sequence[Memory | Found],
        *,
        agent: str,
        origin: Run | Step | None = None,
        index: MemoryIndex | None = None,
        **details: Unpack[Details],
    ) -> MemoryRecall:
        """Notes that an agent used memories, so that a trace says what it knew when it decided. At least one, at most 1,000."""
        if origin is not None:
            checked(origin, "origin", Run, Step)
        used = [one.memory.id if isinstance(one, Found) else checked(one, "memories", Memory).id for one in memories]
        if not 1 <= len(used) <= MOST_FOUND:
            raise InvalidInput(f"memories: are {len(used)}", hint=f"1 to {MOST_FOUND}; who found none used none", field="memories")
        data = {
            "agent": agent,
            "run_id": origin.run_id if isinstance(origin, Step) else None if origin is None else origin.id,
            "step_id": origin.id if isinstance(origin, Step) else None,
            "index_id": None if index is None else index.id,
            "memories": [str(one) for one in used],
        }
        return self._begin("MEMORY_RECALLED", data, details, cause=origin)

    async def of(self, memory: Memory, *, limit: int = 100) -> Sequence[MemoryRecall]:
        """Who used a memory, the newest first."""
        check_limit(limit)
        rows = await self._work.fetch(_USED, self._work.context.tenant_id, encode([str(memory.id)]), limit)
        found = await self.get_many([row["id"] for row in rows])
        return sorted(found, key=lambda recall: recall.id, reverse=True)


class MemoryIndexRepository(AggregateRepository[MemoryIndex]):
    """Which vectors of memories there are."""

    table = MEMORY_INDEXES
    model = MemoryIndex

    def begin(
        self, *, store: str, model: str, dimensions: int, index_id: UUID | None = None, **details: Unpack[Details]
    ) -> MemoryIndex:
        """Notes that vectors of all memories are to be made. store: where they are kept, such as pgvector. model: what makes them."""
        data = {"store": store, "model": model, "dimensions": dimensions}
        return self._begin("MEMORY_INDEX_BEGUN", data, details, item_id=index_id)

    def activate(self, index: MemoryIndex, reason: str | None = None, **details: Unpack[Details]) -> MemoryIndex:
        """From now on it is what is searched. What was searched before is kept up until it is retired, so that one can go back."""
        return self._advance(index, "MEMORY_INDEX_ACTIVATED", {"reason": reason}, details)

    def retire(self, index: MemoryIndex, reason: str, **details: Unpack[Details]) -> MemoryIndex:
        """It is not kept up any more, and its vectors in this database go."""
        return self._advance(index, "MEMORY_INDEX_RETIRED", {"reason": reason}, details)

    async def kept_up(self) -> list[MemoryIndex]:
        """Those that are not retired; first the one that is searched, if any is."""
        there = [index for index in await self.all() if index.status != "RETIRED"]
        return sorted(there, key=lambda index: (index.activated_at or _NEVER, index.id), reverse=True)

    async def searched(self) -> MemoryIndex | None:
        """The one that is searched."""
        first = (await self.kept_up())[:1]
        return first[0] if first and first[0].status == "ACTIVE" else None
