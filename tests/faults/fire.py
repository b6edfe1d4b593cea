"""What the tests under fire and the soak share: a receiver that behaves badly, workers in processes, and the end check."""

import asyncio
import os
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import psycopg

from persistence import Plane
from persistence.gates.checks import shipped_suites
from persistence.gates.fit import Runner
from persistence.models import new_id
from persistence.settings import Settings
from tests.helpers import ACTOR

ROOT = Path(__file__).parent.parent.parent
WORKER = [sys.executable, "-m", "persistence.cli", "worker", "--log-level", "error", "--poll-interval", "0.1", "--lease", "3"]
TROUBLES = ("slow", "half", "too_many", "broken", "reset", "never")


def worker_environment(dsn: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERSISTENCE_")}
    webhooks = {"PERSISTENCE_WEBHOOK_ALLOW_PRIVATE": "1", "PERSISTENCE_WEBHOOK_TIMEOUT": "1"}
    return {**kept, "PERSISTENCE_DSN": dsn, **webhooks, **more}


class Receiver:
    """Takes webhooks, and misbehaves with a share of them.

    accepted: idempotency keys of what it took, in order, with repeats; bodies: what came under each key.
    """

    def __init__(self, seed: int, trouble: float = 0.0) -> None:
        self.accepted: list[str] = []
        self.bodies: dict[str, set[str]] = {}
        self.trouble = trouble
        self.modes: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Receiver"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                mode = self._chance.choice(TROUBLES) if self._chance.random() < self.trouble else "well"
                self.modes[mode] += 1
                await self._answer(mode, headers["idempotency-key"], body, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            writer.close()

    async def _answer(self, mode: str, key: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if mode in ("well", "slow", "half"):
            self.accepted.append(key)
            self.bodies.setdefault(key, set()).add(sha256(body).hexdigest())
        if mode == "slow":
            await asyncio.sleep(0.3)
        if mode == "never":
            await asyncio.sleep(30)
        if mode == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise ConnectionResetError
        status, extra = {"too_many": (429, "Retry-After: 0\r\n"), "broken": (500, "")}.get(mode, (200, ""))
        answer = f"HTTP/1.1 {status} X\r\n{extra}Content-Length: 6\r\n\r\nthanks".encode()
        writer.write(answer[: len(answer) // 2] if mode == "half" else answer)
        await writer.drain()
        if mode == "half":
            raise ConnectionAbortedError


async def request_webhooks(plane: Plane, tenant_id: UUID, url: str, count: int, *, ordering_key: str | None = None) -> list[str]:
    """Requests webhooks in one transaction; their idempotency keys."""
    keys = [str(new_id()) for _ in range(count)]
    async with plane.transaction(tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="fire")
        specs = {key: {"url": url, "json": {"n": number}} for number, key in enumerate(keys)}
        tx.effects.request_many(run, "HTTP_POST", specs, ordering_key=ordering_key)
    return keys


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 90) -> None:
    """Looks again and again. (What is waited for is another process's doing.)"""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


def hurry(admin: psycopg.Connection) -> None:
    """Waiting times are over, those of retries and of resting destinations."""
    admin.execute("UPDATE persistence.outbox_destinations SET open_until = now() WHERE open_until IS NOT NULL")
    admin.execute(
        "UPDATE persistence.outbox_queue SET due_at = now() WHERE due_at > now() AND held_by IS NULL AND lease_token IS NULL"
    )


async def all_settled(admin: psycopg.Connection, *, seconds: float = 90) -> None:
    """Until nothing is pending; nobody waits for long."""

    async def none_pending() -> bool:
        hurry(admin)
        return admin.execute(
            "SELECT count(*) FROM persistence.outbox_queue WHERE held_by IS DISTINCT FROM 'DEAD_LETTER'"
        ).fetchone() == (0,)

    await until(none_pending, seconds)


async def check_the_end(admin: psycopg.Connection, audit_dsn: str, dsn: str, keys: list[str], receiver: Receiver) -> None:
    """Every accepted effect delivered, none settled twice, repeats under their own key only, gates green, replay without difference."""
    delivered = {
        key for (key,) in admin.execute("SELECT idempotency_key FROM persistence.effects WHERE status = 'EXECUTED'").fetchall()
    }
    assert delivered == set(keys), f"{len(set(keys) - delivered)} effects were lost"
    assert set(receiver.accepted) >= set(keys), f"{len(set(keys) - set(receiver.accepted))} never came"
    assert all(len(bodies) == 1 for bodies in receiver.bodies.values()), "one key came with two bodies"
    twice = admin.execute(
        "SELECT count(*) FROM (SELECT FROM persistence.orchestration_events WHERE event_type = 'EFFECT_EXECUTED' GROUP BY aggregate_id HAVING count(*) > 1) AS t"
    ).fetchone()
    assert twice == (0,), "settled twice"
    with_connection = await Runner(audit_dsn, dsn, Settings()).run(shipped_suites())
    bad = [
        (o.check.name, o.problem, o.violations[:3])
        for o in with_connection
        if o.verdict in ("violated", "failed") and o.check.severity == "error"
    ]
    assert bad == [], "gates are red"
