"""The client for programs: follows over any number of connections, as over one."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest
from websockets import Subprotocol
from websockets.asyncio.server import ServerConnection, serve

from persistence import Plane
from persistence.errors import InvalidInput, NotAuthenticated, PermissionDenied, PersistenceError
from persistence.models import Role, Tenant
from persistence.streams.client import Heard, StreamClient
from persistence.streams.messages import PROTOCOL
from tests.helpers import ACTOR
from tests.integration.test_streams import log_of, write
from tests.serving import serving


async def take(heard: AsyncGenerator[Heard], count: int, what: str = "event") -> list[Heard]:
    found: list[Heard] = []
    async with asyncio.timeout(60):
        async for one in heard:
            if one.what == what:
                found.append(one)
            if len(found) == count:
                return found
    raise AssertionError


async def test_events_and_messages_over_one_socket(plane: Plane, tenant: Tenant) -> None:
    async with serving(plane) as service, StreamClient(service.url, await service.token(tenant)) as client:
        async with aclosing(client.follow("type:RUN_STARTED", after="0-0-0")) as runs, aclosing(client.follow("chat:desk")) as chat:
            await write(plane, tenant, 50)
            assert {one.event.event_type for one in await take(runs, 50) if one.event} == {"RUN_STARTED"}
            reading = asyncio.create_task(take(chat, 2, "message"))
            await asyncio.sleep(0)
            while not client._following["chat:desk"].position:  # it follows from then on
                await asyncio.sleep(0.01)
            position = await client.publish("chat:desk", {"text": "hello"})
            assert await client.publish("chat:desk", "again") > position
            first, _ = await reading
            assert (first.position, first.message and first.message.content) == (position, {"text": "hello"})
            with pytest.raises(InvalidInput, match="followed already"):
                await anext(client.follow("chat:desk"))
        with pytest.raises(InvalidInput) as refused:
            await client.publish("events", 1)
        assert refused.value.field == "channel"
        [metrics] = await take(client.follow("metrics"), 1, "metrics")
        assert metrics.metrics
        assert metrics.metrics.runs["RUNNING"] == 50


async def test_it_comes_back_and_misses_nothing(plane: Plane, tenant: Tenant) -> None:
    async def token() -> str:
        return text

    got: list[tuple[str, str]] = []
    async with serving(plane) as service:
        text = await service.token(tenant)
        async with StreamClient(service.url, token) as client, aclosing(client.follow("events", after="0-0-0")) as events:
            await write(plane, tenant, 100)
            got += [(one.position, str(one.event and one.event.id)) for one in await take(events, 60)]
            for _ in range(3):
                assert client._socket is not None
                client._socket.transport.abort()  # the network
                await write(plane, tenant, 100)
                got += [(one.position, str(one.event and one.event.id)) for one in await take(events, 90)]
            log = await log_of(plane, tenant)
            while len(got) < len(log):
                [one] = await take(events, 1)
                got.append((one.position, str(one.event and one.event.id)))
                log = await log_of(plane, tenant)
    assert got == log


async def test_a_consumer_takes_over_and_goes_on(plane: Plane, tenant: Tenant) -> None:
    async with serving(plane) as service:
        text = await service.token(tenant)
        await write(plane, tenant, 50)
        async with StreamClient(service.url, text) as client:
            first = await take(client.follow("type:RUN_STARTED", consumer="billing", after="0-0-0"), 20)
            await client.ack("billing", first[9].position)
        async with (
            StreamClient(service.url, text) as client,
            StreamClient(service.url, text) as other,
            aclosing(client.follow("type:RUN_STARTED", consumer="billing")) as following,
        ):
            [again] = await take(following, 1)
            assert again.position == first[10].position
            await take(other.follow("type:RUN_STARTED", consumer="billing"), 1)
            with pytest.raises(PermissionDenied, match="somebody else"):
                await client.ack("billing", again.position)


async def test_who_may_not_is_told_why(plane: Plane, tenant: Tenant) -> None:
    async with serving(plane) as service:
        async with StreamClient(service.url, "pp_nonsense") as client:
            with pytest.raises(NotAuthenticated):
                await anext(client.follow("events"))
        reader, _ = await plane.tokens.issue(tenant.tenant_id, "x", role=Role.READER, acts_as="user:x", actor=ACTOR)
        async with StreamClient(service.url, reader) as client:
            with pytest.raises(PermissionDenied):
                await anext(client.follow("logs:desk"))
            with pytest.raises(InvalidInput):
                await anext(client.follow("nowhere"))
        text, token = await plane.tokens.issue(tenant.tenant_id, "x", role=Role.READER, acts_as="user:x", actor=ACTOR)
        async with StreamClient(service.url, text) as client:
            heard = client.follow("events", after="0-0-0")
            await anext(heard)
            await plane.tokens.revoke(tenant.tenant_id, token.id, actor=ACTOR)
            async with asyncio.timeout(30):
                with pytest.raises(NotAuthenticated):
                    while True:
                        await anext(heard)
    for unopened in (client, StreamClient("http://localhost", "x")):
        with pytest.raises(PersistenceError, match="not open"):
            await anext(unopened.follow("events"))
        with pytest.raises(PersistenceError, match="not open"):
            await unopened.publish("chat:x", 1)
    for url in ("", "ftp://x", "localhost:80"):
        with pytest.raises(InvalidInput):
            StreamClient(url, "x")


async def test_over_the_socket_of_this_machine(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    place = tmp_path / "streams" / "live_events.ws"
    async with serving(plane, unix=place) as service:
        assert place.stat().st_mode & 0o777 == 0o600
        assert place.parent.stat().st_mode & 0o077 == 0
        async with StreamClient("http://localhost", await service.token(tenant), unix=place) as client:
            assert await take(client.follow("events", after="0-0-0"), 1)
        async with (
            serving(plane, unix=place) as second,  # the first has it
            StreamClient(second.url, await second.token(tenant)) as client,
        ):
            assert await take(client.follow("events", after="0-0-0"), 1)
        assert place.exists()
    assert not place.exists()


async def test_a_consumer_acknowledges_each_while_many_wait(plane: Plane, tenant: Tenant) -> None:
    await write(plane, tenant, 1_500)
    async with (
        serving(plane) as service,
        StreamClient(service.url, await service.token(tenant, Role.OPERATOR)) as client,
        aclosing(client.follow("type:RUN_STARTED", after="0-0-0", consumer="each")) as heard,
        asyncio.timeout(100),
    ):
        count = 0
        async for one in heard:
            if one.what == "event":
                if count % 50 == 0:  # the others fill the queue meanwhile
                    await client.ack("each", one.position)
                count += 1
            if count == 1_500:
                break


async def test_what_was_heard_before_the_token_ended_is_told_first(plane: Plane, tenant: Tenant) -> None:
    await write(plane, tenant, 1)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        [(event, _), *_] = await tx.events.read_each(limit=10)
    told = [f"1-1-{number}" for number in range(1, 1_501)]

    async def say(socket: ServerConnection) -> None:
        await socket.send(json.dumps({"is": "welcome", "tenant": str(tenant.tenant_id), "acts_as": ACTOR}))
        await socket.recv()
        await socket.send(json.dumps({"is": "subscribed", "channel": "events", "position": "1-0-0"}))
        for position in told:
            text = {"is": "event", "channel": "events", "position": position, "event": event.model_dump(mode="json")}
            await socket.send(json.dumps(text))
        await socket.close(4401, "the token is over")

    async with serve(say, "127.0.0.1", 0, subprotocols=[Subprotocol(PROTOCOL)]) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        got = []
        async with StreamClient(f"http://127.0.0.1:{port}", "t") as client:
            with pytest.raises(NotAuthenticated):
                async for one in client.follow("events", after="1-0-0"):
                    if len(got) == 1:
                        await asyncio.sleep(0.2)  # busy while the queue fills
                    got.append(one.position)
        assert got == told


async def test_a_channel_has_one_name(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="x")
    async with serving(plane) as service, StreamClient(service.url, await service.token(tenant)) as client:
        async with aclosing(client.follow(f"run:{run.id.hex.upper()}", after="0-0-0")) as heard:
            [one] = await take(heard, 1)
        assert one.event
        assert one.event.aggregate_id == run.id
