"""One worker process of the drain benchmark. (A module of its own, so that a spawned process can import it.)"""

import asyncio
import logging
from threading import Barrier

import structlog

from persistence import Plane
from persistence.outbox import Delivery, Worker


def drain_process(dsn: str, barrier: Barrier) -> None:
    """Waits for the others, then works until nothing is due."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(_drain(dsn, barrier))


async def _drain(dsn: str, barrier: Barrier) -> None:
    worker = Worker(listen=False)

    @worker.handler("BENCH", concurrency=20)
    async def do_nothing(_: Delivery) -> None:
        return None

    async with Plane(dsn=dsn) as plane:
        await asyncio.to_thread(barrier.wait)
        await worker.drain(plane)
