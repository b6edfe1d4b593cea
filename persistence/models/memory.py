"""Memories: what agents learned."""

from datetime import datetime
from typing import Any, ClassVar, Final, Literal, Self, get_args
from uuid import UUID

from persistence.models.base import AggregateModel

MemoryContext = Literal["chat", "workflow", "doc"]
CONTEXTS: Final[tuple[MemoryContext, ...]] = get_args(MemoryContext)


class Memory(AggregateModel):
    """What an agent learned, in a run or on its own.

    context: chat, workflow or doc. importance: 0 to 1. valid_from, valid_until: when it holds, as far as that is known. ended_at: since when it is
    not what is known any more. is_embedded: False where no vectors are wanted. supersedes, superseded_by: the memories before and after it. digest:
    SHA-256 of the text in hexadecimal; content is None once it is forgotten.
    """

    kind: ClassVar[str] = "MEMORY"

    agent: str
    context: str
    tags: list[str] | None = None
    run_id: UUID | None = None
    step_id: UUID | None = None
    supersedes: UUID | None = None
    superseded_by: UUID | None = None
    importance: float | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    ended_at: datetime | None = None
    is_embedded: bool | None = None
    digest: str
    size_bytes: int
    content: str | None = None


class MemoryRecall(AggregateModel):
    """An agent used memories, in a run or on its own. memories: their ids. index_id: the index whose vectors found them, if any did."""

    kind: ClassVar[str] = "MEMORY_RECALL"

    agent: str
    run_id: UUID | None = None
    step_id: UUID | None = None
    index_id: UUID | None = None
    memories: list[UUID]

    @classmethod
    def made(cls, **fields: Any) -> Self:
        """As JSON has them, ids are texts."""
        return super().made(**{**fields, "memories": [UUID(str(one)) for one in fields["memories"]]})


class MemoryIndex(AggregateModel):
    """Vectors of all memories of a tenant: made with a model, kept in a store. The one that was activated last is searched; those that are not
    retired are kept up.
    """

    kind: ClassVar[str] = "MEMORY_INDEX"

    store: str
    model: str
    dimensions: int
    activated_at: datetime | None = None
