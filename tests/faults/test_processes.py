"""Several processes under one: those that die, hang or grow are replaced, and what they held is delivered."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from persistence import Plane
from persistence.models import Tenant
from persistence.outbox.processes import Supervisor, this_command_without
from tests.helpers import request_effect

ROOT = Path(__file__).parent.parent.parent
WORKER = [sys.executable, "-m", "persistence.cli", "worker", "--app", "tests.faults.troubled_worker:worker", "--log-level", "error"]


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Looks again and again. (What is waited for is another process's doing.)"""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


@asynccontextmanager
async def supervised(dsn: str, count: int, *more: str, silence: float = 60) -> AsyncIterator[None]:
    stop = asyncio.Event()
    environment = {"PERSISTENCE_DSN": dsn, "PYTHONPATH": str(ROOT)}
    supervisor = Supervisor([*WORKER, *more], count, silence=silence, grace=10, environment=environment)
    running = asyncio.create_task(supervisor.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running


@pytest.mark.parametrize(
    "trouble", ["kill", "exit", "system_exit", "interrupt", "cancel", "generator_exit", "recurse", "no_json", "hang", "leak"]
)
async def test_whatever_a_handler_does_its_effect_is_delivered(
    plane: Plane, tenant: Tenant, dsn: str, admin: psycopg.Connection, trouble: str
) -> None:
    for number in range(5):
        await request_effect(plane, tenant.tenant_id, f"calm-{number}")
    await request_effect(plane, tenant.tenant_id, "trouble", do=trouble)

    async def all_delivered() -> bool:
        return admin.execute("SELECT count(*) FROM effects WHERE status = 'EXECUTED'").fetchone() == (6,)

    more = ("--max-memory", "150") if trouble == "leak" else ()
    async with supervised(dsn, 2, *more, silence=3 if trouble == "hang" else 60):
        await until(all_delivered)
    assert admin.execute("SELECT count(*) FROM orchestration_events WHERE event_type = 'EFFECT_EXECUTED'").fetchone() == (6,)


async def test_processes_share_the_work_and_stop_together(
    plane: Plane, tenant: Tenant, dsn: str, admin: psycopg.Connection
) -> None:
    command = [*WORKER, "--processes", "2"]
    supervisor = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env={**os.environ, "PERSISTENCE_DSN": dsn})
    family = psutil.Process(supervisor.pid)

    async def working() -> bool:
        found = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query LIKE '%pg_notify%'"
        ).fetchone()
        return found is not None and found[0] >= 2

    await until(working)
    children = [child for child in family.children() if "persistence.cli" in " ".join(child.cmdline())]
    assert len(children) == 2
    for number in range(20):
        await request_effect(plane, tenant.tenant_id, f"key-{number}")

    async def delivered() -> bool:
        return admin.execute("SELECT count(*) FROM effects WHERE status = 'EXECUTED'").fetchone() == (20,)

    await until(delivered)
    children[0].kill()

    async def replaced() -> bool:
        return len([child for child in family.children() if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]) == 2

    await until(replaced)
    supervisor.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(supervisor.wait(), 60) == 0
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


async def test_processes_whose_supervisor_was_killed_stop(dsn: str, plane: Plane, admin: psycopg.Connection) -> None:
    supervisor = await asyncio.create_subprocess_exec(
        *WORKER, "--processes", "2", cwd=ROOT, env={**os.environ, "PERSISTENCE_DSN": dsn}
    )
    family = psutil.Process(supervisor.pid)

    async def two() -> bool:
        return len(family.children()) == 2

    await until(two)
    children = family.children()
    supervisor.kill()
    await supervisor.wait()

    async def gone() -> bool:
        return not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)

    await until(gone)


def test_children_are_called_as_the_supervisor_was(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["--processes", "4"], ["--processes=4"]):
        monkeypatch.setattr(sys, "argv", ["persistence", "worker", *words, "--app", "a:b"])
        assert this_command_without(("--processes",)) == [sys.executable, "-m", "persistence.cli", "worker", "--app", "a:b"]
