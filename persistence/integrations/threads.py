"""Synchronous methods over asynchronous ones."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from persistence.errors import InvalidInput

T = TypeVar("T")


def from_thread(loop: asyncio.AbstractEventLoop | None, work: Coroutine[Any, Any, T]) -> T:
    """What comes of work that belongs to an event loop, for a thread beside it. Raises InvalidInput in that loop itself."""
    if loop is None or not loop.is_running() or running_loop() is loop:
        work.close()
        raise InvalidInput(
            "the synchronous methods are for threads, while the event loop runs that this was made in",
            hint="await the asynchronous ones, such as ainvoke of a graph",
        )
    return asyncio.run_coroutine_threadsafe(work, loop).result()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
