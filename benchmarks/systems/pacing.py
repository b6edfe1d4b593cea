"""Calling something so many times a second."""

import asyncio
import time
from collections.abc import Awaitable, Callable


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
