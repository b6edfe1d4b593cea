"""Processes that are killed lose nothing."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import psycopg
import pytest

from persistence import Plane
from persistence.database.embedded import EmbeddedServer
from persistence.models import Tenant
from persistence.outbox import Delivery
from tests.helpers import get_effect, let_time_pass, request_effect, worker_with

ROOT = Path(__file__).parent.parent.parent
WORKER = [sys.executable, "-m", "persistence.cli", "worker", "--app", "tests.faults.hanging_worker:worker", "--poll-only"]


def begun_worker(dsn: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(WORKER, cwd=ROOT, env={**os.environ, "PERSISTENCE_DSN": dsn}, stdout=subprocess.PIPE, text=True)
    alarm = threading.Timer(60, process.kill)
    alarm.start()
    assert process.stdout is not None
    assert process.stdout.readline().startswith("begun")
    alarm.cancel()
    return process


async def test_an_effect_in_a_killed_workers_hands_is_delivered_by_the_next(
    plane: Plane, tenant: Tenant, dsn: str, admin: psycopg.Connection
) -> None:
    effect = await request_effect(plane, tenant.tenant_id)
    process = begun_worker(dsn)
    process.kill()
    process.wait()
    seen: list[int] = []

    async def handler(delivery: Delivery) -> str:
        seen.append(delivery.attempt)
        return "delivered"

    assert await worker_with(handler).drain(plane) == 0  # the lease has not run out
    let_time_pass(admin)
    assert await worker_with(handler).drain(plane) == 1
    stored = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (seen, stored.status, stored.retry_count) == ([2], "EXECUTED", 1)


async def test_sigterm_hands_back_what_is_held(plane: Plane, tenant: Tenant, dsn: str) -> None:
    effect = await request_effect(plane, tenant.tenant_id)
    process = begun_worker(dsn)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    stopped = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (stopped.status, stopped.error_details["type"]) == ("PENDING", "WorkerStopped")


@pytest.mark.parametrize("durable", [True])
def test_the_embedded_server_survives_the_death_of_all_its_users(tmp_path: Path, durable: bool) -> None:
    """A process that started the server is killed; the next one takes the server over, and stops it when it leaves."""
    hold = (
        "import sys, time; from pathlib import Path; from persistence.database.embedded import EmbeddedServer\n"
        f"EmbeddedServer(Path({str(tmp_path)!r}), durable={durable}).__enter__(); print('up', flush=True); time.sleep(600)"
    )
    first = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "up\n"
    pid_file = tmp_path / "postgresql" / "postmaster.pid"
    pid = pid_file.read_text().splitlines()[0]
    first.kill()
    first.wait()
    with EmbeddedServer(tmp_path) as server:
        assert pid_file.read_text().splitlines()[0] == pid
        with EmbeddedServer(tmp_path):
            pass
        with psycopg.connect(server.dsn("postgres", "postgres")) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
    assert not pid_file.exists()


def test_a_server_that_was_killed_is_started_again_with_all_its_data(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        with psycopg.connect(server.dsn("postgres", "postgres"), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        pid = int((tmp_path / "postgresql" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(30)
        with EmbeddedServer(tmp_path) as again, psycopg.connect(again.dsn("postgres", "postgres")) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (1,)
