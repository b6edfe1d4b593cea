"""Procrastinate: its psycopg connector, 20 jobs at a time, finished jobs deleted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import procrastinate

from benchmarks.processes import Gate
from benchmarks.systems.pacing import counted

app = procrastinate.App(connector=procrastinate.PsycopgConnector())


@app.task(name="BENCH")
async def do_nothing(n: int) -> None:
    return None


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[procrastinate.App]:
    connector = procrastinate.PsycopgConnector(conninfo=dsn, min_size=4, max_size=20)
    with app.replace_connector(connector) as replaced:
        async with replaced.open_async():
            yield replaced


def prepare(dsn: str) -> None:
    async def install() -> None:
        async with opened(dsn) as worker:
            await worker.schema_manager.apply_schema_async()

    asyncio.run(install())


async def enqueue_batches(dsn: str, count: int, gate: Gate | None = None) -> int:
    async with opened(dsn) as worker:
        if gate:
            gate.wait()
        for _ in range(count // 1000):
            await worker.tasks["BENCH"].batch_defer_async(*({"n": 1} for _ in range(1000)))
    return count


async def enqueue_one(dsn: str, callers: int, seconds: float, gate: Gate) -> int:
    async with opened(dsn) as worker:
        task = worker.tasks["BENCH"]

        async def call(_: str) -> None:
            await task.defer_async(n=1)

        return await counted(call, callers, seconds, gate)


async def drain(dsn: str, gate: Gate) -> int:
    async with opened(dsn) as worker:
        gate.wait()
        await worker.run_worker_async(
            wait=False, concurrency=20, listen_notify=False, install_signal_handlers=False,
            delete_jobs=procrastinate.jobs.DeleteJobCondition.ALWAYS,
        )  # fmt: skip
    return 0
