"""What operators do with dead letters."""

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import asyncpg

from persistence.context import Context
from persistence.database.retry import fetched
from persistence.database.signing import proof_of
from persistence.settings import Settings

# Puts dead letters back into the queue; returns the ids that moved.
_REQUEUE = "SELECT persistence.requeue_outbox($1, $2, $3, $4, $5, $6)"

# Ends dead letters for good; returns the ids that moved.
_DISCARD = "SELECT persistence.discard_outbox($1, $2, $3, $4, $5, $6)"

_AT_ONCE: Final = 500


class DeadLetters:
    """Dead letters of one tenant. The login needs persistence_operator."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, context: Context, wake: Callable[[], None]) -> None:
        self._pool = pool
        self._settings = settings
        self._context = context
        self._wake = wake

    async def requeue(self, ids: Sequence[UUID], reason: str | None = None) -> set[UUID]:
        """Gives dead letters all their attempts again, due at once. Returns those that were dead letters; the others are left alone.

        Many go in bites of their own transactions, here as in ``discard``.
        """
        return await self._move(_REQUEUE, ids, reason, self._wake)

    async def discard(self, ids: Sequence[UUID], reason: str) -> set[UUID]:
        """Ends dead letters for good. Returns those that were dead letters; the others are left alone."""
        return await self._move(_DISCARD, ids, reason, lambda: None)

    async def _move(self, statement: str, ids: Sequence[UUID], reason: str | None, after_each: Callable[[], None]) -> set[UUID]:
        context = self._context
        moved: set[UUID] = set()
        for start in range(0, len(ids), _AT_ONCE):
            proof = proof_of(self._settings, context.tenant_id, context.user_id)
            arguments = (context.tenant_id, context.user_id, list(ids[start : start + _AT_ONCE]), context.actor, reason, proof)
            rows = await fetched(self._pool, self._settings, statement, *arguments)
            moved.update(rows[0][0])
            after_each()
        return moved
