"""Waking workers when there is something to deliver.

A NOTIFY inside a busy writer's transaction makes all commits wait for one another. So it goes with a commit only when there was none for a few
milliseconds; writers that come sooner ring a bell after their commit, and the bell notifies from a connection of its own when that time is over.
"""

import asyncio
import contextlib
from types import TracebackType
from typing import Final, Self

import asyncpg

from persistence.database.failures import DATABASE_ERRORS

CHANNEL: Final = "persistence_outbox"
FLOWS: Final = "persistence_flows"
"""Where executors hear that there are runs to take up."""
CANCELLED: Final = "cancelled"
"""What the channel says when an effect was cancelled that a worker holds (``cancel_parts``)."""
_QUIET_SECONDS: Final = 0.002

# Wakes all that listen on a channel.
_NOTIFY = "SELECT pg_notify($1, '')"


class Bell:
    """Rings at once when it has been quiet, and otherwise when the quiet time is over."""

    def __init__(self, pool: asyncpg.Pool, channel: str = CHANNEL) -> None:
        self._pool = pool
        self._channel = channel
        self._rung = asyncio.Event()
        self._notified_at = float("-inf")
        self._ringer: asyncio.Task[None] | None = None

    def ring(self) -> None:
        """May be called at any time; never waits, never fails. A worker that misses it polls."""
        self._rung.set()

    def takes_turn(self) -> bool:
        """Whether it has been quiet, so that the caller may notify with its commit: it has then."""
        now = asyncio.get_running_loop().time()
        if now - self._notified_at < _QUIET_SECONDS:
            return False
        self._notified_at = now
        return True

    async def __aenter__(self) -> Self:
        self._ringer = asyncio.create_task(self._keep_ringing())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._ringer is not None
        self._ringer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._ringer
        if self._rung.is_set():
            await self._notify()

    async def _keep_ringing(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._rung.wait()
            if (wait := self._notified_at + _QUIET_SECONDS - loop.time()) > 0:
                await asyncio.sleep(wait)
            self._rung.clear()
            self._notified_at = loop.time()
            await self._notify()

    async def _notify(self) -> None:
        with contextlib.suppress(*DATABASE_ERRORS):
            async with self._pool.acquire() as connection:
                await connection.execute(_NOTIFY, self._channel)
