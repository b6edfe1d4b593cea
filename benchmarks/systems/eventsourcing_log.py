"""eventsourcing: its PostgreSQL recorder behind an Application, saving aggregates that have one or ten new events."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from benchmarks.processes import Gate


class Counter(Aggregate):
    @event("Began")
    def __init__(self, a: int) -> None:
        self.a = a

    @event("Added")
    def add(self, a: int) -> None:
        self.a += a


def opened(dsn: str) -> "Application":
    parts = urlsplit(dsn)
    environment = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": parts.path.strip("/"),
        "POSTGRES_HOST": parse_qs(parts.query)["host"][0],
        "POSTGRES_PORT": "5432",
        "POSTGRES_USER": "postgres",
        "POSTGRES_PASSWORD": "none",
        "POSTGRES_POOL_SIZE": "20",
        "POSTGRES_MAX_OVERFLOW": "20",
    }
    return Application(env={**os.environ, **environment})


def prepare(dsn: str) -> None:
    opened(dsn).close()


def append(dsn: str, events: int, callers: int, seconds: float, gate: Gate) -> int:
    application = opened(dsn)

    def call(end: float) -> int:
        number = 0
        while time.monotonic() < end:
            counter = Counter(a=1)
            for _ in range(events - 1):
                counter.add(1)
            application.save(counter)
            number += 1
        return number

    call(time.monotonic() + 0.3)
    gate.wait()
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(callers) as pool:
        return sum(pool.map(call, [end] * callers))
