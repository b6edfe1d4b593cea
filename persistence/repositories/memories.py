"""Memories: the machine MEMORY of the canon."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Unpack
from uuid import UUID

from persistence.database.tables import MEMORIES
from persistence.encoding import check
from persistence.errors import InvalidInput
from persistence.models import Effect, Memory, MemoryIndex, Run, Step, new_id
from persistence.models.memory import MemoryContext
from persistence.repositories.base import AggregateRepository, Details, checked, moment
from persistence.repositories.effects import EffectRepository
from persistence.repositories.memory_search import BEFORE_ALL, MemoryReader, checked_tags

LONGEST: Final = 65_536
"""Bytes that a memory's text may have in UTF-8."""

EMBED: Final = "EMBED"
"""The effect type that asks for a memory's vectors."""


class MemoryRepository(MemoryReader, AggregateRepository[Memory]):
    """What agents learned. The log keeps digests and sizes of the texts only, so that one that is forgotten is gone."""

    table = MEMORIES
    model = Memory

    def remember(
        self,
        content: str,
        *,
        agent: str,
        context: MemoryContext,
        origin: Run | Step | None = None,
        tags: Sequence[str] = (),
        importance: float | None = None,
        valid_from: datetime | None = None,
        valid_until: datetime | None = None,
        supersedes: Memory | None = None,
        embed: bool = True,
        memory_id: UUID | None = None,
        **details: Unpack[Details],
    ) -> Memory:
        """Notes what an agent learned, and asks for its vectors.

        content: a text of at most 64 KiB in UTF-8. agent: whose it is, at most 200 characters. origin: the run or the step that taught it. tags: at
        most 50 of at most 100 characters. importance: 0 to 1. valid_from, valid_until: when it holds. supersedes: what it takes the place of, which
        is not found any more but by searches as of a moment before. embed: whether its vectors are asked for, by an effect EMBED;
        without them it is found by its words, and no index has it. Raises InvalidInput.
        """
        if origin is not None:
            checked(origin, "origin", Run, Step)
        check(content, "content")
        text = content.encode()
        if not 1 <= len(text) <= LONGEST:
            raise InvalidInput(f"content: has {len(text)} bytes", hint=f"1 to {LONGEST:,}; longer texts in parts", field="content")
        checked_tags(tags)
        if memory_id == BEFORE_ALL:
            raise InvalidInput("memory_id: is the one of all zeros", hint="leave it out, or give another", field="memory_id")
        memory_id = memory_id or new_id()
        data: dict[str, Any] = {
            "agent": agent,
            "context": context,
            "tags": list(tags) or None,
            "run_id": origin.run_id if isinstance(origin, Step) else None if origin is None else origin.id,
            "step_id": origin.id if isinstance(origin, Step) else None,
            "supersedes": None if supersedes is None else supersedes.id,
            "importance": importance,
            "valid_from": moment(valid_from, "valid_from"),
            "valid_until": moment(valid_until, "valid_until"),
            "is_embedded": None if embed else False,
            "digest": sha256(text).hexdigest(),
            "size_bytes": len(text),
        }
        memory = self._begin(
            "MEMORY_REMEMBERED", data, details, cause=origin, item_id=memory_id, attachment=content, fields={"content": content}
        )
        if embed:
            self.embed(memory)
        if supersedes is not None:
            self._advance(supersedes, "MEMORY_SUPERSEDED", {"superseded_by": memory.id}, {})
        return memory

    def embed(
        self,
        memory: Memory,
        index: MemoryIndex | None = None,
        *,
        key: str = "",
        vector: str | None = None,
        **details: Unpack[Details],
    ) -> Effect:
        """Asks for a memory's vectors: in all indexes that are kept up, or in one. key: tells one request from another. vector: SHA-256 of
        the one that the application itself gives, as PostgreSQL sends it (array_send); no worker makes it then.
        """
        asked = {"memory_id": memory.id, "index_id": None if index is None else index.id, "vector": vector}
        spec = {name: str(value) for name, value in asked.items() if value is not None}
        name = ":".join(("embed", str(memory.id), *([] if index is None else [str(index.id)]), *([key] if key else [])))
        return EffectRepository(self._work).request(memory, EMBED, spec=spec, idempotency_key=name, **details)

    def prune(self, memory: Memory, reason: str, **details: Unpack[Details]) -> Memory:
        """Leaves it aside: it is not found any more, and can be brought back."""
        return self._advance(memory, "MEMORY_PRUNED", {"reason": reason}, details)

    def restore(self, memory: Memory, reason: str, **details: Unpack[Details]) -> Memory:
        """Brings back what was pruned."""
        return self._advance(memory, "MEMORY_RESTORED", {"reason": reason}, details)

    async def decay(
        self,
        half_life: timedelta,
        *,
        below: float,
        reason: str,
        agent: str | None = None,
        limit: int = 1000,
        **details: Unpack[Details],
    ) -> list[Memory]:
        """Leaves aside those that matter least: whose strength, as ``weakest`` has it, is below a number. Returns what it left aside."""
        weak = [hit.id for hit in await self.weakest(half_life, agent=agent, limit=limit) if hit.score < below]
        return [self.prune(memory, reason, **details) for memory in await self.get_many(weak)]

    def forget(self, memory: Memory, reason: str, **details: Unpack[Details]) -> Memory:
        """Drops its text and its vectors for good; its digest stays. Other stores are asked by an effect EMBED.

        Copies in backups and snapshots are as old as these: seal what is personal (``subjects``).
        """
        forgotten = self._advance(memory, "MEMORY_FORGOTTEN", {"reason": reason}, details)
        self.embed(forgotten, key="forgotten")
        return forgotten
