"""Parts of the measurement of the service over HTTP: the service itself, and clients that keep their connections open."""

import asyncio
import itertools
import os
import time
from pathlib import Path
from uuid import uuid4

from benchmarks.processes import Gate
from benchmarks.systems.plane import ACTOR, as_service, tenant_of
from persistence import Plane
from persistence.ingest import Ingest
from persistence.models import Role
from persistence.service import create_app
from persistence.service.server import listen, serve

DATA = b'{"text":"' + b"x" * 1013 + b'"}'


async def service(dsn: str, folder: str, port_file: str, seconds: float, gate: Gate) -> int:
    """Serves for so long; where and with which token stands in a file. Returns how many posts of data wait to be recorded at the end."""
    stop = asyncio.Event()
    async with Plane(dsn=as_service(dsn)) as plane, Ingest(Path(folder, uuid4().hex), plane, writes_apart=True) as ingest:
        tenant_id = await tenant_of(plane)
        token, _ = await plane.tokens.issue(tenant_id, "bench", role=Role.OPERATOR, acts_as=ACTOR, actor=ACTOR)
        with listen("127.0.0.1", 0) as listening:
            serving = asyncio.create_task(serve(create_app(plane, ingest, requests_per_second=1_000_000), listening, stop))
            Path(port_file).write_text(f"{listening.url.rpartition(':')[2]} {token}")
            gate.wait()
            await asyncio.sleep(seconds + 1)
            waiting, _ = await ingest.waiting(tenant_id)
            stop.set()
            await serving
            return waiting


async def clients(port_file: str, what: str, callers: int, seconds: float, gate: Gate) -> tuple[int, float, float]:
    """Posts ``data`` or ``signals``, one after the other on each of so many connections. How many, and the median and 99th percentile of the
    seconds they took."""
    while not Path(port_file).exists():
        await asyncio.sleep(0.05)
    gate.wait()
    port, token = Path(port_file).read_text().split()
    path = {"data": "/v1/data/bench.posts", "signals": "/v1/signals"}[what]
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: ".encode()
    numbers = itertools.count()
    end = time.monotonic() + seconds
    taken: list[float] = []

    def request() -> bytes:
        body = DATA
        if what == "signals":
            name = f"{os.getpid()}-{next(numbers)}"
            body = b'{"source_channel":"bench","source_id":"%s","signal_type":"bench.run","payload":{"a":1}}' % name.encode()
        return head + b"%d\r\n\r\n" % len(body) + body

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        while time.monotonic() < end:
            begun = time.monotonic()
            writer.write(request())
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 201"), answer
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            taken.append(time.monotonic() - begun)
        writer.close()

    await asyncio.gather(*(client() for _ in range(callers)))
    taken.sort()
    return len(taken), taken[len(taken) // 2], taken[len(taken) * 99 // 100]
