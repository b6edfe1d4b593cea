"""``python -m benchmarks.flows``: flows beside DBOS on one server; what starting and waking take; a hundred steps at once; a long replay; and what a
hundred thousand runs that wait cost the others.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from benchmarks.big import say
from benchmarks.processes import Part, run_together
from benchmarks.server import BenchServer
from benchmarks.systems import plane as system
from benchmarks.systems import plane_flows
from benchmarks.work import prepared
from persistence import Plane
from persistence.executor import Executor
from persistence.models import FlowTerms

ROUNDS = 3
WAITING = 100_000
ACTOR = "agent:bench"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, BenchServer.started(Path(folder) / "server") as server:
        for steps, callers, count in ((1, 1, 600), (1, 16, 4000), (3, 1, 300), (3, 16, 2000)):
            beside(server, steps, callers, count)
        dsn = server.fresh("flows")
        system.prepare(dsn)
        asyncio.run(alone(dsn, server.dsn("flows")))


def beside(server: BenchServer, steps: int, callers: int, count: int) -> None:
    """Rounds of both, one after the other."""
    rates: dict[str, list[float]] = {"plane_flows": [], "dbos_workflows": []}
    for _ in range(ROUNDS):
        for name, found in rates.items():
            dsn = server.fresh(f"bench_{name}")
            prepared(name, dsn)
            share = 1 if name == "plane_flows" else 5
            arguments = {"dsn": dsn, "steps": steps, "callers": callers, "count": count // share}
            took, [done] = run_together([Part(name, "runs", arguments)])
            found.append(done / took)
    ours, theirs = (statistics.median(rates[name]) for name in rates)
    say(f"{steps} steps, {callers} callers: {ours:,.0f} flows/s, DBOS {theirs:,.0f}: {ours / theirs:.1f} times as many")


async def alone(dsn: str, admin_dsn: str) -> None:
    async with Plane(dsn=system.as_service(dsn), pool_min=4) as plane:
        tenant_id = await system.tenant_of(plane)
        stop = asyncio.Event()
        executing = asyncio.create_task(Executor(plane_flows.FLOWS).run(plane, stop))
        await latencies(plane, tenant_id)
        await many_steps(plane, tenant_id)
        await long_replay(plane, tenant_id)
        stop.set()
        await executing
        await waiting(plane, tenant_id, admin_dsn)


async def latencies(plane: Plane, tenant_id: UUID) -> None:
    first, resumed = [], []
    for _ in range(200):
        began = time.monotonic_ns()
        handle = await plane.flows.start(plane_flows.timed, None, tenant_id, actor=ACTOR)
        while (await handle.run()).status != "WAITING":
            await asyncio.sleep(0.002)
        async with plane.transaction(tenant_id, actor=ACTOR) as tx:
            [step, _] = await tx.steps.all(run_id=handle.run_id)
        first.append((step.output_result - began) / 1e6)
        told = time.monotonic_ns()
        await plane.flows.signal("go", tenant_id, key=handle.run_id, actor=ACTOR)
        resumed.append((await handle.result(timeout=60) - told) / 1e6)
    for name, found in (("start to first step", first), ("signal to resumed", resumed)):
        p50, p99 = statistics.median(found), sorted(found)[int(len(found) * 0.99)]
        say(f"{name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")


async def many_steps(plane: Plane, tenant_id: UUID) -> None:
    took = []
    for _ in range(5):
        began = time.monotonic()
        handle = await plane.flows.start(plane_flows.side_by_side, 100, tenant_id, actor=ACTOR)
        await handle.result(timeout=60)
        took.append(time.monotonic() - began)
    say(f"100 steps side by side: {statistics.median(took):.3f} s")


async def long_replay(plane: Plane, tenant_id: UUID) -> None:
    handle = await plane.flows.start(plane_flows.long, 1000, tenant_id, actor=ACTOR)
    while (await handle.run()).status != "WAITING":
        await asyncio.sleep(0.05)
    began = time.monotonic()
    await plane.flows.signal("go", tenant_id, key=handle.run_id, actor=ACTOR)
    await handle.result(timeout=60)
    say(f"signal to end of a run with 1,000 steps before it: {time.monotonic() - began:.3f} s")


async def waiting(plane: Plane, tenant_id: UUID, admin_dsn: str) -> None:
    """Appends and claims before and behind a hundred thousand runs that wait, in turns that say how much the machine changed."""
    before = await rates(plane, tenant_id)
    executor = Executor(plane_flows.FLOWS, concurrency=1000, listen=False)
    for start in range(0, WAITING, 2000):
        async with plane.transaction(tenant_id, actor=ACTOR) as tx:
            for _ in range(start, min(start + 2000, WAITING)):
                tx.runs.create(run_type="waiting", flow=FlowTerms(version=1))
        await executor.drain(plane)
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        admin.execute("VACUUM ANALYZE")
        [(count,)] = admin.execute("SELECT count(*) FROM persistence.runs WHERE status = 'WAITING'").fetchall()
    after = await rates(plane, tenant_id)
    for name, ours in after.items():
        say(f"{name} with {count:,} runs that wait: {ours:,.0f}/s, {ours / before[name]:.2f} of what it was")


async def rates(plane: Plane, tenant_id: UUID) -> dict[str, float]:
    async def flows() -> int:
        handles = await asyncio.gather(
            *(plane.flows.start(plane_flows.one_step, number, tenant_id, actor=ACTOR) for number in range(500))
        )
        await asyncio.gather(*(handle.result(timeout=60) for handle in handles))
        return 500

    async def appends() -> int:
        async def one() -> None:
            async with plane.transaction(tenant_id, actor=ACTOR) as tx:
                tx.runs.start(run_type="bench")

        await asyncio.gather(*(one() for _ in range(2000)))
        return 2000

    found: dict[str, list[float]] = {"flows": [], "appends": []}
    stop = asyncio.Event()
    executing = asyncio.create_task(Executor(plane_flows.FLOWS).run(plane, stop))
    kinds: dict[str, Any] = {"flows": flows, "appends": appends}
    for _ in range(5):
        for name, work in kinds.items():
            began = time.monotonic()
            found[name].append(await work() / (time.monotonic() - began))
    stop.set()
    await executing
    return {name: statistics.median(values) for name, values in found.items()}


if __name__ == "__main__":
    main()
