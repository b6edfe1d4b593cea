"""The worker: handlers by effect type, and how their work is done."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any, Literal, overload

from persistence.errors import ConfigurationError
from persistence.outbox.backoff import Backoff
from persistence.outbox.breaker import Breaker
from persistence.outbox.housekeeping import Housekeeping
from persistence.outbox.registry import BatchFunction, Handler, HandlerFunction, Registry
from persistence.outbox.shift import Shift
from persistence.plane import Plane

_LONGEST = 86_400.0


class Worker:
    """Delivers effects with the handlers that were given to it.

    lease: seconds an entry is a worker's before another may take it; extended while a handler is busy.
    poll_interval: seconds between looks at the queue when no bell rings (with jitter of half of it either way).
    listen: False where a pooler forbids LISTEN: then polling alone has to do.
    grace: seconds that handlers get to finish when the worker is told to stop.
    settle_batch, settle_within: outcomes are settled when so many are there, or so many seconds after the first.
    unknown_after: seconds that entries of types which nobody handles may be due before this worker makes dead letters of them, attempt by
        attempt; None: it leaves them alone, and a diagnosis, a gate and an alert tell of them.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        lease: float = 60.0,
        poll_interval: float = 1.0,
        listen: bool = True,
        grace: float = 30.0,
        settle_batch: int = 500,
        settle_within: float = 0.02,
        unknown_after: float | None = None,
        housekeeping: Housekeeping | None = None,
    ) -> None:
        for label, value in (("lease", lease), ("poll_interval", poll_interval)):
            if not 0 < value <= _LONGEST:
                raise ConfigurationError(f"worker: {label} must be more than zero seconds and at most a day")
        if settle_batch < 1:
            raise ConfigurationError("worker: settle_batch must be at least 1")
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self.lease = lease
        self.poll_interval = poll_interval
        self.listen = listen
        self.grace = grace
        self.settle_batch = settle_batch
        self.settle_within = settle_within
        self.unknown_after = unknown_after
        self.housekeeping = housekeeping or Housekeeping()
        self.handlers = Registry()

    @overload
    def handler(
        self,
        effect_type: str,
        *,
        timeout: float = ...,
        concurrency: int = ...,
        max_attempts: int = ...,
        backoff: Backoff | None = ...,
        breaker: Breaker | None = ...,
        blocks_key: bool = ...,
        batch: None = ...,
    ) -> Callable[[HandlerFunction], HandlerFunction]: ...

    @overload
    def handler(
        self,
        effect_type: str,
        *,
        timeout: float = ...,
        concurrency: int = ...,
        max_attempts: int = ...,
        backoff: Backoff | None = ...,
        breaker: Breaker | None = ...,
        blocks_key: bool = ...,
        batch: int,
        within: float = ...,
    ) -> Callable[[BatchFunction], BatchFunction]: ...

    def handler(
        self,
        effect_type: str,
        *,
        timeout: float = 30.0,
        concurrency: int = 20,
        max_attempts: int = 10,
        backoff: Backoff | None = None,
        breaker: Breaker | None = Breaker(),  # noqa: B008 (it is frozen)
        blocks_key: bool = True,
        batch: int | None = None,
        within: float = 0.0,
    ) -> Callable[[Any], Any]:
        """Decorates the function that delivers one type of effect, async or plain; the settings are those of Handler.

        batch: the function is given a list of up to so many deliveries, and returns a list of what came of each.
        """

        def register(function: HandlerFunction | BatchFunction) -> HandlerFunction | BatchFunction:
            self.handlers.add(
                Handler(
                    effect_type,
                    function,
                    timeout,
                    concurrency,
                    max_attempts,
                    backoff or Backoff(),
                    breaker,
                    blocks_key,
                    batch,
                    within,
                )
            )
            return function

        return register

    async def run(self, plane: Plane, stop: asyncio.Event | None = None) -> None:
        """Works until ``stop`` is set, then finishes or hands back what it holds."""
        await Shift(self, plane).work(stop or asyncio.Event())

    async def drain(self, plane: Plane, *, until: Literal["idle", "settled"] = "idle", timeout: float | None = None) -> int:  # noqa: ASYNC109
        """Works until there is nothing left to do, and returns how many attempts it settled. For commands and tests.

        until: ``idle``: nothing is due that may be claimed; retries in their backoff, and what others hold, are left. ``settled``: nothing of
        these types is pending any more, retries and what others hold included; what waits for a person (dead letters, what is behind them, what a
        restore holds back) is left. timeout: seconds after which it is a TimeoutError.
        """
        shift = Shift(self, plane)
        async with asyncio.timeout(timeout):
            await shift.work(asyncio.Event(), until=until)
        return shift.settled
