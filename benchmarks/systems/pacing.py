"""Calling something so many times a second, or as often as it goes."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

from benchmarks.processes import Gate


async def paced(call: Callable[[int], Awaitable[None]], rate: float, seconds: float) -> None:
    """Begins ``rate`` calls a second for ``seconds``, whether or not those before have ended."""
    begun = time.monotonic()
    calls: set[asyncio.Task[None]] = set()
    for number in range(int(rate * seconds)):
        wait = begun + number / rate - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        task = asyncio.ensure_future(call(number))
        calls.add(task)
        task.add_done_callback(calls.discard)
    if calls:
        await asyncio.wait(calls)


async def counted(call: Callable[[str], Awaitable[None]], callers: int, seconds: float, gate: Gate) -> int:
    """How many calls so many callers made in the time, each one after the other. Every call gets a name of its own. A third of a second goes before, to warm up."""

    async def caller(number: int, end: float) -> int:
        calls = 0
        while time.monotonic() < end:
            await call(f"{os.getpid()}-{number}-{calls}")
            calls += 1
        return calls

    await caller(-1, time.monotonic() + 0.3)
    gate.wait()
    end = time.monotonic() + seconds
    return sum(await asyncio.gather(*(caller(number, end) for number in range(callers))))
