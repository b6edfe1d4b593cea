"""Looking where claims do not: at what lies behind, and at what nobody handles."""

import asyncio
import random
from collections.abc import Callable, Sequence

import structlog

from persistence.errors import PersistenceError
from persistence.outbox.queue import OutboxQueue

_log = structlog.get_logger(__name__)

_PAUSE = 2.0
_SHARE_OF_TIME = 20.0


class Sweeper:
    """Sweeps every two seconds, and never for more than a twentieth of the time."""

    def __init__(self, queue: OutboxQueue, effect_types: Sequence[str], wake: Callable[[], None]) -> None:
        self._queue = queue
        self._effect_types = effect_types
        self._wake = wake

    async def keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await self.sweep()
            await asyncio.sleep(max(_PAUSE, _SHARE_OF_TIME * (loop.time() - begun)) * random.uniform(0.8, 1.2))

    async def sweep(self) -> bool:
        """Once. False when another worker is at it, or the database did not answer."""
        try:
            if not await self._queue.sweep(self._effect_types):
                return False
        except PersistenceError as error:
            _log.warning("sweep_failed", error=str(error))
            return False
        self._wake()
        return True
