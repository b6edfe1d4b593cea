"""What the repositories of one transaction share."""

from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

import asyncpg

from persistence.context import Context
from persistence.models import NewEvent
from persistence.settings import Settings

T = TypeVar("T")


class Work(Protocol):
    """One unit of work for one tenant: its context, a buffer of events, and a way to read."""

    @property
    def context(self) -> Context: ...

    @property
    def settings(self) -> Settings: ...

    def record(self, event: NewEvent) -> None:
        """Checks an event and buffers it."""

    def has_begun(self, item_id: UUID) -> bool:
        """Whether an aggregate began in this unit of work."""

    async def fetch(self, statement: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        """Sends what is buffered, then reads, in the tenant's context. All raise this package's exceptions."""

    def awaited(self, name: str, command: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """A command that has to be awaited before this unit of work ends: it says so otherwise."""

    async def receive(self, signals: str, count: int) -> Sequence[asyncpg.Record]:
        """Sends what is buffered, then takes so many signals in: a JSON array for receive_signals."""
