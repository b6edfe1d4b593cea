"""One run of a worker: everything that lives from its start to its stop."""

import asyncio
import random
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Literal

import structlog

from persistence.database.failures import DATABASE_ERRORS, translated
from persistence.database.wake import CANCELLED, CHANNEL
from persistence.errors import ConfigurationError, PermissionDenied, PersistenceError
from persistence.outbox.attempt import Snoozed, attempt, interrupted
from persistence.outbox.delivery import Delivery
from persistence.outbox.desk import Desk
from persistence.outbox.holdings import Holdings
from persistence.outbox.leases import LeaseKeeper
from persistence.outbox.listener import Listener
from persistence.outbox.queue import OutboxQueue
from persistence.outbox.secrets import WorkerSecrets
from persistence.outbox.settling import Settler
from persistence.outbox.sweeping import Sweeper
from persistence.outbox.unknown import UnknownTypes
from persistence.plane import Plane

if TYPE_CHECKING:
    from persistence.outbox.worker import Worker

_log = structlog.get_logger(__name__)

_IDLE_PAUSE = 0.05
_SOON = 0.005
_SETTLE_SECONDS = 15
_RELEASE_SECONDS = 5


class Shift:
    """Claims what the desks can take, lets their handlers work on it, and hands everything back or settles it in the end."""

    def __init__(self, worker: "Worker", plane: Plane) -> None:
        if not worker.handlers:
            raise ConfigurationError("the worker has no handlers", hint="give it some: @worker.handler('EFFECT_TYPE')")
        self._worker = worker
        self._plane = plane
        self._wake = asyncio.Event()
        self._desks = {effect_type: Desk(worker.handlers[effect_type]) for effect_type in sorted(worker.handlers)}
        self._holdings = Holdings(self._desks)
        self._queue = queue = OutboxQueue(plane.pool, plane.settings, worker.name, WorkerSecrets(plane, worker.name))
        self._settler = Settler(queue, self._holdings, self._wake.set, batch=worker.settle_batch, within=worker.settle_within)
        self._leases = LeaseKeeper(queue, self._holdings, worker.lease)
        self._sweeper = Sweeper(queue, list(self._desks), self._wake.set)
        self._stop = asyncio.Event()
        self._is_hurried = False

    @property
    def settled(self) -> int:
        """How many attempts were settled."""
        return self._settler.settled

    async def work(self, stop: asyncio.Event, *, until: Literal["idle", "settled"] | None = None) -> None:
        """Works until ``stop`` is set, or as ``Worker.drain`` says."""
        worker, self._stop, self._is_hurried = self._worker, stop, until is not None
        async with AsyncExitStack() as resources:
            if worker.listen and until is None:
                listener = Listener(
                    self._plane.server.direct_dsn, self._plane.settings, CHANNEL, heard=self._hear, connected=self._catch_up
                )
                await resources.enter_async_context(listener)
            _log.info("worker_started", worker=worker.name, effect_types=list(self._desks))
            settling = asyncio.create_task(self._settler.keep())
            helpers = [settling, asyncio.create_task(self._leases.keep())]
            if until is None:
                helpers.append(asyncio.create_task(self._sweeper.keep()))
                helpers.append(asyncio.create_task(worker.housekeeping.keep(self._plane)))
                if worker.unknown_after is not None:
                    unknown = UnknownTypes(self._queue, worker.handlers, after=worker.unknown_after, lease=worker.lease)
                    helpers.append(asyncio.create_task(unknown.keep()))
            try:
                await self._claim_until(stop, helpers, until)
            finally:
                await self._close(settling, helpers)
            _log.info("worker_stopped", worker=worker.name, settled=self.settled)

    def _hear(self, payload: str) -> None:
        if payload == CANCELLED:
            self._leases.ask()
        else:
            self._wake.set()

    def _catch_up(self) -> None:
        self._leases.ask()
        self._wake.set()

    async def _claim_until(
        self, stop: asyncio.Event, helpers: Sequence[asyncio.Task[Any]], until: Literal["idle", "settled"] | None
    ) -> None:
        is_swept = False
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                for helper in helpers:
                    if helper.done():
                        helper.result()
                self._wake.clear()
                # Only a claim that asked for every type, with nothing under way that could make something due, can tell that nothing is.
                is_idle = not self._holdings and self._settler.is_idle
                limits = self._limits()
                found = await self._claim(limits) if limits else 0
                if found is None or found > 0:
                    is_swept = False
                elif until is not None and is_idle:
                    if not is_swept:  # claims see only what lies above the mark that a sweep sets
                        is_swept = await self._sweeper.sweep()
                        continue
                    if until == "idle" or not await self._queue.has_pending(list(self._desks)):
                        return
                    is_swept = False
                if found and found >= sum(limits.values()) and self._limits():
                    continue
                pause = _IDLE_PAUSE if until is not None else self._worker.poll_interval * random.uniform(0.5, 1.5)
                if found:  # less than was asked for: of those that were drawn this was all, and others may have more
                    pause = _SOON
                waking = asyncio.create_task(self._wake.wait())
                await asyncio.wait({waking, stopping}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
        finally:
            stopping.cancel()

    def _limits(self) -> dict[str, int]:
        """How many more of each type this process wants: what it can work off in a moment, in bites that are worth a claim."""
        return {effect_type: wanted for effect_type, desk in self._desks.items() if (wanted := desk.wanted)}

    async def _claim(self, limits: dict[str, int]) -> int | None:
        """How many entries were claimed; None when the database did not answer."""
        lasts_until = asyncio.get_running_loop().time() + self._worker.lease
        try:
            deliveries = await self._queue.claim(limits, self._worker.lease)
        except DATABASE_ERRORS as error:
            if isinstance(translated(error), PermissionDenied):
                raise PermissionDenied(
                    f"this login may not deliver: {error}", hint="as an administrator: GRANT persistence_worker TO the login"
                ) from error
            _log.warning("claim_failed", error=str(error) or type(error).__name__)
            return None
        self._holdings.take(deliveries, lasts_until)
        last_chance = next((d for d in deliveries if self._desks[d.effect_type].handler.goes_alone(d)), None)
        if last_chance is not None:
            await self._try_alone(last_chance)
            return len(deliveries)
        for effect_type in {delivery.effect_type for delivery in deliveries}:
            self._start_waiting(self._desks[effect_type])
        await asyncio.sleep(0)  # handlers begin before anything else is asked of the database
        return len(deliveries)

    async def _try_alone(self, delivery: Delivery) -> None:
        """Everything else is handed back, or ends first; nothing is claimed until this has ended."""
        await self._release(self._holdings.hand_back(but=delivery))
        await self._end_of({runner for desk in self._desks.values() for runner in desk.runners})
        desk = self._desks[delivery.effect_type]
        desk.add(delivery)
        if not self._stop.is_set():  # otherwise it is handed back, too
            self._start_waiting(desk)
            await self._end_of(desk.runners)

    async def _end_of(self, runners: Collection[asyncio.Task[None]]) -> None:
        """Waits for runners, or until the worker is to stop."""
        if not runners:
            return
        stopping = asyncio.create_task(self._stop.wait())
        either: set[asyncio.Future[Any]] = {asyncio.gather(*runners, return_exceptions=True), stopping}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()

    def _start_waiting(self, desk: Desk) -> None:
        for _ in range(desk.calls):
            desk.busy += 1
            runner = asyncio.create_task(self._work_off(desk))
            desk.runners.add(runner)
            runner.add_done_callback(desk.runners.discard)

    async def _work_off(self, desk: Desk) -> None:
        """Makes attempts, one after the other, until none of this type is waiting."""
        now = asyncio.get_running_loop().time
        task = asyncio.current_task()
        assert task is not None
        try:
            while desk.waiting:
                if desk.handler.within and not self._is_hurried:
                    await desk.fill(self._stop)
                deliveries = self._holdings.begin(self._able(desk), task)
                if not deliveries:
                    continue
                begun = now()
                try:
                    for came in await attempt(desk.handler, deliveries, self._plane.settings.max_event_bytes):
                        if isinstance(came, Snoozed):
                            self._settler.hand_back(came.delivery, came.after)
                        else:
                            self._settler.add(came)
                except asyncio.CancelledError:
                    self._interrupt(deliveries)  # the worker is stopping; or all leases were lost
                    task.uncancel()
                except Exception as error:
                    _log.exception("attempt_broke", effect_id=str(deliveries[0].effect_id), error=str(error))
                    self._interrupt(deliveries)
                finally:
                    self._holdings.end(deliveries)
                desk.note_duration(now() - begun)
        finally:
            desk.busy -= 1

    def _able(self, desk: Desk) -> list[Delivery]:
        """What the next call is about, without what had better be handed back."""
        able = []
        for delivery in desk.next():
            if self._settler.destinations.rests(delivery, desk.handler.breaker):
                self._settler.hand_back(delivery)
            else:
                able.append(delivery)
        return able

    def _interrupt(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if delivery.hold in self._holdings:
                self._settler.add(interrupted(delivery))

    async def _close(self, settling: asyncio.Task[None], helpers: Sequence[asyncio.Task[Any]]) -> None:
        """Hands back what was not begun, lets running handlers finish within the grace, and settles what came of them."""
        waiting = self._holdings.hand_back()
        runners = {runner for desk in self._desks.values() for runner in desk.runners}
        if runners:
            _, late = await asyncio.wait(runners, timeout=self._worker.grace)
            for runner in late:
                runner.cancel()
            if late:
                await asyncio.wait(late, timeout=5)
        self._settler.close()
        await asyncio.wait({settling}, timeout=_SETTLE_SECONDS)
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        await self._release(waiting)

    async def _release(self, deliveries: Sequence[Delivery]) -> None:
        """Hands back what was not begun; where that fails, its leases run out."""
        if not deliveries:
            return
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._queue.release(deliveries)
        except (PersistenceError, TimeoutError) as error:
            _log.warning("release_failed", entries=len(deliveries), error=str(error) or type(error).__name__)
