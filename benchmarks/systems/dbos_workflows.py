"""DBOS: workflows of steps, and its queue, on its PostgreSQL system database."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS, SetWorkflowID

from benchmarks.processes import Gate

QUEUE = "bench"


@DBOS.step()
def work(n: int) -> int:
    return n


@DBOS.workflow()
def one_step(n: int) -> int:
    return work(n)


@DBOS.workflow()
def three_steps(n: int) -> int:
    return work(work(work(n)))


@DBOS.workflow()
def do_nothing(n: int) -> int:
    return n


def launch(dsn: str, *, listens: bool = False) -> None:
    user, _, rest = dsn.removeprefix("postgresql://").partition("@/")
    url = f"postgresql+psycopg://{user}@/{rest}"
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url,
            "log_level": "ERROR",
            "executor_id": str(os.getpid()),
            "sys_db_pool_size": 20,
        }
    )
    DBOS.listen_queues([QUEUE] if listens else [])
    DBOS.launch()
    DBOS.register_queue(QUEUE, polling_interval_sec=0.05)


def prepare(dsn: str) -> None:
    launch(dsn)
    DBOS.destroy()


def enqueue_one(dsn: str, callers: int, seconds: float, gate: Gate) -> int:
    launch(dsn)

    def call(end: float) -> int:
        number = 0
        while time.monotonic() < end:
            DBOS.enqueue_workflow(QUEUE, do_nothing, 1)
            number += 1
        return number

    call(time.monotonic() + 0.3)
    gate.wait()
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(callers) as pool:
        return sum(pool.map(call, [end] * callers))


def enqueue_batches(dsn: str, count: int, gate: Gate | None = None) -> int:
    """It has no batches: as many at a time as its pool has connections."""
    launch(dsn)
    if gate:
        gate.wait()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: DBOS.enqueue_workflow(QUEUE, do_nothing, n), range(count)))
    return count


def drain(dsn: str, gate: Gate) -> int:
    gate.wait()
    launch(dsn, listens=True)
    while DBOS.list_queued_workflows(limit=1):
        time.sleep(0.02)
    return 0


def runs(dsn: str, steps: int, callers: int, count: int, gate: Gate) -> int:
    launch(dsn)
    workflow: Callable[[int], int] = one_step if steps == 1 else three_steps

    def call(caller: int) -> None:
        for number in range(count // callers):
            with SetWorkflowID(f"{os.getpid()}-{caller}-{number}"):
                workflow(number)

    workflow(0)
    gate.wait()
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(call, range(callers)))
    return count // callers * callers
