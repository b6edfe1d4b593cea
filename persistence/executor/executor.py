"""The process that executes flows: it claims runs, drives them, keeps their leases, and hands them over when it stops."""

import asyncio
import contextlib
import contextvars
import os
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
import structlog

from persistence.database.failures import DATABASE_ERRORS, translated
from persistence.database.retry import fetched
from persistence.database.wake import FLOWS
from persistence.encoding import decode
from persistence.errors import ConfigurationError, Conflict, InvalidTransition, LeaseLost, PermissionDenied, PersistenceError
from persistence.executor.execution import Bench, Claim, Execution
from persistence.executor.history import Historian
from persistence.executor.turns import TurnAppender
from persistence.flows.definitions import Definition, Flows
from persistence.models import new_id
from persistence.outbox.listener import Listener
from persistence.plane import Plane
from persistence.telemetry import span

_log = structlog.get_logger(__name__)

# Leases runs that are due; the database's clock with them.
_CLAIM = """
SELECT
  c.tenant_id, c.id, c.run_type, c.flow_version, c.status, c.version, c.correlation_id, c.last_event_id, c.parent_run_id, c.flow_key,
  c.input_data::text AS input, c.retry_count, c.deadline, c.created_at, c.attempts, c.wakes, c.has_steps, c.lost_by, clock_timestamp() AS claimed_at
FROM persistence.claim_runs($1, $2, $3, $4, $5, $6) AS c
"""

# Prolongs leases; those that are still ours, and how many reasons to go on have come to each.
_HOLD = "SELECT h.id, h.wakes FROM persistence.hold_runs($1, $2, $3, $4) AS h"

# Hands runs back as they are.
_RELEASE = "SELECT persistence.release_runs($1, $2, $3, $4)"

# Wakes runs whose time has come; when the next is due, and the database's clock.
_TIMERS = "SELECT t.woken, t.next_at, clock_timestamp() AS now FROM persistence.wake_timers($1, $2) AS t"

# Whether runs are due, with an executor or, if asked, waiting for a time.
_HAS_RUNS = "SELECT persistence.has_runs($1, $2, $3)"

_LONGEST: Final = 86_400.0
_LOOK_BACK: Final = timedelta(seconds=30)
_LOOK_AT_ALL_EVERY: Final = 60.0
_MOST_TIMERS: Final = 1000
_AGAIN_AFTER: Final = 1.0
_CLAIM_EVERY: Final = 0.002
_ASK_EVERY: Final = 0.02
_QUICK: Final = 0.1
"""Seconds for which nobody asks whether there is news of a run: most have ended by then."""


class Executor:
    """Executes the runs of flows.

    concurrency: runs it has in hand at a time (what waits is in nobody's hand). lease: seconds a run is an executor's before another may take it;
    extended while it is at work. poll_interval: seconds between looks when no bell rings (with jitter of half of it either way). listen: False
    where a pooler forbids LISTEN. grace: seconds that steps get to end when it is told to stop; what has not ended by then is done again by the next
    executor.
    """

    def __init__(
        self,
        flows: Flows,
        *,
        name: str | None = None,
        concurrency: int = 200,
        lease: float = 30.0,
        poll_interval: float = 1.0,
        listen: bool = True,
        grace: float = 0.5,
    ) -> None:
        for label, value in (("lease", lease), ("poll_interval", poll_interval)):
            if not 0 < value <= _LONGEST:
                raise ConfigurationError(f"executor: {label} must be more than zero seconds and at most a day")
        if concurrency < 1:
            raise ConfigurationError("executor: concurrency must be at least 1")
        self.flows = flows
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self.concurrency = concurrency
        self.lease = lease
        self.poll_interval = poll_interval
        self.listen = listen
        self.grace = grace

    async def run(self, plane: Plane, stop: asyncio.Event | None = None) -> None:
        """Works until ``stop`` is set, then hands over what it has."""
        await _Shift(self, plane).work(stop or asyncio.Event())

    async def drain(self, plane: Plane, *, until: Literal["idle", "settled"] = "idle", timeout: float | None = None) -> int:  # noqa: ASYNC109
        """Works until there is nothing left to do, and returns how many turns it took. For commands and tests.

        until: ``idle``: nothing is due; what waits is left. ``settled``: nothing waits for a time, either. timeout: seconds after which it is a
        TimeoutError.
        """
        shift = _Shift(self, plane)
        async with asyncio.timeout(timeout):
            await shift.work(asyncio.Event(), until=until)
        return shift.turns


class _Shift:
    """One run of an executor."""

    def __init__(self, executor: Executor, plane: Plane) -> None:
        if not executor.flows:
            raise ConfigurationError("the executor has no flows", hint="give it some: @flows.flow('name')")
        self._executor = executor
        self._plane = plane
        self._pool: asyncpg.Pool = plane.pool
        self._settings = plane.settings
        self._wake = asyncio.Event()
        self._held: dict[UUID, Execution] = {}
        self._tasks: dict[asyncio.Task[None], Execution] = {}
        self._asked = asyncio.Event()
        self._ahead = timedelta(0)  # how far the database's clock is before this one's
        self._next_timer: datetime | None = None
        self._swept_to: datetime | None = None
        self._swept_all_at = float("-inf")
        self._stopping = self._is_hurried = False
        self.turns = 0
        self._bench = Bench(
            executor.name,
            executor.flows,
            plane.settings,
            TurnAppender(plane.pool, plane.settings),
            Historian(plane.pool, plane.settings),
            self._now,
            plane.wake,
            in_thread,
        )

    def _now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    async def work(self, stop: asyncio.Event, *, until: Literal["idle", "settled"] | None = None) -> None:
        executor, self._is_hurried = self._executor, until is not None
        async with contextlib.AsyncExitStack() as resources:
            if executor.listen and until is None:
                listener = Listener(
                    self._plane.server.direct_dsn, self._settings, FLOWS, heard=self._hear, connected=lambda: self._hear("")
                )
                await resources.enter_async_context(listener)
            _log.info(
                "executor_started", executor=executor.name, flows=sorted(f"{one.name}@{one.version}" for one in executor.flows)
            )
            helpers = [asyncio.create_task(self._keep_leases()), asyncio.create_task(self._keep_time())]
            self._plane.flows.executors.append(self._takes)
            try:
                await self._claim_until(stop, helpers, until)
            finally:
                self._plane.flows.executors.remove(self._takes)
                await self._close(helpers)
            _log.info("executor_stopped", executor=executor.name, turns=self.turns)

    def _hear(self, _payload: str) -> None:
        self._wake.set()
        if self._held:
            self._asked.set()

    def _takes(self, definition: Definition | None) -> bool:
        """Hears of a run in this process. Returns whether it will take it up."""
        self._hear("")
        if definition is None or self._stopping:
            return False
        has_it = self._executor.flows.get(definition.name, definition.version) is definition
        return has_it and len(self._held) < self._executor.concurrency // 2

    async def _claim_until(
        self, stop: asyncio.Event, helpers: Sequence[asyncio.Task[Any]], until: Literal["idle", "settled"] | None
    ) -> None:
        stopping = asyncio.create_task(stop.wait())
        claimed_at = 0.0
        try:
            while not stop.is_set():
                for helper in helpers:
                    if helper.done():
                        helper.result()
                if (early := claimed_at + _CLAIM_EVERY - monotonic()) > 0:  # those that come at the same time are claimed together
                    await asyncio.sleep(early)
                claimed_at = monotonic()
                self._wake.clear()
                was_idle = not self._held
                free = self._executor.concurrency - len(self._held)
                found = await self._claim(free) if free > 0 else 0
                if until is not None and found == 0 and was_idle:
                    await self._sweep_timers()
                    if not await self._has_runs(waiting=until == "settled"):
                        return
                if found and found == free:
                    continue
                pause = 0.02 if until is not None else self._executor.poll_interval * random.uniform(0.5, 1.5)
                waking = asyncio.create_task(self._wake.wait())
                await asyncio.wait({waking, stopping}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
        finally:
            self._stopping = True
            stopping.cancel()

    async def _has_runs(self, *, waiting: bool) -> bool:
        flows = list(self._executor.flows)
        names, versions = [one.name for one in flows], [one.version for one in flows]
        rows = await fetched(self._pool, self._settings, _HAS_RUNS, names, versions, waiting)
        return bool(rows[0][0])

    def _room(self) -> list[Definition]:
        """The flows of which it can take more."""
        busy = Counter((execution.claim.run_type, execution.claim.flow_version) for execution in self._held.values())
        return [one for one in self._executor.flows if busy[one.name, one.version] < one.concurrency]

    async def _claim(self, wanted: int) -> int:
        """Takes up runs that are due. Returns how many."""
        flows = self._room()
        if not flows:
            return 0
        wanted = min(wanted, sum(one.concurrency for one in flows), 200)
        token, lease = new_id(), timedelta(seconds=self._executor.lease)
        names, versions = [one.name for one in flows], [one.version for one in flows]
        try:
            with span("persistence.claim_runs", executor=self._executor.name):
                async with self._pool.acquire() as connection:
                    rows = await connection.fetch(_CLAIM, self._executor.name, token, names, versions, wanted, lease)
        except DATABASE_ERRORS as error:
            if isinstance(translated(error), PermissionDenied):
                raise PermissionDenied(
                    f"this login may not execute flows: {error}", hint="as an administrator: GRANT persistence_worker TO the login"
                ) from error
            _log.warning("claim_failed", error=str(error) or type(error).__name__)
            return 0
        for row in rows:
            values = dict(row)
            self._ahead = values.pop("claimed_at") - datetime.now(UTC)
            values["input"] = decode(values["input"])
            self._take(Claim(token=token, **values))
        return len(rows)

    def _take(self, claim: Claim) -> None:
        definition = self._executor.flows.get(claim.run_type, claim.flow_version)
        assert definition is not None
        execution = Execution(claim, definition, self._bench)
        self._held[claim.id] = execution
        task = asyncio.create_task(self._execute(execution))
        self._tasks[task] = execution
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _execute(self, execution: Execution) -> None:
        claim = execution.claim
        try:
            await execution.work()
            self.turns += 1
        except LeaseLost:
            _log.warning("lease_lost", run_id=str(claim.id), flow=claim.run_type)
        except (Conflict, InvalidTransition) as error:  # somebody else was given the signal, or ended the run: it is looked at anew
            _log.info("run_changed", run_id=str(claim.id), flow=claim.run_type, error=str(error))
            await self._release([execution], 0.05)
        except asyncio.CancelledError:
            await self._release([execution], 0.0)
            raise
        except Exception as error:
            _log.error("execution_failed", run_id=str(claim.id), flow=claim.run_type, error=str(error), exc_info=True)
            await self._release([execution], _AGAIN_AFTER * 2 ** min(claim.attempts, 6))
        finally:
            if self._held.get(claim.id) is execution:
                del self._held[claim.id]
            if len(self._held) + 1 >= self._executor.concurrency or self._is_hurried:
                self._wake.set()
            if execution.has_children or execution.has_parent:
                self._plane.wake_executors()
            if execution.result is not None:
                self._plane.flows.tell(claim.id, *execution.result)

    async def _release(self, executions: Sequence[Execution], delay: float) -> None:
        """Hands runs back; where that fails, their leases run out."""
        claims = sorted((execution.claim for execution in executions), key=lambda claim: claim.id)
        pause = timedelta(seconds=delay)
        try:
            async with asyncio.timeout(5):
                await fetched(
                    self._pool,
                    self._settings,
                    _RELEASE,
                    [claim.tenant_id for claim in claims],
                    [claim.id for claim in claims],
                    [claim.token for claim in claims],
                    [pause] * len(claims),
                )
        except (PersistenceError, TimeoutError) as error:
            _log.warning("release_failed", runs=len(claims), error=str(error) or type(error).__name__)

    async def _keep_leases(self) -> None:
        """Extends the leases of what is held, and hears of reasons to go on."""
        third = self._executor.lease / 3
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(third):
                    await self._asked.wait()
            was_asked = self._asked.is_set()
            self._asked.clear()
            begun_before = monotonic() - (_QUICK if was_asked else 0.0)
            held = sorted(
                (one for one in self._held.values() if one.began < begun_before), key=lambda execution: execution.claim.id
            )
            if not held:
                continue
            claims = [execution.claim for execution in held]
            try:
                async with asyncio.timeout(third):
                    rows = await fetched(
                        self._pool,
                        self._settings,
                        _HOLD,
                        [claim.tenant_id for claim in claims],
                        [claim.id for claim in claims],
                        [claim.token for claim in claims],
                        timedelta(seconds=self._executor.lease),
                    )
            except (PersistenceError, TimeoutError) as error:
                _log.warning("extend_failed", runs=len(held), error=str(error) or type(error).__name__)
                continue
            wakes = {row["id"]: row["wakes"] for row in rows}
            for execution in held:
                if execution.claim.id in wakes:
                    execution.wake(wakes[execution.claim.id])
                else:
                    self._lose(execution)
            await asyncio.sleep(_ASK_EVERY)

    def _lose(self, execution: Execution) -> None:
        """The run is another's by now, or is just ending: what is not recorded will not be."""
        for task, one in self._tasks.items():
            if one is execution and self._held.get(execution.claim.id) is execution:
                task.cancel()

    async def _keep_time(self) -> None:
        """Wakes what waits for a time, when that has come."""
        while True:
            try:
                await self._sweep_timers()
            except PersistenceError as error:
                _log.warning("timers_failed", error=str(error))
            pause = self._executor.poll_interval
            if self._next_timer is not None:
                pause = min(pause, max(0.001, (self._next_timer - self._now()).total_seconds()))
            await asyncio.sleep(pause)

    async def _sweep_timers(self) -> None:
        is_whole = self._swept_to is None or monotonic() - self._swept_all_at > _LOOK_AT_ALL_EVERY
        since = datetime.min.replace(tzinfo=UTC) if is_whole or self._swept_to is None else self._swept_to - _LOOK_BACK
        woken = _MOST_TIMERS
        while woken >= _MOST_TIMERS:
            [row] = await fetched(self._pool, self._settings, _TIMERS, since, _MOST_TIMERS)
            woken = row["woken"]
            if woken:
                self._wake.set()
        self._ahead = row["now"] - datetime.now(UTC)
        self._next_timer = row["next_at"]
        self._swept_to = row["now"]
        if is_whole:
            self._swept_all_at = monotonic()

    async def _close(self, helpers: Sequence[asyncio.Task[Any]]) -> None:
        """Lets what is about to end do so, and hands the rest over."""
        if self._tasks:
            _, late = await asyncio.wait(list(self._tasks), timeout=self._executor.grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=10)
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        self._plane.wake_executors()


async def in_thread(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Calls a plain function in a thread of its own, which does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def work() -> None:
        result, error = None, None
        try:
            result = context.run(function, *arguments)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the executor is gone
            loop.call_soon_threadsafe(end, result, error)

    def end(result: Any, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(result)
        elif isinstance(error, Exception) and not isinstance(error, StopIteration):
            answer.set_exception(error)
        else:
            answer.set_exception(RuntimeError(repr(error)))

    threading.Thread(target=work, name="persistence-step", daemon=True).start()
    return await answer
