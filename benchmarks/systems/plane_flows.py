"""Flows: started and awaited in one process, which executes them, too, as DBOS does."""

import asyncio
import os
import time
from typing import Any

from benchmarks.processes import Gate
from benchmarks.systems.plane import ACTOR, as_service, prepare, tenant_of
from persistence import Plane
from persistence.executor import Executor
from persistence.flows import Flow, Flows

__all__ = ["prepare", "runs"]

FLOWS = Flows()


async def work(number: int) -> int:
    return number


@FLOWS.flow("one", concurrency=1000)
async def one_step(run: Flow, number: int) -> int:
    return await run.step(work, number)


@FLOWS.flow("three", concurrency=1000)
async def three_steps(run: Flow, number: int) -> int:
    return await run.step(work, await run.step(work, await run.step(work, number)))


@FLOWS.flow("side")
async def side_by_side(run: Flow, count: int) -> int:
    return len(await run.gather(run.step(work, number) for number in range(count)))


@FLOWS.flow("long")
async def long(run: Flow, count: int) -> int:
    for number in range(count):
        await run.step(work, number)
    await run.signal("go")
    return count


@FLOWS.flow("timed")
async def timed(run: Flow) -> int:
    await run.step(stamp)
    await run.signal("go")
    return await run.step(stamp)


@FLOWS.flow("waiting")
async def waiting(run: Flow) -> None:
    await run.signal("never")


async def stamp() -> int:
    return time.monotonic_ns()


async def runs(dsn: str, steps: int, callers: int, count: int, gate: Gate) -> int:
    """A flow of so many steps for each of ``count``, by so many callers that await each result before the next."""
    flow: Any = one_step if steps == 1 else three_steps
    async with Plane(dsn=as_service(dsn), pool_min=4) as plane:
        tenant_id = await tenant_of(plane)
        stop = asyncio.Event()
        executing = asyncio.create_task(Executor(FLOWS).run(plane, stop))

        async def call(caller: int) -> None:
            for number in range(count // callers):
                handle = await plane.flows.start(flow, number, tenant_id, key=f"{os.getpid()}-{caller}-{number}", actor=ACTOR)
                await handle.result(timeout=60)

        await (await plane.flows.start(flow, 0, tenant_id, actor=ACTOR)).result(timeout=60)
        gate.wait()
        await asyncio.gather(*(call(caller) for caller in range(callers)))
        stop.set()
        await executing
    return count // callers * callers
