"""Streams under what happens to connections: cut, frozen, half-open, a service that is killed, a database that is."""

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
from contextlib import aclosing, suppress
from pathlib import Path

import httpx2
import psycopg
import pytest
from prometheus_client import REGISTRY

from persistence import Plane
from persistence.models import Channel, Position, Role, Tenant
from persistence.service import sockets
from persistence.service.server import listen
from persistence.streams import Hub
from persistence.streams.client import StreamClient
from tests.helpers import ACTOR
from tests.integration.test_streams import log_of, write
from tests.serving import serving


async def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def start(plane: Plane, port: int, folder: Path) -> subprocess.Popen[bytes]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PERSISTENCE_")},
        "PERSISTENCE_DSN": plane.server.dsn,
        "PERSISTENCE_ADMIN_DSN": plane.server.admin_dsn or "",
        "PERSISTENCE_DATA_DIR": str(folder),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "persistence.cli", "serve", "--port", str(port), "--requests-per-second", "1000"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    async with asyncio.timeout(60), httpx2.AsyncClient() as client:
        while True:
            assert process.poll() is None
            with suppress(httpx2.HTTPError):
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                    return process
            await asyncio.sleep(0.1)


async def test_a_service_that_is_killed_costs_its_followers_nothing(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    port = await free_port()
    text, _ = await plane.tokens.issue(tenant.tenant_id, "x", role=Role.OPERATOR, acts_as="user:x", actor=ACTOR)
    got: list[str] = []
    process = await start(plane, port, tmp_path)
    try:
        async with (
            StreamClient(f"http://127.0.0.1:{port}", text) as client,
            aclosing(client.follow("events", after="0-0-0")) as heard,
        ):

            async def take() -> None:
                async for one in heard:
                    if one.event is not None:
                        got.append(one.position)  # noqa: PERF401  they are counted meanwhile

            taking = asyncio.create_task(take())
            for number in range(2):
                writing = asyncio.create_task(write(plane, tenant, 500))
                async with asyncio.timeout(60):
                    while len(got) < 200 * (number + 1):
                        await asyncio.sleep(0.01)
                process.kill()
                process.wait()
                await writing
                process = await start(plane, port, tmp_path)
            async with asyncio.timeout(60):
                while got != [position for position, _ in await log_of(plane, tenant)]:
                    assert len(got) == len(set(got))
                    await asyncio.sleep(0.1)
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
    finally:
        process.kill()
        process.wait()


async def test_a_database_that_cuts_all_connections_costs_followers_nothing(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    async with Hub(plane) as hub, hub.following(tenant.tenant_id, Channel("events"), Position()) as follower:
        got: list[str] = []

        async def take() -> None:
            async for told in follower.told():
                if told.event is not None:
                    got.append(str(told.position))  # noqa: PERF401

        taking = asyncio.create_task(take())
        for _ in range(4):
            writing = asyncio.create_task(write(plane, tenant, 200))
            await asyncio.sleep(0.05)
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await writing
        async with asyncio.timeout(60):
            while got != [position for position, _ in await log_of(plane, tenant)]:
                await asyncio.sleep(0.05)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)


class Raw:
    """A client that says hello and then does what no library would."""

    def __init__(self, url: str, token: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect((host, int(port)))
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /v1/streams HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )

    def say(self, order: dict[str, str]) -> None:
        body = json.dumps(order).encode()
        assert len(body) < 126
        self.socket.sendall(bytes([0x81, 0x80 | len(body), 0, 0, 0, 0]) + body)


async def test_a_frozen_client_is_let_go_and_holds_up_nobody(plane: Plane, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_PATIENCE", 2.0)
    async with serving(plane) as service:
        token = await service.token(tenant)
        frozen = await asyncio.to_thread(Raw, service.url, token)
        await asyncio.sleep(0.2)
        frozen.say({"do": "subscribe", "channel": "events", "after": "0-0-0"})
        async with StreamClient(service.url, token) as client, aclosing(client.follow("events", after="0-0-0")) as heard:
            await write(plane, tenant, 3000)
            count = 0
            async with asyncio.timeout(60):
                async for one in heard:
                    count += one.event is not None
                    if count == 3000:
                        break
            async with asyncio.timeout(60):
                while True:
                    async with StreamClient(service.url, token) as asking:
                        async for one in asking.follow("metrics"):
                            assert one.metrics
                            break
                    if open_sockets() <= 2:
                        break
                    await asyncio.sleep(0.2)
        frozen.socket.close()


def open_sockets() -> float:
    return REGISTRY.get_sample_value("persistence_stream_sockets") or 0.0


def test_who_is_gone_without_a_word_is_known_to_be() -> None:
    """What no packet comes back from is closed by the kernel after a minute, since a beat is sent every fifteen seconds."""
    with listen("127.0.0.1", 0) as listening:
        client = socket.create_connection(listening.socket.getsockname())
        accepted, _ = listening.socket.accept()
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
        client.close()
        accepted.close()
