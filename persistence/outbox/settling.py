"""Settling what came of attempts, in batches."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from persistence.encoding import decode
from persistence.errors import PersistenceError, Unavailable
from persistence.outbox.attempt import is_shortened, shortened
from persistence.outbox.breaker import Destinations
from persistence.outbox.delivery import Delivery
from persistence.outbox.holdings import Holdings
from persistence.outbox.queue import OutboxQueue, Settlement

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_SOON = 1.0


class Settler:
    """Collects outcomes and settles them: when ``batch`` are there, when the first has waited for ``within`` seconds, or when nothing
    else is under way that could join them.
    """

    def __init__(self, queue: OutboxQueue, holdings: Holdings, wake: Callable[[], None], *, batch: int, within: float) -> None:
        self._queue = queue
        self._holdings = holdings
        self._wake = wake
        self._batch = batch
        self._within = within
        self._outcomes: deque[Settlement] = deque()
        self._changed = asyncio.Event()
        self._handed_back: list[tuple[Delivery, float]] = []
        self.destinations = Destinations()
        self._is_closing = False
        self._is_working = False
        self.settled = 0

    def add(self, settlement: Settlement) -> None:
        self._outcomes.append(settlement)
        breaker = self._holdings.desks[settlement.delivery.effect_type].handler.breaker
        self.destinations.note(settlement.delivery, breaker, answered=settlement.answered)
        self._changed.set()

    def hand_back(self, delivery: Delivery, after: float = 0.0) -> None:
        """Takes back what nobody has begun, because its destination is to rest: once that has been told. after: seconds until it is due again."""
        self._handed_back.append((delivery, after))
        self._changed.set()

    def close(self) -> None:
        """No more will come: what is there is settled, and keep() ends."""
        self._is_closing = True
        self._changed.set()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be settled or followed up."""
        return not (self._is_working or self._outcomes or self._handed_back)

    async def keep(self) -> None:
        """Settles what comes until it is closed and nothing is left."""
        while True:
            self._is_working = False
            await self._changed.wait()
            self._changed.clear()
            self._is_working = True
            while self._outcomes:
                await self._gather()
                await self._settle([self._outcomes.popleft() for _ in range(min(len(self._outcomes), self._batch))])
            if self._handed_back:
                await self._follow_up(())
            if self._is_closing:
                return

    async def _gather(self) -> None:
        """Waits for a batch that is worth it."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._within
        await asyncio.sleep(0)  # attempts that end now join
        while len(self._outcomes) < min(self._batch, len(self._holdings)) and not self._is_closing:
            self._changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def _settle(self, batch: Sequence[Settlement]) -> None:
        try:
            settled = await self._queue.settle(batch)
        except PersistenceError as error:
            if len(batch) > 1 and not isinstance(error, Unavailable):  # one of them may be what is refused
                for settlement in batch:
                    await self._settle([settlement])
                return
            _log.error("settle_failed", effect_id=str(batch[0].delivery.effect_id), error=str(error))
            if not isinstance(error, Unavailable) and not is_shortened(
                batch[0]
            ):  # what has happened is not to happen again for that
                await self._settle([shortened(batch[0])])
                return
            settled = set()
        self.settled += len(settled)
        loop = asyncio.get_running_loop()
        for settlement in batch:
            delivery = settlement.delivery
            self._holdings.let_go(delivery)
            if settlement.outcome == "EXECUTED" and delivery.effect_id in settled:
                continue
            facts = {
                "tenant_id": str(delivery.tenant_id),
                "effect_id": str(delivery.effect_id),
                "effect_type": delivery.effect_type,
                "attempt": delivery.attempt,
                "correlation_id": str(delivery.correlation_id),
                "causation_id": str(delivery.causation_id),
                **({"traceparent": delivery.traceparent} if delivery.traceparent else {}),
            }
            if delivery.effect_id not in settled:
                _log.warning("lease_lost", outcome=settlement.outcome, **facts)
            elif settlement.outcome == "FAILED":
                _log.info("attempt_failed", retry_in=round(settlement.delay, 3), error=decode(settlement.detail), **facts)
                if settlement.delay < _SOON:
                    loop.call_later(settlement.delay, self._wake)
            else:
                _log.warning("dead_lettered", error=decode(settlement.detail), **facts)
        self._wake()
        await self._follow_up(batch)

    async def _follow_up(self, batch: Sequence[Settlement]) -> None:
        """What may also be done later, or by another: a failure here loses nothing."""
        keys = {
            (settlement.delivery.tenant_id, settlement.delivery.ordering_key)
            for settlement in batch
            if settlement.delivery.ordering_key is not None
        }
        handed_back, self._handed_back = self._handed_back, []
        reports = self.destinations.reports(
            (settlement.delivery, self._holdings.desks[settlement.delivery.effect_type].handler.breaker, settlement.answered)
            for settlement in batch
        )
        if keys:
            await self._try("advance_keys", self._queue.advance_keys(keys))
            self._wake()
        if reports:
            resting = await self._try("report", self._queue.report(reports)) or ()
            self.destinations.told(reports, resting)
            for destination in resting:
                _log.warning("destination_rests", destination=destination)
        if handed_back:
            await self._try("release", self._queue.release([d for d, _ in handed_back], [after for _, after in handed_back]))
        for delivery, _ in handed_back:
            self._holdings.let_go(delivery)
        if handed_back:
            self._wake()

    async def _try(self, name: str, work: Awaitable[T]) -> T | None:
        try:
            return await work
        except PersistenceError as error:
            _log.warning("follow_up_failed", what=name, error=str(error))
            return None
