"""Flows under fire: executors killed and frozen, leases lost, the server cut off. Each step is done at least once, recorded once, and every run ends."""

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.errors import InvalidTransition, LeaseLost
from persistence.executor import Executor
from persistence.executor.turns import TurnAppender, TurnBuffer
from persistence.flows import Flow, Flows, Retry
from persistence.gates.replay import verify
from persistence.models import Run, Tenant, new_id
from tests.faults.flows_app import flows as app_flows
from tests.faults.flows_app import whole
from tests.helpers import ACTOR


@asynccontextmanager
async def killed_now_and_then(dsn: str, count: int) -> AsyncIterator[list[int]]:
    """Processes that execute and deliver; one after the other is killed, or frozen beyond its lease, and another begins."""
    kills: list[int] = []
    going = True

    def begin(number: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "tests.faults.flows_app", dsn, f"executor-{number}"])

    processes = [begin(number) for number in range(count)]

    async def fire() -> None:
        number = count
        while going:
            await asyncio.sleep(random.uniform(0.7, 2.0))
            victim = random.randrange(count)
            if random.random() < 0.3:
                processes[victim].send_signal(signal.SIGSTOP)
                await asyncio.sleep(3)  # its leases are over by then
                processes[victim].send_signal(signal.SIGCONT)
                kills.append(0)
                continue
            processes[victim].kill()
            processes[victim].wait()
            processes[victim] = begin(number)
            kills.append(number)
            number += 1

    firing = asyncio.create_task(fire())
    try:
        yield kills
    finally:
        going = False
        firing.cancel()
        await asyncio.gather(firing, return_exceptions=True)
        for process in processes:
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


@pytest.mark.timeout(280)
async def test_killed_and_frozen_at_any_moment_each_run_ends_as_it_should(
    plane: Plane, tenant: Tenant, dsn: str, audit_dsn: str, admin: psycopg.Connection
) -> None:
    admin.execute("CREATE TABLE public.calls (key text, word text); GRANT INSERT ON public.calls TO PUBLIC")
    count = 60
    async with killed_now_and_then(dsn, 2) as kills:
        handles = []
        for number in range(count):
            handles.append(await plane.flows.start(whole, number, tenant, key=f"run-{number}"))
            await plane.flows.signal("go", tenant, key=str(number), payload=number, id=f"go-{number}")
            async with asyncio.timeout(60):
                while len(kills) < number // 12:
                    await asyncio.sleep(0.1)
        results = await asyncio.gather(*(handle.result(timeout=200) for handle in handles))
    sides = [f"side {side}" for side in range(3)]
    assert results == [["first", *sides, f"note/{number}", number, number, "last"] for number in range(count)]
    assert len(kills) >= 4
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        runs = await tx.runs.all()
        assert Counter((run.run_type, run.status) for run in runs) == {("whole", "COMPLETED"): count, ("part", "COMPLETED"): count}
        steps = await tx.steps.all()
        effects = await tx.effects.all()
    assert Counter(step.status for step in steps) == {"COMPLETED": count * 10}
    assert max(Counter((step.run_id, step.position) for step in steps).values()) == 1
    assert Counter(effect.status for effect in effects) == {"EXECUTED": count}
    calls = Counter(key for (key,) in admin.execute("SELECT key FROM public.calls").fetchall())
    assert len(calls) == count * 6  # each at least once, under its key
    assert admin.execute("SELECT count(*) FROM run_queue").fetchone() == (0,)
    auditor = await asyncpg.connect(audit_dsn)
    assert (await verify(auditor)).different == 0
    await auditor.close()


async def test_who_lost_the_lease_records_nothing(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    flows = Flows()

    @flows.flow("slow")
    async def slow(run: Flow) -> None:
        await run.step(asyncio.sleep, 0.01, retry=Retry(attempts=1))
        await run.signal("go")

    handle = await plane.flows.start(slow, None, tenant)
    appender, place = TurnAppender(plane.pool, plane.settings), (tenant.tenant_id, plane.settings.service_user)
    run = await handle.run()

    async def claimed(name: str) -> Any:
        token = new_id()
        [row] = await plane.pool.fetch(
            "SELECT * FROM persistence.claim_runs($1, $2, $3, $4, 10, $5)", name, token, ["slow"], [1], timedelta(seconds=20)
        )
        assert row["id"] == run.id
        return token

    def turn(item: Run, token: Any, outcome: Any = "KEEP") -> Any:
        buffer = TurnBuffer(plane._context(tenant.tenant_id, ACTOR, None, "test"), plane.settings)
        buffer.steps.record(buffer.runs.start(item), step_type="x", index=0, position="0")
        return buffer.sealed(run.id, token, outcome, 0, ())

    first = await claimed("first")
    admin.execute("UPDATE run_queue SET leased_until = now() - interval '1 second'")
    second = await claimed("second")
    with pytest.raises(LeaseLost):
        await appender.append(place, turn(run, first))
    assert (await handle.run()).status == "PENDING"
    whole_turn = turn(run, second)
    await appender.append(place, whole_turn)
    await appender.append(place, whole_turn)  # the answer was lost, and it is sent again
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert len(await tx.steps.all(run_id=run.id)) == 1
        now = await tx.runs.get(run.id)
    # Nor does anybody who has no lease at all.
    for bystander in ("suspend", "complete"):
        with pytest.raises(InvalidTransition, match="for the executor that has it under lease"):
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                getattr(tx.runs, bystander)(now)


async def test_a_deploy_hands_runs_over_at_once(plane: Plane, tenant: Tenant, dsn: str) -> None:
    flows, begun = Flows(), asyncio.Event()

    async def long() -> str:
        begun.set()
        await asyncio.sleep(1.0 if long_calls else 60)
        return "done"

    long_calls: list[int] = []

    @flows.flow("long")
    async def flow(run: Flow) -> str:
        return await run.step(long)

    stop = asyncio.Event()
    first = asyncio.create_task(Executor(flows, name="old", grace=0.2).run(plane, stop))
    handle = await plane.flows.start(flow, None, tenant)
    await begun.wait()
    began = asyncio.get_running_loop().time()
    stop.set()
    await first
    assert asyncio.get_running_loop().time() - began < 5
    long_calls.append(1)
    again = asyncio.Event()
    second = asyncio.create_task(Executor(flows, name="new").run(plane, again))
    assert await handle.result(timeout=20) == "done"
    again.set()
    await second


async def test_no_wake_up_is_lost_between_looking_and_letting_go(plane: Plane, tenant: Tenant) -> None:
    """Signals come at every moment of a run that goes from wait to wait."""
    flows = Flows()

    @flows.flow("counting")
    async def counting(run: Flow, count: int) -> int:
        total = 0
        for _ in range(count):
            total += await run.signal("tick")
        return total

    stops = [asyncio.Event() for _ in range(2)]
    tasks = [
        asyncio.create_task(Executor(flows, name=f"e{number}", poll_interval=0.2).run(plane, stop))
        for number, stop in enumerate(stops)
    ]
    handles = [await plane.flows.start(counting, 15, tenant) for _ in range(8)]

    async def ticks(run_id: Any) -> None:
        for _ in range(15):
            await plane.flows.signal("tick", tenant, key=run_id, payload=1)
            await asyncio.sleep(random.uniform(0, 0.03))

    await asyncio.gather(*(ticks(handle.run_id) for handle in handles))
    assert [await handle.result(timeout=60) for handle in handles] == [15] * 8
    for stop in stops:
        stop.set()
    await asyncio.gather(*tasks)


async def test_every_await_survives_the_loss_of_its_executor(
    plane: Plane, tenant: Tenant, dsn: str, admin: psycopg.Connection
) -> None:
    """The connections are cut again and again while one executor is at it."""
    admin.execute("CREATE TABLE public.calls (key text, word text); GRANT INSERT ON public.calls TO PUBLIC")
    assert len(app_flows) == 2
    stop = asyncio.Event()
    executing = asyncio.create_task(Executor(local(), name="cut", lease=3, poll_interval=0.1).run(plane, stop))
    handles = [await plane.flows.start(FLOW["local"], number, tenant) for number in range(10)]
    for _ in range(10):
        await asyncio.sleep(0.15)
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert [await handle.result(timeout=60) for handle in handles] == [10 * number for number in range(10)]
    stop.set()
    await executing


FLOW: dict[str, Any] = {}


def local() -> Flows:
    """A flow of twenty short steps."""
    flows = Flows()

    async def add(number: int, more: int) -> int:
        await asyncio.sleep(0.02)
        return number + more

    @flows.flow("local")
    async def flow(run: Flow, number: int) -> int:
        total = 0
        for _ in range(10):
            total = await run.step(add, total, number, retry=Retry(first=0.05))
        return total

    FLOW["local"] = flow
    return flows
