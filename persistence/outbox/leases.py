"""Keeping leases while handlers are busy, stopping handlers that have lost theirs, and telling those whose effect was cancelled."""

import asyncio
import contextlib

import structlog

from persistence.errors import PersistenceError
from persistence.outbox.delivery import Delivery
from persistence.outbox.holdings import Holdings
from persistence.outbox.queue import OutboxQueue

_log = structlog.get_logger(__name__)


class LeaseKeeper:
    """Extends the leases of all that is held, every third of a lease, and when an effect was cancelled."""

    def __init__(self, queue: OutboxQueue, holdings: Holdings, lease: float) -> None:
        self._queue = queue
        self._holdings = holdings
        self._lease = lease
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Somebody cancelled an effect that a worker holds: asks at once whether it is one of these."""
        self._asked.set()

    async def keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._lease / 3):
                    await self._asked.wait()
            self._asked.clear()
            held = [item.delivery for item in self._holdings.everything()]
            if held:
                asked_at = loop.time()
                try:
                    async with asyncio.timeout(self._lease / 3):
                        ours = await self._queue.extend(held, self._lease)
                except (PersistenceError, TimeoutError) as error:
                    _log.warning("extend_failed", entries=len(held), error=str(error) or type(error).__name__)
                    self._give_up(loop.time())
                    continue
                for delivery in held:
                    if delivery.effect_id in ours:
                        self._holdings.extend(delivery, asked_at + self._lease)
                    else:
                        self._lose(delivery)

    def _give_up(self, now: float) -> None:
        """The server does not answer. What another worker may have by now must not be worked on here."""
        for item in self._holdings.everything():
            if item.lasts_until - self._lease / 3 <= now:
                self._lose(item.delivery)

    def _lose(self, delivery: Delivery) -> None:
        item = self._holdings.let_go(delivery)
        if item is not None:
            _log.warning("lease_lost", effect_id=str(delivery.effect_id), effect_type=delivery.effect_type)
            if item.underway is not None:
                item.underway.lose()
