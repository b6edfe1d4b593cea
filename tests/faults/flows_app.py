"""A flow for the fault tests, and a process that executes it: ``python -m tests.faults.flows_app DSN NAME``."""

import asyncio
import sys

import psycopg

from persistence import Plane
from persistence.executor import Executor
from persistence.flows import Flow, Flows, Retry, attempt
from persistence.outbox import Delivery, Worker

flows = Flows()
worker = Worker(listen=True, poll_interval=0.2, lease=2.0)
DSN = sys.argv[1] if len(sys.argv) > 2 else ""


def note(word: str) -> str:
    """Says in a table that it was called: outside of what is recorded, as a payment would be."""
    with psycopg.connect(DSN, autocommit=True) as connection:
        connection.execute("INSERT INTO public.calls (key, word) VALUES (%s, %s)", (attempt().key, word))
    return word


@worker.handler("NOTE")
async def deliver(delivery: Delivery) -> dict[str, str]:
    return {"key": delivery.idempotency_key}


@flows.flow("part")
async def part(run: Flow, number: int) -> int:
    await run.step(note, f"part {number}", retry=Retry(first=0.05))
    return number


@flows.flow("whole")
async def whole(run: Flow, number: int) -> list[object]:
    first = await run.step(note, "first", retry=Retry(first=0.05))
    several = await run.gather(run.step(note, f"side {side}", retry=Retry(first=0.05)) for side in range(3))
    effect = await run.effect("NOTE", {"n": number}, key=f"note/{number}")
    await run.sleep(0.05)
    child = await run.child(part, number)
    said = await run.signal("go", key=str(number))
    last = await run.step(note, "last", retry=Retry(first=0.05))
    return [first, *several, effect["key"], child, said, last]


async def main() -> None:
    async with Plane(sys.argv[1]) as plane:
        executor = Executor(flows, name=sys.argv[2], lease=2.0, poll_interval=0.2, concurrency=20)
        await asyncio.gather(executor.run(plane), worker.run(plane))


if __name__ == "__main__":
    asyncio.run(main())
