"""This package: its library, its worker."""

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import asyncpg
import httpx2
import structlog

from benchmarks.processes import Gate
from benchmarks.systems.pacing import counted, paced
from persistence import Plane
from persistence.database.migrator import Migrator
from persistence.database.server import create_logins
from persistence.ingest import Ingest
from persistence.models import NewSignal, Position, Role, Run
from persistence.outbox import Delivery, Worker
from persistence.outbox.queue import OutboxQueue, Settlement
from persistence.queries.causation import causation_of
from persistence.queries.comparison import compare_runs
from persistence.queries.dead_letters import DeadLetterFilter, dead_letter_groups
from persistence.queries.effect_diagnosis import diagnose_effect
from persistence.queries.moment import moment_of
from persistence.queries.outbox_state import leases, outbox_depth
from persistence.queries.overview import overview
from persistence.queries.run_diagnosis import diagnose_run
from persistence.queries.runs import RunFilter, list_runs
from persistence.queries.search import search_runs
from persistence.queries.trace import trace_run
from persistence.service import create_app
from persistence.service.server import listen, serve
from persistence.transaction import Transaction

ACTOR = "agent:bench"
LOGIN = "persistence_service"


def quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def as_service(dsn: str) -> str:
    return dsn.replace("postgres@", f"{LOGIN}@", 1)


def prepare(dsn: str) -> None:
    Migrator(dsn).up()
    create_logins(dsn)

    async def make_tenant() -> None:
        async with Plane(dsn=as_service(dsn)) as plane:
            await plane.tenants.create("bench", actor="system:bench")

    asyncio.run(make_tenant())


async def tenant_of(plane: Plane) -> UUID:
    return (await plane.tenants.list())[0].tenant_id


async def begin_run(plane: Plane, tenant_id: UUID) -> Run:
    async with plane.transaction(tenant_id, actor=ACTOR) as tx:
        return tx.runs.start(run_type="bench")


async def enqueue_batches(dsn: str, count: int, gate: Gate | None = None) -> int:
    async with Plane(dsn=as_service(dsn), pool_min=2) as plane:
        tenant_id = await tenant_of(plane)
        run = await begin_run(plane, tenant_id)
        if gate:
            gate.wait()
        for batch in range(count // 1000):
            async with plane.transaction(tenant_id, actor=ACTOR) as tx:
                tx.effects.request_many(run, "BENCH", {f"{os.getpid()}-{batch}-{n}": {"n": 1} for n in range(1000)})
    return count


async def enqueue_one(dsn: str, callers: int, seconds: float, gate: Gate) -> int:
    async with Plane(dsn=as_service(dsn), pool_min=4) as plane:
        tenant_id = await tenant_of(plane)
        run = await begin_run(plane, tenant_id)

        async def call(name: str) -> None:
            async with plane.transaction(tenant_id, actor=ACTOR) as tx:
                tx.effects.request(run, "BENCH", spec={"n": 1}, idempotency_key=name)

        return await counted(call, callers, seconds, gate)


async def drain(dsn: str, gate: Gate) -> int:
    quiet()
    worker = Worker(listen=False)

    @worker.handler("BENCH")
    async def do_nothing(_: Delivery) -> None:
        return None

    async with Plane(dsn=as_service(dsn), pool_min=4) as plane:
        gate.wait()
        return await worker.drain(plane)


async def handle(dsn: str, path: str, seconds: float, gate: Gate) -> int:
    quiet()
    worker = Worker()
    begun: list[str] = []

    @worker.handler("BENCH")
    async def note(delivery: Delivery) -> None:
        begun.append(f"{delivery.payload['n']} {time.monotonic_ns()}\n")

    async with Plane(dsn=as_service(dsn), pool_min=4) as plane:
        stop = asyncio.Event()
        working = asyncio.create_task(worker.run(plane, stop))
        await asyncio.sleep(1)
        gate.wait()
        await asyncio.sleep(seconds + 1)
        stop.set()
        await working
    Path(path).write_text("".join(begun))
    return len(begun)


async def produce(dsn: str, path: str, rate: float, seconds: float, gate: Gate) -> int:
    committed: list[str] = []
    async with Plane(dsn=as_service(dsn), pool_min=4) as plane:
        tenant_id = await tenant_of(plane)
        run = await begin_run(plane, tenant_id)

        async def request(number: int) -> None:
            async with plane.transaction(tenant_id, actor=ACTOR) as tx:
                tx.effects.request(run, "BENCH", spec={"n": number}, idempotency_key=str(number))
            committed.append(f"{number} {time.monotonic_ns()}\n")

        gate.wait()
        await paced(request, rate, seconds)
    Path(path).write_text("".join(committed))
    return len(committed)


async def append(dsn: str, events: int, callers: int, seconds: float, gate: Gate) -> int:
    async with Plane(dsn=as_service(dsn), pool_min=4) as plane:
        tenant_id = await tenant_of(plane)

        async def call(_: str) -> None:
            async with plane.transaction(tenant_id, actor=ACTOR) as tx:
                append_events(tx, events)

        return await counted(call, callers, seconds, gate)


def append_events(tx: Transaction, events: int) -> None:
    """A run that begins, or one that begins and goes to and fro."""
    run = tx.runs.start(run_type="bench", input={"a": 1})
    for number in range(1, events):
        run = tx.runs.suspend(run) if number % 2 else tx.runs.resume(run)


async def runs(dsn: str, steps: int, callers: int, count: int, gate: Gate) -> int:
    """Each step is recorded as begun before it is done and as completed after, as one that calls somebody would be."""
    async with Plane(dsn=as_service(dsn), pool_min=4) as plane:
        tenant_id = await tenant_of(plane)

        async def one(name: str) -> None:
            async with plane.transaction(tenant_id, actor=ACTOR) as tx:
                signal = tx.signals.record(
                    NewSignal(source_channel="bench", source_id=name, signal_type="bench.run", payload={"a": 1})
                )
                run = tx.runs.start(signal, run_type="bench", input={"a": 1})
                step = tx.steps.start(run, step_type="step-0")
            for number in range(steps):
                result = {"n": number}
                async with plane.transaction(tenant_id, actor=ACTOR) as tx:
                    tx.steps.complete(step, result)
                    if number + 1 < steps:
                        step = tx.steps.start(run, step_type=f"step-{number + 1}")
                    else:
                        tx.runs.complete(run)
                        tx.signals.process(signal)

        async def call(caller: int) -> None:
            for number in range(count // callers):
                await one(f"{os.getpid()}-{caller}-{number}")

        await one(f"{os.getpid()}-warm")
        gate.wait()
        await asyncio.gather(*(call(caller) for caller in range(callers)))
    return count // callers * callers


async def claim_and_settle(dsn: str, gate: Gate) -> int:
    """The database's part of a drain alone: its two functions by hand, 500 entries at a time."""
    done = 0
    async with Plane(dsn=as_service(dsn), pool_min=2) as plane:
        queue = OutboxQueue(plane.pool, plane.settings, f"by-hand-{os.getpid()}")
        gate.wait()
        while deliveries := await queue.claim({"BENCH": 500}, 60):
            await queue.settle([Settlement(delivery, "EXECUTED", "null") for delivery in deliveries])
            done += len(deliveries)
    return done


def effect_types(count: int) -> list[str]:
    return ["BENCH", *(f"OTHER_{number}" for number in range(1, count))]


async def claim_latencies(dsn: str, types: int, count: int, gate: Gate) -> list[float]:
    """Seconds that claims took, of so many types, while there is one entry of one of them."""
    taken: list[float] = []
    async with Plane(dsn=as_service(dsn), pool_min=1) as plane:
        tenant_id = await tenant_of(plane)
        run = await begin_run(plane, tenant_id)
        queue = OutboxQueue(plane.pool, plane.settings, "bench")
        limits = dict.fromkeys(effect_types(types), 50)
        gate.wait()
        for number in range(count):
            async with plane.transaction(tenant_id, actor=ACTOR) as tx:
                tx.effects.request(run, "BENCH", spec={}, idempotency_key=f"{os.getpid()}-{number}")
            begun = time.monotonic()
            deliveries = await queue.claim(limits, 60)
            taken.append(time.monotonic() - begun)
            await queue.settle([Settlement(delivery, "EXECUTED", "null") for delivery in deliveries])
    return taken


async def draw_latencies(dsn: str, count: int, gate: Gate) -> list[float]:
    """Seconds that it took to draw which tenants are next."""
    taken: list[float] = []
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "persistence"})
    gate.wait()
    for _ in range(count):
        begun = time.monotonic()
        await connection.fetch("SELECT cardinality(due_streams('BENCH', 50))")
        taken.append(time.monotonic() - begun)
    await connection.close()
    return taken


async def sweep(dsn: str, types: int, gate: Gate) -> bool:
    async with Plane(dsn=as_service(dsn), pool_min=1) as plane:
        gate.wait()
        return await OutboxQueue(plane.pool, plane.settings, "bench").sweep(effect_types(types))


async def fill_events(dsn: str, count: int, gate: Gate) -> int:
    """Whole runs of ten events with an effect that is waiting for next year, a thousand events a transaction."""
    later = datetime.now(UTC) + timedelta(days=365)
    async with Plane(dsn=as_service(dsn), pool_min=2) as plane:
        tenant_id = await tenant_of(plane)
        gate.wait()

        async def fill(part: int) -> None:
            for batch in range(count // 2000):
                async with plane.transaction(tenant_id, actor=ACTOR) as tx:
                    for number in range(100):
                        run = tx.runs.start(run_type=f"type-{number % 7}", input={"amount": number})
                        for index in range(3):
                            step = tx.steps.start(run, step_type=f"step-{index}")
                            tx.steps.complete(step, {"ok": True})
                        tx.effects.request(
                            run,
                            "LATER",
                            spec={"n": number},
                            idempotency_key=f"{os.getpid()}-{part}-{batch}-{number}",
                            deliver_after=later,
                        )
                        tx.runs.resume(tx.runs.suspend(run))

        await asyncio.gather(*(fill(part) for part in range(2)))
    return count


async def append_latencies(dsn: str, callers: int, seconds: float, gate: Gate) -> list[float]:
    """Seconds that each transaction of one event took, with so many writers at the same time."""
    taken: list[float] = []
    async with Plane(dsn=as_service(dsn), pool_min=4) as plane:
        tenant_id = await tenant_of(plane)

        async def call(end: float) -> None:
            while (begun := time.monotonic()) < end:
                async with plane.transaction(tenant_id, actor=ACTOR) as tx:
                    tx.runs.start(run_type="bench", input={"a": 1})
                taken.append(time.monotonic() - begun)

        await call(time.monotonic() + 0.5)
        taken.clear()
        gate.wait()
        await asyncio.gather(*(call(time.monotonic() + seconds) for _ in range(callers)))
    return [round(seconds, 5) for seconds in taken]


async def _diagnose_its_effect(tx: Transaction, run_id: UUID) -> object:
    [effect] = await tx.effects.all(run_id=run_id)
    return await diagnose_effect(tx, effect.id)


async def _causes(tx: Transaction, run_id: UUID) -> object:
    return await causation_of(tx, (await tx.runs.get(run_id)).correlation_id)


async def page_latencies(dsn: str, rounds: int, gate: Gate) -> dict[str, list[float]]:
    """Seconds until the last byte of each page of the console, by a browser's connection on the same machine."""
    taken: dict[str, list[float]] = {}
    stop = asyncio.Event()
    async with Plane(dsn=as_service(dsn), pool_min=2) as plane:
        tenant_id = await tenant_of(plane)
        text, _ = await plane.tokens.issue(tenant_id, "bench", role=Role.READER, acts_as=ACTOR, actor=ACTOR)
        async with plane.transaction(tenant_id, actor=ACTOR) as tx:
            [run] = (await tx.runs.list(limit=1, newest_first=True, run_type="type-3")).items
            [effect] = await tx.effects.all(run_id=run.id)
        pages = {
            "overview": "/",
            "runs": "/runs",
            "runs that failed": "/runs?status=FAILED",
            "a run": f"/runs/{run.id}",
            "an effect": f"/effects/{effect.id}",
            "dead letters": "/dead-letters",
            "outbox": "/outbox",
            "gates": "/gates",
        }
        with listen("127.0.0.1", 0) as listening, TemporaryDirectory() as folder:
            app = create_app(plane, Ingest(Path(folder), plane), requests_per_second=100_000)
            serving = asyncio.create_task(serve(app, listening, stop))
            async with httpx2.AsyncClient(base_url=listening.url, timeout=60) as client:
                await client.post("/console/login", data={"token": text})
                gate.wait()
                for _ in range(rounds):
                    for name, path in pages.items():
                        begun = time.monotonic()
                        answer = await client.get(f"/console{path}")
                        taken.setdefault(name, []).append(time.monotonic() - begun)
                        answer.raise_for_status()
            stop.set()
            await serving
    return taken


async def query_latencies(dsn: str, rounds: int, gate: Gate) -> dict[str, list[float]]:
    """Seconds that common questions took, each asked of runs drawn at random."""
    taken: dict[str, list[float]] = {}
    async with Plane(dsn=as_service(dsn), pool_min=1) as plane:
        tenant_id = await tenant_of(plane)
        async with plane.transaction(tenant_id, actor=ACTOR) as tx:
            newest = [run.id for run in (await tx.runs.list(limit=1000, newest_first=True, run_type="type-3")).items]
            oldest = [run.id for run in (await tx.runs.list(limit=1000, run_type="type-3")).items]
        chance = random.Random(1)
        questions: dict[str, Callable[[Transaction, UUID], Awaitable[object]]] = {
            "trace of a run": trace_run,
            "a run": lambda tx, run_id: tx.runs.get(run_id),
            "steps of a run": lambda tx, run_id: tx.steps.list(run_id=run_id),
            "events of a run": lambda tx, run_id: tx.events.of_aggregate(run_id),
            "newest 100 runs": lambda tx, _: tx.runs.list(limit=100, newest_first=True),
            "page of 100 runs": lambda tx, run_id: tx.runs.list(limit=100, after=run_id),
            "groups of dead letters": lambda tx, _: dead_letter_groups(tx, DeadLetterFilter()),
            "runs that failed": lambda tx, _: list_runs(tx, RunFilter(status="FAILED")),
            "runs that go on, of a type": lambda tx, _: list_runs(tx, RunFilter(status="RUNNING", run_type="type-3")),
            "search by the id of a run": lambda tx, run_id: search_runs(tx, str(run_id)),
            "diagnosis of a run": diagnose_run,
            "diagnosis of an effect": _diagnose_its_effect,
            "causes of a run": _causes,
            "a run at a moment": lambda tx, run_id: moment_of(tx, run_id, 5),
            "comparison of two runs": lambda tx, run_id: compare_runs(tx, run_id, newest[0]),
            "overview": lambda tx, _: overview(tx),
            "depth of the outbox": lambda tx, _: outbox_depth(tx),
            "leases": lambda tx, _: leases(tx),
            "the next 500 events": lambda tx, _: tx.events.read(Position(), 500),
        }
        gate.wait()
        for _ in range(rounds):
            for name, ask in questions.items():
                run_id = chance.choice(oldest + newest)
                begun = time.monotonic()
                async with plane.transaction(tenant_id, actor=ACTOR) as tx:
                    await ask(tx, run_id)
                taken.setdefault(name, []).append(time.monotonic() - begun)
    return taken
