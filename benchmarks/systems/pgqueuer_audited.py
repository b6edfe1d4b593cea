"""PgQueuer with a record of its own: each job with an audit row in the same transaction, each delivery with another before it is acknowledged.

What a team writes that has to say afterwards what was asked for and what became of it.
"""

import asyncio
from datetime import timedelta

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from benchmarks.processes import Gate
from benchmarks.systems import pgqueuer
from benchmarks.systems.pacing import counted
from benchmarks.systems.pgqueuer import PAYLOAD

AUDIT = """
CREATE TABLE audit (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job_id bigint NOT NULL, event_type text NOT NULL, actor text NOT NULL, payload jsonb,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_job_idx ON audit (job_id);
"""
RECORD = "INSERT INTO audit (job_id, event_type, actor, payload) SELECT j, $2, 'agent:bench', $3::text::jsonb FROM unnest($1::bigint[]) AS j"


def prepare(dsn: str) -> None:
    pgqueuer.prepare(dsn)

    async def install() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(AUDIT)
        await connection.close()

    asyncio.run(install())


async def _enqueue(connection: asyncpg.Connection, jobs: int) -> None:
    async with connection.transaction():
        ids = await Queries(AsyncpgDriver(connection)).enqueue(["BENCH"] * jobs, [PAYLOAD] * jobs, [0] * jobs)
        await connection.execute(RECORD, ids, "REQUESTED", PAYLOAD.decode())


async def enqueue_batches(dsn: str, count: int, gate: Gate | None = None) -> int:
    connection = await asyncpg.connect(dsn)
    if gate:
        gate.wait()
    for _ in range(count // 1000):
        await _enqueue(connection, 1000)
    await connection.close()
    return count


async def enqueue_one(dsn: str, callers: int, seconds: float, gate: Gate) -> int:
    async with asyncpg.create_pool(dsn, min_size=callers, max_size=callers) as pool:

        async def call(_: str) -> None:
            async with pool.acquire() as connection:
                await _enqueue(connection, 1)

        return await counted(call, callers, seconds, gate)


async def drain(dsn: str, gate: Gate) -> int:
    connection = await asyncpg.connect(dsn)
    queuer = PgQueuer.from_asyncpg_connection(connection)
    done = 0
    async with asyncpg.create_pool(dsn, min_size=8, max_size=8) as pool:

        @queuer.entrypoint("BENCH")
        async def record(job: Job) -> None:
            nonlocal done
            await pool.execute(RECORD, [job.id], "DELIVERED", None)
            done += 1

        gate.wait()
        await queuer.run(batch_size=500, mode=QueueExecutionMode.drain, dequeue_timeout=timedelta(seconds=1))
    return done
