"""The worker: claims due entries, runs their handlers, settles what came of them."""

import asyncio
import os
import random
import socket
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any

import structlog

from persistence.database.failures import DATABASE_ERRORS
from persistence.errors import ConfigurationError, PersistenceError
from persistence.outbox.attempt import attempt, interrupted
from persistence.outbox.backoff import Backoff
from persistence.outbox.delivery import Delivery, Hold
from persistence.outbox.housekeeping import Housekeeping
from persistence.outbox.listener import Listener
from persistence.outbox.queue import OutboxQueue, Settlement
from persistence.outbox.registry import Handler, HandlerFunction, Registry
from persistence.plane import Plane

_log = structlog.get_logger(__name__)

_SETTLE_BATCH = 500
_LOOKAHEAD_SECONDS = 0.25
_MAX_LOOKAHEAD = 50
_IDLE_PAUSE = 0.05


class Worker:
    """Delivers effects with the handlers that were given to it.

    lease: seconds an entry is a worker's before another may take it; extended while a handler is busy.
    poll_interval: seconds between looks at the queue when no bell rings (with jitter of half of it either way).
    listen: False where a pooler forbids LISTEN: then polling alone has to do.
    grace: seconds that handlers get to finish when the worker is told to stop.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        lease: float = 60.0,
        poll_interval: float = 1.0,
        listen: bool = True,
        grace: float = 30.0,
        housekeeping: Housekeeping | None = None,
    ) -> None:
        for label, value in (("lease", lease), ("poll_interval", poll_interval)):
            if value <= 0:
                raise ConfigurationError(f"worker: {label} must be more than zero seconds")
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self.lease = lease
        self.poll_interval = poll_interval
        self.listen = listen
        self.grace = grace
        self.housekeeping = housekeeping or Housekeeping()
        self.handlers = Registry()

    def handler(
        self,
        effect_type: str,
        *,
        timeout: float = 30.0,
        concurrency: int = 20,
        max_attempts: int = 10,
        backoff: Backoff | None = None,
    ) -> Callable[[HandlerFunction], HandlerFunction]:
        """Decorates the async function that delivers one type of effect; the settings are those of Handler."""

        def register(function: HandlerFunction) -> HandlerFunction:
            self.handlers.add(Handler(effect_type, function, timeout, concurrency, max_attempts, backoff or Backoff()))
            return function

        return register

    async def run(self, plane: Plane, stop: asyncio.Event | None = None) -> None:
        """Works until ``stop`` is set, then finishes or hands back what it holds."""
        await Shift(self, plane).work(stop or asyncio.Event())

    async def drain(self, plane: Plane) -> int:
        """Works until nothing is due, and returns how many attempts it settled. For commands and tests."""
        shift = Shift(self, plane)
        await shift.work(asyncio.Event(), until_idle=True)
        return shift.settled


class Shift:
    """One run of a worker: everything that lives from its start to its stop."""

    def __init__(self, worker: Worker, plane: Plane) -> None:
        if not worker.handlers:
            raise ConfigurationError("the worker has no handlers", hint="give it some: @worker.handler('EFFECT_TYPE')")
        self._worker = worker
        self._plane = plane
        self._queue = OutboxQueue(plane.pool, plane.settings, worker.name)
        self._desks = {effect_type: _Desk(handler) for effect_type, handler in worker.handlers.items()}
        self._held: dict[Hold, Delivery] = {}
        self._running: dict[Hold, asyncio.Task[None]] = {}
        self._outcomes: deque[Settlement] = deque()
        self._wake = asyncio.Event()
        self._done = asyncio.Event()
        self._is_closing = False
        self.settled = 0

    async def work(self, stop: asyncio.Event, *, until_idle: bool = False) -> None:
        async with AsyncExitStack() as resources:
            if self._worker.listen and not until_idle:
                dsn = self._plane.server.direct_dsn
                await resources.enter_async_context(Listener(dsn, self._plane.settings, self._wake.set))
            _log.info("worker_started", worker=self._worker.name, effect_types=sorted(self._desks))
            settling = asyncio.create_task(self._settle_outcomes())
            helpers = [settling, asyncio.create_task(self._keep_leases())]
            if not until_idle:
                helpers.append(asyncio.create_task(self._worker.housekeeping.keep(self._plane)))
            try:
                await self._claim_until(stop, helpers, until_idle=until_idle)
            finally:
                await self._close(settling, helpers)
            _log.info("worker_stopped", worker=self._worker.name, settled=self.settled)

    async def _claim_until(self, stop: asyncio.Event, helpers: Iterable[asyncio.Task[Any]], *, until_idle: bool) -> None:
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                for helper in helpers:
                    if helper.done():
                        helper.result()
                self._wake.clear()
                found = await self._claim()
                if until_idle and not found and not self._held:
                    return
                if found and self._limits():
                    continue
                pause = _IDLE_PAUSE if until_idle else self._worker.poll_interval * random.uniform(0.5, 1.5)
                waking = asyncio.create_task(self._wake.wait())
                await asyncio.wait({waking, stopping}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
        finally:
            stopping.cancel()

    async def _claim(self) -> int:
        limits = self._limits()
        if not limits:
            return 0
        try:
            deliveries = await self._queue.claim(limits, self._worker.lease)
        except DATABASE_ERRORS as error:
            _log.warning("claim_failed", error=str(error) or type(error).__name__)
            return 0
        for delivery in deliveries:
            desk = self._desks[delivery.effect_type]
            self._held[delivery.hold] = delivery
            desk.held += 1
            desk.waiting.append(delivery)
        for effect_type in {delivery.effect_type for delivery in deliveries}:
            self._start_waiting(self._desks[effect_type])
        return len(deliveries)

    def _limits(self) -> dict[str, int]:
        """How many more of each type this process wants: what it can work off in a moment, in bites that are worth a claim."""
        return {effect_type: wanted for effect_type, desk in self._desks.items() if (wanted := desk.wanted)}

    def _start_waiting(self, desk: "_Desk") -> None:
        while desk.waiting and desk.busy < desk.handler.concurrency:
            desk.busy += 1
            runner = asyncio.create_task(self._work_off(desk))
            desk.runners.add(runner)
            runner.add_done_callback(desk.runners.discard)

    async def _work_off(self, desk: "_Desk") -> None:
        """Makes attempts, one after the other, until none of this type is waiting."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        try:
            while desk.waiting:
                delivery = desk.waiting.popleft()
                if delivery.hold not in self._held:
                    continue
                self._running[delivery.hold] = task
                begun = loop.time()
                try:
                    self._outcomes.append(await attempt(desk.handler, delivery))
                except asyncio.CancelledError:
                    if delivery.hold in self._held:  # the worker is stopping; otherwise the lease was lost
                        self._outcomes.append(interrupted(delivery))
                    task.uncancel()
                finally:
                    self._running.pop(delivery.hold, None)
                    self._done.set()
                desk.note_duration(loop.time() - begun)
                if desk.is_hungry:
                    self._wake.set()
        finally:
            desk.busy -= 1

    async def _settle_outcomes(self) -> None:
        """Settles what comes, in batches, until the shift closes and nothing is left."""
        while not self._is_closing:
            await self._done.wait()
            self._done.clear()
            while self._outcomes:
                await asyncio.sleep(0)  # lets handlers that end now join the batch
                batch = [self._outcomes.popleft() for _ in range(min(len(self._outcomes), _SETTLE_BATCH))]
                await self._settle(batch)

    async def _settle(self, batch: list[Settlement]) -> None:
        try:
            settled = await self._queue.settle(batch)
        except PersistenceError as error:
            _log.error("settle_failed", entries=len(batch), error=str(error))
            settled = set()
        self.settled += len(settled)
        loop = asyncio.get_running_loop()
        for settlement in batch:
            delivery = settlement.delivery
            self._let_go(delivery)
            facts = {"effect_id": str(delivery.effect_id), "effect_type": delivery.effect_type, "attempt": delivery.attempt}
            if delivery.effect_id not in settled:
                _log.warning("lease_lost", outcome=settlement.outcome, **facts)
            elif settlement.outcome == "FAILED":
                _log.info("attempt_failed", retry_in=round(settlement.delay, 3), error=settlement.detail, **facts)
                loop.call_later(settlement.delay, self._wake.set)
            elif settlement.outcome == "DEAD":
                _log.warning("dead_lettered", error=settlement.detail, **facts)
        if any(desk.is_hungry for desk in self._desks.values()):
            self._wake.set()

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._worker.lease / 3)
            held = list(self._held.values())
            if not held:
                continue
            try:
                ours = await self._queue.extend(held, self._worker.lease)
            except PersistenceError as error:
                _log.warning("extend_failed", error=str(error))
                continue
            for delivery in held:
                if delivery.effect_id not in ours and self._let_go(delivery):
                    task = self._running.get(delivery.hold)
                    if task is not None:
                        _log.warning("lease_lost", effect_id=str(delivery.effect_id), effect_type=delivery.effect_type)
                        task.cancel()

    def _let_go(self, delivery: Delivery) -> bool:
        """Takes an entry off the books. False when it was off them already."""
        if self._held.pop(delivery.hold, None) is None:
            return False
        self._desks[delivery.effect_type].held -= 1
        return True

    async def _close(self, settling: asyncio.Task[None], helpers: Iterable[asyncio.Task[Any]]) -> None:
        """Hands back what was not begun, lets running handlers finish within the grace, and settles what came of them."""
        waiting = [delivery for desk in self._desks.values() for delivery in desk.waiting if delivery.hold in self._held]
        for desk in self._desks.values():
            desk.waiting.clear()
        for delivery in waiting:
            self._let_go(delivery)
        runners = {runner for desk in self._desks.values() for runner in desk.runners}
        if runners:
            _, late = await asyncio.wait(runners, timeout=self._worker.grace)
            for runner in late:
                runner.cancel()
            if late:
                await asyncio.wait(late, timeout=5)
        self._is_closing = True
        self._done.set()
        await asyncio.wait({settling})
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        if waiting:
            try:
                await self._queue.release(waiting)
            except PersistenceError as error:
                _log.warning("release_failed", entries=len(waiting), error=str(error))


class _Desk:
    """One effect type's share of a shift."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.waiting: deque[Delivery] = deque()
        self.runners: set[asyncio.Task[None]] = set()
        self.busy = 0
        self.held = 0
        self._average: float | None = None

    @property
    def capacity(self) -> int:
        """Entries worth holding: what the handler works off in a quarter of a second, and at least one for each of its places."""
        if self._average is None:
            return self.handler.concurrency
        ahead = min(max(_LOOKAHEAD_SECONDS / max(self._average, 1e-6), 1.0), _MAX_LOOKAHEAD)
        return round(self.handler.concurrency * ahead)

    @property
    def wanted(self) -> int:
        free = self.capacity - self.held
        return free if free >= max(1, self.capacity // 4) else 0

    @property
    def is_hungry(self) -> bool:
        return self.wanted > 0

    def note_duration(self, seconds: float) -> None:
        self._average = seconds if self._average is None else 0.9 * self._average + 0.1 * seconds
