"""Entries of effect types that nobody handles: tried in vain until they are dead letters, so that somebody sees them."""

import asyncio

import structlog

from persistence.database.failures import DATABASE_ERRORS
from persistence.errors import PersistenceError
from persistence.outbox.attempt import attempt
from persistence.outbox.delivery import Delivery
from persistence.outbox.queue import OutboxQueue, Settlement
from persistence.outbox.registry import Handler, Registry

_log = structlog.get_logger(__name__)

_BITE = 200


class UnknownEffectType(Exception):
    """No worker that runs has a handler for this effect type."""


class UnknownTypes:
    """Takes entries that have been due for ``after`` seconds and are of none of this worker's types. Another worker may have their handler,
    and take them at any time before; each attempt here counts, and the wait between them grows as with any other failure.
    """

    def __init__(self, queue: OutboxQueue, handlers: Registry, *, after: float, lease: float) -> None:
        self._queue = queue
        self._known = list(handlers)
        self._after = after
        self._lease = lease

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(max(1.0, min(60.0, self._after / 10)))
            try:
                await self.round()
            except (PersistenceError, *DATABASE_ERRORS) as error:
                _log.warning("unknown_types_failed", error=str(error) or type(error).__name__)

    async def round(self) -> int:
        """One attempt at each of them, at most 200 of a type; how many there were."""
        names = await self._queue.unknown_types(self._known, self._after)
        if not names:
            return 0
        deliveries = await self._queue.claim(dict.fromkeys(names, _BITE), self._lease)
        outcomes = []
        for delivery in deliveries:
            outcomes += await attempt(Handler(delivery.effect_type, _refuse), [delivery], max_bytes=0)
        if outcomes:
            await self._queue.settle([outcome for outcome in outcomes if isinstance(outcome, Settlement)])
            _log.warning("unknown_effect_types", effect_types=names, entries=len(outcomes))
        return len(outcomes)


async def _refuse(delivery: Delivery) -> None:
    raise UnknownEffectType(f"no worker has a handler for {delivery.effect_type}")
