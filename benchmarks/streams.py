"""How many sockets one service serves, how soon they have what happens, and what one costs: `python -m benchmarks.streams`.

1. Fan-out: SOCKETS follow one tenant's log, PER_SECOND messages a second reach them; from the commit to the client, as each frame says.
2. Idle: memory of the service for each socket that follows and hears nothing.
3. Reconnect: RECONNECTS sockets at once, each until it is told that it follows.
4. The same fan-out through NATS's own WebSocket, where nats-server is there: published to a subject, no log.

Service and clients are processes of their own; all run on this machine, so the clients take their share of it.
"""

import argparse
import asyncio
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
import uvloop

from persistence import Plane
from persistence.models import Role, Tenant
from tests.faults.test_streams import free_port

HELLO = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: {key}\r\n{more}\r\n"
)


class Client(asyncio.Protocol):
    """As little as can be: reads frames, and gives each to ``take``."""

    def __init__(self, hello: bytes, first: bytes, take: Callable[["Client", bytes], None]) -> None:
        self._hello, self._first, self._take = hello, first, take
        self._buffer = b""
        self._is_open = False
        self.lost = asyncio.get_running_loop().create_future()
        self.ready = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._hello)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(error)
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(str(error)))

    def say(self, body: bytes, code: int = 0x81) -> None:
        length = bytes([0x80 | len(body)]) if len(body) < 126 else bytes([0x80 | 126]) + len(body).to_bytes(2)
        self.transport.write(bytes([code]) + length + b"\0\0\0\0" + body)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_open:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self.ready.set_exception(ConnectionError(head[:80].decode()))
                self.transport.close()
                return
            self._is_open, self._buffer = True, rest
            self.say(self._first)
        while len(self._buffer) >= 2:
            length, begin = self._buffer[1] & 0x7F, 2
            if length == 126:
                length, begin = int.from_bytes(self._buffer[2:4]), 4
            elif length == 127:
                length, begin = int.from_bytes(self._buffer[2:10]), 10
            if len(self._buffer) < begin + length:
                return
            frame, self._buffer = self._buffer[begin : begin + length], self._buffer[begin + length :]
            self._take(self, frame)


async def clients(arguments: argparse.Namespace) -> None:
    """The process of the clients: says how late each message was."""
    loop, late, told = asyncio.get_running_loop(), [], 0
    order = json.dumps({"do": "subscribe", "channel": arguments.channel}).encode()

    def take(client: Client, frame: bytes) -> None:
        nonlocal told
        if frame.startswith(b'{"is":"subscribed"') and not client.ready.done():
            client.ready.set_result(None)
        place = frame.find(b"sent=")
        if place >= 0:
            late.append(time.time() - float(frame[place + 5 : place + 22]))
            told += 1

    def nats(client: Client, frame: bytes) -> None:
        if frame.startswith(b"PONG") and not client.ready.done():
            client.ready.set_result(None)
        elif frame.startswith(b"PING"):
            client.say(b"PONG\r\n", 0x82)
        take(client, frame)

    opened: list[Client] = []
    failed = 0

    first = b'CONNECT {"verbose":false}\r\nSUB bench 1\r\nPING\r\n' if arguments.nats else order

    async def one(number: int) -> None:
        nonlocal failed
        token = arguments.tokens[number % len(arguments.tokens)]
        key = base64.b64encode(os.urandom(16)).decode()
        more = "" if arguments.nats else f"Authorization: Bearer {token}\r\n"
        hello = HELLO.format(path="/" if arguments.nats else "/v1/streams", port=arguments.port, key=key, more=more).encode()
        wait = 0.05
        while True:
            try:
                _, client = await loop.create_connection(
                    lambda: Client(hello, first, nats if arguments.nats else take), "127.0.0.1", arguments.port
                )
                await client.ready
                opened.append(client)
                return
            except (OSError, ConnectionError):
                failed += 1
                await asyncio.sleep(wait * (0.5 + os.urandom(1)[0] / 255))
                wait = min(2.0, wait * 2)

    begun = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(arguments.sockets)))
    print(json.dumps({"opened": len(opened), "seconds": time.perf_counter() - begun, "refused": failed}), flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    late.sort()
    at = (lambda share: late[min(len(late) - 1, int(share * len(late)))]) if late else (lambda _: 0.0)
    print(
        json.dumps({"told": told, "p50": at(0.5), "p99": at(0.99), "max": at(1.0), "lost": sum(one.lost.done() for one in opened)}),
        flush=True,
    )


@asynccontextmanager
async def running_clients(
    port: int, tokens: list[str], sockets: int, channel: str, *, nats: bool = False
) -> AsyncIterator[tuple[dict[str, Any], Callable[[], Any]]]:
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "benchmarks.streams",
            "--clients",
            "--port",
            str(port),
            "--sockets",
            str(sockets),
            "--channel",
            channel,
        ),
        *(("--nats",) if nats else ()),
        *("--tokens", *tokens),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    opened = json.loads(await process.stdout.readline())

    async def end() -> dict[str, Any]:
        process.stdin.write(b"\n")
        return json.loads(await process.stdout.readline())

    try:
        yield opened, end
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def memory(pid: int) -> float:
    return psutil.Process(pid).memory_full_info().uss / 1024


async def ours(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Plane(data_dir=Path(folder) / "data") as plane:
            tenants = [await plane.tenants.ensure(f"tenant-{number}", actor="system:bench") for number in range(6)]
            tokens = [
                (await plane.tokens.issue(one.tenant_id, "x", role=Role.READER, acts_as="user:x", actor="user:x"))[0]
                for one in tenants
                for _ in range(2)
            ]
            port = await free_port()
            environment = {**os.environ, "PERSISTENCE_DSN": plane.server.dsn, "PERSISTENCE_DATA_DIR": folder}
            service = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "persistence.cli", "serve", "--port", str(port), "--requests-per-second", "100000"),
                env=environment,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                async with httpx2.AsyncClient() as client:
                    while True:
                        with suppress(httpx2.HTTPError):
                            if (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                                break
                        await asyncio.sleep(0.1)
                async with running_clients(port, tokens[:1], 100, "events"):  # what the first ones cost is the server's own
                    await asyncio.sleep(1)
                print("to                          opened  in s  refused   told      p50 ms   p99 ms   max ms  KiB/socket")
                for per_second, channel in ((arguments.per_second, "type:RUN_STARTED"), (arguments.per_second, "chat:bench")):
                    before = memory(service.pid)
                    async with running_clients(port, tokens[:1], arguments.sockets, channel) as (opened, end):
                        await asyncio.sleep(3)
                        each = (memory(service.pid) - before) / arguments.sockets
                        await write(plane, tenants[0], per_second / arguments.sockets, arguments.seconds, channel)
                        await asyncio.sleep(2)
                        report(f"{arguments.sockets} of {channel}", opened, await end(), each)
                before = memory(service.pid)
                async with running_clients(port, tokens, arguments.reconnects, "events") as (opened, end):
                    await asyncio.sleep(2)
                    report(
                        f"{arguments.reconnects} at once",
                        opened,
                        await end(),
                        (memory(service.pid) - before) / arguments.reconnects,
                    )
            finally:
                service.kill()
                await service.wait()


async def write(plane: Plane, tenant: Tenant, per_second: float, seconds: float, channel: str) -> None:
    begun = time.perf_counter()
    for number in range(int(per_second * seconds)):
        await asyncio.sleep(max(0.0, begun + number / per_second - time.perf_counter()))
        if channel.startswith("chat"):
            await plane.publish(tenant.tenant_id, channel, f"sent={time.time():017.6f} and some words besides", actor="agent:bench")
        else:
            async with plane.transaction(tenant.tenant_id, actor="agent:bench") as tx:
                tx.runs.start(run_type="bench", input={"text": f"sent={time.time():017.6f} and some words besides"})


async def peers(arguments: argparse.Namespace) -> None:
    binary = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if binary is None:
        return
    import nats  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        plain, port = await free_port(), await free_port()
        config = Path(folder) / "nats.conf"
        config.write_text(f'listen: "127.0.0.1:{plain}"\nwebsocket: {{listen: "127.0.0.1:{port}", no_tls: true}}\n')
        server = await asyncio.create_subprocess_exec(
            binary, "-c", str(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await asyncio.sleep(1)
        before = memory(server.pid)
        async with running_clients(port, ["x"], arguments.sockets, "bench", nats=True) as (opened, end):
            each = (memory(server.pid) - before) / arguments.sockets
            client = await nats.connect(f"nats://127.0.0.1:{plain}")
            per_second, begun = arguments.per_second / arguments.sockets, time.perf_counter()
            for number in range(int(per_second * arguments.seconds)):
                await asyncio.sleep(max(0.0, begun + number / per_second - time.perf_counter()))
                await client.publish("bench", f"sent={time.time():017.6f} and some words besides {'x' * 600}".encode())
                await client.flush()
            await asyncio.sleep(1)
            await client.close()
            report(f"{arguments.sockets} of NATS", opened, await end(), each)
        server.kill()
        await server.wait()


def report(name: str, opened: dict[str, Any], told: dict[str, Any], each: float) -> None:
    figures = " ".join(f"{told[part] * 1000:8.1f}" for part in ("p50", "p99", "max"))
    print(
        f"{name:<28}{opened['opened']:>6} {opened['seconds']:>5.1f} {opened['refused']:>8} {told['told']:>8} {figures} {each:>10.1f}"
        + (f"  lost {told['lost']}" if told["lost"] else "")
    )


async def main(arguments: argparse.Namespace) -> None:
    for _ in range(arguments.rounds):
        await ours(arguments)
        await peers(arguments)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--nats", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--channel", help=argparse.SUPPRESS)
    parser.add_argument("--tokens", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--per-second", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--reconnects", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    uvloop.run(clients(given) if given.clients else main(given))
