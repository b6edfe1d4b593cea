"""The least that can be done: one table, a lease and an acknowledgement in SQL by hand, 500 at a time. No tenants, no record, no retry."""

import asyncpg
import psycopg

from benchmarks.processes import Gate

TABLE = """
CREATE TABLE bare_queue (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL, due_at timestamptz NOT NULL DEFAULT now(), attempts integer NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE INDEX bare_queue_due_idx ON bare_queue (due_at);
"""
FILL = """INSERT INTO bare_queue (payload) SELECT '{"n": 1}'::jsonb FROM generate_series(1, 1000)"""
LEASE = """
UPDATE bare_queue AS q
SET due_at = now() + interval '60 seconds', attempts = q.attempts + 1
FROM (SELECT d.id FROM bare_queue AS d WHERE d.due_at <= now() ORDER BY d.due_at LIMIT 500 FOR UPDATE SKIP LOCKED) AS d
WHERE q.id = d.id
RETURNING q.id, q.payload
"""
ACKNOWLEDGE = "DELETE FROM bare_queue AS q WHERE q.id = ANY ($1)"


def prepare(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(TABLE)


async def enqueue_batches(dsn: str, count: int, gate: Gate | None = None) -> int:
    connection = await asyncpg.connect(dsn)
    if gate:
        gate.wait()
    for _ in range(count // 1000):
        await connection.execute(FILL)
    return count


async def drain(dsn: str, gate: Gate) -> int:
    connection = await asyncpg.connect(dsn)
    done = 0
    gate.wait()
    while rows := await connection.fetch(LEASE):
        await connection.execute(ACKNOWLEDGE, [row["id"] for row in rows])
        done += len(rows)
    return done
