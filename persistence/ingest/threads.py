"""Blocking work beside the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

T = TypeVar("T")

_POOL: Final = ThreadPoolExecutor(8, "ingest")


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """What ``work`` returns. Who is cancelled waits for it all the same: nothing goes on behind their back with what they let go of."""
    doing = asyncio.get_running_loop().run_in_executor(_POOL, partial(work, *arguments))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        while not doing.done():
            try:
                await asyncio.wait({doing})
            except asyncio.CancelledError:
                continue
        raise
