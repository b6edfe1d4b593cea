"""How fast it is, as ratios to a floor measured in the same run: ``make bench``.

The floor is pgbench with one small INSERT a transaction over 16 connections, on the same server with the same durability (fsync and
synchronous_commit on). *function* rows call the SQL function from pgbench; *library* rows go through Plane in this process, as a service does.
"""

import asyncio
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.drain import drain_process
from persistence import Plane
from persistence.database.embedded import DATABASE, SERVICE_LOGIN
from persistence.database.programs import programs
from persistence.transaction import Transaction

ROUNDS = 3
SECONDS = 4
ACTOR = "agent:bench"

FLOOR = "INSERT INTO public.floor (a, b) VALUES (1, 'hello');"
APPEND_ONE = """
SELECT persistence.append_events('{tenant}', '{user}', jsonb_build_array(jsonb_build_object(
  'id', gen_random_uuid(), 'event_type', 'RUN_STARTED', 'event_version', 1, 'aggregate_type', 'RUN', 'aggregate_id', gen_random_uuid(),
  'aggregate_version', 1, 'event_data', jsonb_build_object('run_type', 'bench', 'input_data', 1), 'correlation_id', gen_random_uuid(),
  'actor', concat('agent', chr(58), 'bench'), 'source', 'bench')));
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure_all(Path(directory)))


async def measure_all(directory: Path) -> None:
    results: dict[str, list[float]] = {}
    async with Plane(data_dir=directory, pool_min=16, pool_max=16) as plane:
        prepare(plane)
        tenant_id = (await plane.tenants.create("bench", actor="system:bench")).tenant_id
        bench = Bench(plane, tenant_id)
        for _ in range(ROUNDS):
            for name, measure in bench.measures().items():
                results.setdefault(name, []).append(await measure())
                sys.stderr.write(f"{name}: {results[name][-1]:,.0f}\n")
    report(results)


def prepare(plane: Plane) -> None:
    with psycopg.connect(plane.server.for_administration, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.floor (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a integer, b text)")
        connection.execute("GRANT ALL ON public.floor TO PUBLIC")


class Bench:
    """What is measured, each in items a second."""

    def __init__(self, plane: Plane, tenant_id: UUID) -> None:
        self.plane = plane
        self.tenant_id = tenant_id
        self.number = 0

    def measures(self) -> dict[str, Callable[[], Awaitable[float]]]:
        return {
            "floor: INSERT, 16 connections [tx/s]": lambda: self.pgbench(FLOOR, 16),
            "floor: INSERT, 1 connection [tx/s]": lambda: self.pgbench(FLOOR, 1),
            "function: append 1 event, 16 connections [tx/s]": lambda: self.pgbench(self.append_one, 16),
            "function: append 1 event, 1 connection [tx/s]": lambda: self.pgbench(self.append_one, 1),
            "library: append 1 event, 16 connections [tx/s]": lambda: self.transactions(one_event, 16),
            "library: append 1 event, 1 connection [tx/s]": lambda: self.transactions(one_event, 1),
            "library: five-event transaction, 16 connections [tx/s]": lambda: self.transactions(five_events, 16),
            "library: batches of 1,000 [events/s]": self.batches,
            "library: request effects, batches of 1,000 [entries/s]": lambda: self.request_effects(10_000, "UNUSED"),
            "worker: claim and settle, 1 process [entries/s]": lambda: self.drain(1),
            "worker: claim and settle, 2 processes [entries/s]": lambda: self.drain(2),
        }

    @property
    def append_one(self) -> str:
        return " ".join(APPEND_ONE.format(tenant=self.tenant_id, user=self.plane.settings.user_id).split())

    async def pgbench(self, script: str, connections: int) -> float:
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(script)
            file.flush()
            host = self.plane.server.dsn.partition("host=")[2]
            command = [
                programs() / "pgbench", "-n", "-h", host, "-U", SERVICE_LOGIN, "-M", "prepared", "-T", str(SECONDS), "-c", str(connections),
                "-j", str(min(2, connections)), "-f", file.name, DATABASE,
            ]  # fmt: skip
            done = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
        found = re.search(r"tps = ([0-9.]+)", done.stdout)
        assert found
        return float(found[1])

    async def transactions(self, body: Callable[[Transaction], None], connections: int) -> float:
        end = time.monotonic() + SECONDS

        async def client() -> int:
            done = 0
            while time.monotonic() < end:
                async with self.plane.transaction(self.tenant_id, actor=ACTOR) as tx:
                    body(tx)
                done += 1
            return done

        begun = time.monotonic()
        return sum(await asyncio.gather(*(client() for _ in range(connections)))) / (time.monotonic() - begun)

    async def batches(self) -> float:
        begun = time.monotonic()
        for _ in range(20):
            async with self.plane.transaction(self.tenant_id, actor=ACTOR) as tx:
                for _ in range(1000):
                    one_event(tx)
        return 20_000 / (time.monotonic() - begun)

    async def request_effects(self, count: int, effect_type: str) -> float:
        async with self.plane.transaction(self.tenant_id, actor=ACTOR) as tx:
            run = tx.runs.start(run_type="bench")
        begun = time.monotonic()
        for _ in range(count // 1000):
            async with self.plane.transaction(self.tenant_id, actor=ACTOR) as tx:
                for _ in range(1000):
                    self.number += 1
                    tx.effects.request(run, effect_type, spec={"n": 1}, idempotency_key=f"{effect_type}-{self.number}")
        return count / (time.monotonic() - begun)

    async def drain(self, processes: int) -> float:
        count = 30_000
        await self.request_effects(count, "BENCH")
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(processes + 1)
        workers = [context.Process(target=drain_process, args=(self.plane.server.dsn, barrier)) for _ in range(processes)]
        for worker in workers:
            worker.start()
        await asyncio.to_thread(barrier.wait)
        begun = time.monotonic()
        await asyncio.gather(*(asyncio.to_thread(worker.join) for worker in workers))
        return count / (time.monotonic() - begun)


def one_event(tx: Transaction) -> None:
    tx.runs.start(run_type="bench", input={"a": 1})


def five_events(tx: Transaction) -> None:
    run = tx.runs.start(run_type="bench", input={"a": 1})
    step = tx.steps.start(run, step_type="work")
    step = tx.steps.complete(step, {"ok": True})
    tx.effects.request(step, "UNUSED", spec={"a": 1}, idempotency_key=str(run.id))
    tx.runs.complete(run)


def report(results: dict[str, list[float]]) -> None:
    floor = statistics.median(results[next(iter(results))])
    table = Table(
        "what", "median", "spread", "ratio to floor", title=f"{os.cpu_count()} cores, {platform.machine()}, {ROUNDS} rounds"
    )
    for name, values in results.items():
        median = statistics.median(values)
        table.add_row(name, f"{median:,.0f}", f"{min(values):,.0f} to {max(values):,.0f}", f"{median / floor:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
