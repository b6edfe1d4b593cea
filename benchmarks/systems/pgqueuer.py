"""PgQueuer: asyncpg, durable tables, batches of 500 for draining (the fastest of 100, 250, 500 and 1,000 here) and of 10 for latency."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from benchmarks.processes import Gate
from benchmarks.systems.pacing import counted, paced

PAYLOAD = b'{"n":1}'


def prepare(dsn: str) -> None:
    async def install() -> None:
        connection = await asyncpg.connect(dsn)
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    asyncio.run(install())


async def enqueue_batches(dsn: str, count: int, gate: Gate | None = None) -> int:
    connection = await asyncpg.connect(dsn)
    queries = Queries(AsyncpgDriver(connection))
    if gate:
        gate.wait()
    for _ in range(count // 1000):
        await queries.enqueue(["BENCH"] * 1000, [PAYLOAD] * 1000, [0] * 1000)
    await connection.close()
    return count


async def enqueue_one(dsn: str, callers: int, seconds: float, gate: Gate) -> int:
    async with asyncpg.create_pool(dsn, min_size=callers, max_size=callers) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))

        async def call(_: str) -> None:
            await queries.enqueue("BENCH", PAYLOAD)

        return await counted(call, callers, seconds, gate)


async def drain(dsn: str, gate: Gate) -> int:
    connection = await asyncpg.connect(dsn)
    queuer = PgQueuer.from_asyncpg_connection(connection)
    done = 0

    @queuer.entrypoint("BENCH")
    async def do_nothing(_: Job) -> None:
        nonlocal done
        done += 1

    gate.wait()
    await queuer.run(batch_size=500, mode=QueueExecutionMode.drain, dequeue_timeout=timedelta(seconds=1))
    return done


async def handle(dsn: str, path: str, seconds: float, gate: Gate) -> int:
    connection = await asyncpg.connect(dsn)
    queuer = PgQueuer.from_asyncpg_connection(connection)
    begun: list[str] = []

    @queuer.entrypoint("BENCH")
    async def note(job: Job) -> None:
        assert job.payload is not None
        begun.append(f"{job.payload.decode()} {time.monotonic_ns()}\n")

    working = asyncio.create_task(queuer.run(batch_size=10, dequeue_timeout=timedelta(seconds=1)))
    await asyncio.sleep(1)
    gate.wait()
    await asyncio.sleep(seconds + 1)
    queuer.shutdown.set()
    await asyncio.wait({working}, timeout=10)
    Path(path).write_text("".join(begun))
    return len(begun)


async def produce(dsn: str, path: str, rate: float, seconds: float, gate: Gate) -> int:
    committed: list[str] = []
    async with asyncpg.create_pool(dsn, min_size=4, max_size=10) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))

        async def enqueue(number: int) -> None:
            await queries.enqueue("BENCH", str(number).encode())
            committed.append(f"{number} {time.monotonic_ns()}\n")

        gate.wait()
        await paced(enqueue, rate, seconds)
    Path(path).write_text("".join(committed))
    return len(committed)
