"""Following the log over a WebSocket: nothing missed, nothing twice, nobody who may not."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import jsonschema
import psycopg
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from persistence import Plane
from persistence.errors import Conflict, InvalidInput, PersistenceError
from persistence.models import Channel, Position, Role, Tenant
from persistence.streams import Hub
from tests.helpers import ACTOR, request_effect, start_run
from tests.serving import Service, serving


@pytest.fixture
async def service(plane: Plane) -> AsyncIterator[Service]:
    async with serving(plane) as running:
        yield running


def address(service: Service) -> str:
    return service.url.replace("http", "ws") + "/v1/streams"


@asynccontextmanager
async def socket_of(service: Service, tenant: Tenant, role: Role = Role.READER) -> AsyncIterator[ClientConnection]:
    headers = {"Authorization": f"Bearer {await service.token(tenant, role)}"}
    async with connect(address(service), additional_headers=headers, max_queue=None) as socket:
        assert (await said(socket))["is"] == "welcome"
        yield socket


async def said(socket: ClientConnection) -> Any:
    """The next that is no beat."""
    async with asyncio.timeout(60):
        while True:
            message = json.loads(await socket.recv())
            if message["is"] != "beat":
                return message


async def do(socket: ClientConnection, **order: Any) -> Any:
    await socket.send(json.dumps(order))
    return await said(socket)


async def events_of(socket: ClientConnection, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        message = await said(socket)
        if message["is"] == "event":
            found.append(message)
    return found


async def log_of(plane: Plane, tenant: Tenant) -> list[tuple[str, str]]:
    """Position and id of all events."""
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        return [(str(position), str(event.id)) for event, position in await tx.events.read_each(limit=10_000)]


async def test_what_happens_is_told_as_it_comes(service: Service, plane: Plane, tenant: Tenant) -> None:
    async with socket_of(service, tenant) as socket:
        answer = await do(socket, do="subscribe", channel="events", id=7)
        assert (answer["is"], answer["channel"], answer["id"]) == ("subscribed", "events", 7)
        run = await start_run(plane, tenant.tenant_id)
        [told] = await events_of(socket, 1)
        assert (told["channel"], told["event"]["event_type"]) == ("events", "RUN_STARTED")
        assert (told["event"]["aggregate_id"], told["event"]["actor"]) == (str(run.id), run.actor)
        assert (await do(socket, do="unsubscribe", channel="events"))["is"] == "unsubscribed"
        await start_run(plane, tenant.tenant_id)
        assert (await do(socket, do="ping", id="x")) == {"is": "pong", "id": "x"}


async def test_channels_have_what_they_say(service: Service, plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:a") as tx:
        run = tx.runs.start(run_type="one")
        other = tx.runs.start(run_type="other")
    channels = [f"run:{run.id}", f"correlation:{run.correlation_id}", "type:STEP_COMPLETED", "agent:agent:b"]
    async with socket_of(service, tenant) as socket:
        for channel in channels:
            assert (await do(socket, do="subscribe", channel=channel))["is"] == "subscribed"
        async with plane.transaction(tenant.tenant_id, actor="agent:b") as tx:
            step = tx.steps.start(run, step_type="x")
        async with plane.transaction(tenant.tenant_id, actor="agent:c") as tx:
            tx.steps.complete(step)
            tx.steps.complete(tx.steps.start(other, step_type="y"))
            tx.memories.remember("tea", agent="agent:c", context="chat", origin=run)
        await request_effect(plane, tenant.tenant_id, "last")
        told: dict[str, list[str]] = {}
        for message in await events_of(socket, 10):
            told.setdefault(message["channel"], []).append(message["event"]["event_type"])
    assert told == {
        f"run:{run.id}": ["STEP_STARTED", "STEP_COMPLETED", "MEMORY_REMEMBERED"],
        f"correlation:{run.correlation_id}": ["STEP_STARTED", "STEP_COMPLETED", "MEMORY_REMEMBERED", "EFFECT_REQUESTED"],
        "type:STEP_COMPLETED": ["STEP_COMPLETED", "STEP_COMPLETED"],
        "agent:agent:b": ["STEP_STARTED"],
    }


async def test_who_comes_back_misses_nothing_and_hears_nothing_twice(service: Service, plane: Plane, tenant: Tenant) -> None:
    got: list[tuple[str, str]] = []
    position = "0-0-0"
    for turn in range(4):
        async with socket_of(service, tenant) as socket:
            assert (await do(socket, do="subscribe", channel="events", after=position))["is"] == "subscribed"
            await write(plane, tenant, 300)
            for message in await events_of(socket, 250 + turn):
                position = message["position"]
                got.append((position, message["event"]["id"]))
        await write(plane, tenant, 300)  # while it is away
    async with socket_of(service, tenant) as socket:
        await do(socket, do="subscribe", channel="events", after=position)
        log = await log_of(plane, tenant)
        got += [(m["position"], m["event"]["id"]) for m in await events_of(socket, len(log) - len(got))]
    assert got == log


async def write(plane: Plane, tenant: Tenant, count: int) -> None:
    for _ in range(0, count, 50):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            for _ in range(50):
                tx.runs.start(run_type="x")


async def test_followers_that_join_while_many_write_have_all_of_it(plane: Plane, tenant: Tenant) -> None:
    async def follow(hub: Hub, after: Position | None, count: int) -> list[str]:
        async with hub.following(tenant.tenant_id, Channel("events", ""), after, capacity=20) as follower:
            found: list[str] = []
            async for told in follower.told():
                if told.what == "event":
                    found.append(json.loads(told.text)["id"])
                    if len(found) % 100 == 0:
                        await asyncio.sleep(0.01)  # some are slow
                if len(found) == count:
                    return found
        raise AssertionError

    await write(plane, tenant, 500)
    async with Hub(plane) as hub:
        following = [asyncio.create_task(follow(hub, Position(), 3000 + 1)) for _ in range(5)]
        await asyncio.gather(*(write(plane, tenant, 500) for _ in range(5)))
        log = [event_id for _, event_id in await log_of(plane, tenant)]
        missing = 3000 + 1 - len(log)
        assert missing <= 1
        await write(plane, tenant, 50)
        every = [event_id for _, event_id in await log_of(plane, tenant)][:3001]
        async with asyncio.timeout(60):
            assert all(found == every for found in await asyncio.gather(*following))


async def test_who_is_too_slow_is_told_and_has_it_from_the_log(plane: Plane, tenant: Tenant) -> None:
    async with Hub(plane) as hub, hub.following(tenant.tenant_id, Channel("events", ""), capacity=10) as follower:
        telling = follower.told()
        first = asyncio.create_task(anext(telling))
        while follower.is_behind:
            await asyncio.sleep(0.01)
        await write(plane, tenant, 50)
        kinds, ids = [(await first).what], [json.loads((await first).text)["id"]]
        await write(plane, tenant, 500)
        while not follower.is_behind:
            await asyncio.sleep(0.01)
        async for told in telling:
            kinds.append(told.what)
            if told.what == "event":
                ids.append(json.loads(told.text)["id"])
            assert len(follower.waiting) <= 10
            if len(ids) == 550:
                break
    assert "lagging" in kinds
    assert ids == [event_id for _, event_id in await log_of(plane, tenant)][-550:]


async def test_a_token_is_needed_and_no_other_page_may_use_it(service: Service, tenant: Tenant) -> None:
    token = await service.token(tenant, Role.READER)
    for headers, protocols, status in (
        ({}, None, 401),
        ({"Authorization": "Bearer pp_nothing"}, None, 401),
        ({}, ["persistence.v1"], 401),
        ({"Origin": "https://elsewhere.example"}, ["persistence.v1", f"bearer.{token}"], 403),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(address(service), additional_headers=headers, subprotocols=protocols):  # type: ignore[arg-type]
                pass
        assert refused.value.response.status_code == status
        assert token not in str(refused.value.response.body)
    async with connect(address(service), subprotocols=["persistence.v1", f"bearer.{token}"], origin=service.url) as socket:  # type: ignore[list-item, arg-type]
        assert socket.subprotocol == "persistence.v1"
        assert (await said(socket))["is"] == "welcome"
    with pytest.raises(InvalidStatus):
        async with connect(f"{address(service)}?token={token}"):
            pass


async def test_a_token_that_is_over_ends_the_socket(service: Service, plane: Plane, tenant: Tenant) -> None:
    text, token = await plane.tokens.issue(tenant.tenant_id, "x", role=Role.READER, acts_as="user:ada", actor="user:boss")
    brief = await service.token(tenant, Role.READER, lasts=timedelta(seconds=3))
    async with (
        connect(address(service), additional_headers={"Authorization": f"Bearer {text}"}) as revoked,
        connect(address(service), additional_headers={"Authorization": f"Bearer {brief}"}) as expired,
    ):
        await do(revoked, do="subscribe", channel="events")
        await plane.tokens.revoke(tenant.tenant_id, token.id, actor="user:boss")
        for socket in (revoked, expired):
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await said(socket)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401


async def test_another_tenant_hears_nothing(service: Service, plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor=ACTOR)
    run = await start_run(plane, tenant.tenant_id)
    async with socket_of(service, other) as socket:
        for channel in ("events", f"run:{run.id}", f"correlation:{run.correlation_id}", f"agent:{run.actor}"):
            await do(socket, do="subscribe", channel=channel, after="0-0-0")
        theirs = await start_run(plane, other.tenant_id)
        await start_run(plane, tenant.tenant_id)
        told: list[dict[str, Any]] = []
        while str(theirs.id) not in {event["aggregate_id"] for event in told}:
            told += [message["event"] for message in await events_of(socket, 1)]
        assert {event["tenant_id"] for event in told} == {str(other.tenant_id)}


ODD = ["", "x", "[]", "1", '{"do": 5}', '{"do": "subscribe"}', '{"do": "subscribe", "channel": {}}', "[" * 3000, '{"do": "subscribe", "channel": "all"}',
       '{"do": "subscribe", "channel": "events:x"}', '{"do": "subscribe", "channel": "run:x"}', '{"do": "subscribe", "channel": "type:NOTHING"}',
       '{"do": "subscribe", "channel": "agent:"}', '{"do": "subscribe", "channel": "events", "after": "x"}',
       '{"do": "subscribe", "channel": "events", "after": 5}', '{"do": "subscribe", "channel": "events", "after": "0-99999999999999999999999-0"}',
       json.dumps({"do": "subscribe", "channel": "agent:" + "x" * 1000}), "y" * 5000]  # fmt: skip


async def test_what_is_not_understood_is_said_and_the_socket_lives(service: Service, tenant: Tenant) -> None:
    async with socket_of(service, tenant) as socket:
        for text in ODD:
            await socket.send(text)
            answer = await said(socket)
            assert answer["is"] == "error", text
            assert answer["detail"]
        assert (await do(socket, do="ping"))["is"] == "pong"
        for n in range(101):
            answer = await do(socket, do="subscribe", channel=f"agent:agent:{n}")
        assert (answer["is"], "at most 100" in answer["detail"]) == ("error", True)
    async with socket_of(service, tenant) as socket:
        await socket.send("z" * 100_000)
        with pytest.raises(ConnectionClosed):
            while True:
                await said(socket)


async def test_it_goes_on_when_the_database_comes_back(
    service: Service, plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    async with socket_of(service, tenant) as socket:
        await do(socket, do="subscribe", channel="events")
        for _ in range(3):
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'persistence_service'")
            run = await start_run(plane, tenant.tenant_id)
            [told] = await events_of(socket, 1)
            assert told["event"]["aggregate_id"] == str(run.id)


async def test_a_service_that_stops_says_goodbye(plane: Plane, tenant: Tenant) -> None:
    async with serving(plane) as service:
        headers = {"Authorization": f"Bearer {await service.token(tenant)}"}
        socket = await connect(address(service), additional_headers=headers)
        await said(socket)
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await said(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code in {1001, 1012}


async def test_after_a_restore_a_follower_is_told(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    await write(plane, tenant, 50)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        *_, (_, before) = await tx.events.read_each()
    admin.execute("SELECT persistence.open_epoch((SELECT max(epoch) FROM canon.log_epochs))")
    await write(plane, tenant, 50)
    async with Hub(plane) as hub, hub.following(tenant.tenant_id, Channel("events", ""), before) as follower:
        telling = follower.told()
        assert (await anext(telling)).what == "epoch"
        ids = [json.loads((await anext(telling)).text)["id"] for _ in range(50)]
    assert ids == [event_id for _, event_id in await log_of(plane, tenant)][-50:]


@pytest.mark.parametrize("text", ["", "nothing", "events:", "run:", "type:x", "agent:"])
def test_what_is_no_channel_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="channel"):
        Channel.parse(text)


async def test_who_opened_a_stream_is_on_record(service: Service, plane: Plane, tenant: Tenant) -> None:
    async with socket_of(service, tenant) as socket:
        for channel in ("events", "type:RUN_FAILED"):
            assert (await do(socket, do="subscribe", channel=channel))["is"] == "subscribed"
    async with service.client(tenant) as client, client.stream("GET", "/v1/events/stream"):
        pass
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        openings = [
            (one["actor"], one["channel"])
            for event in await tx.events.of_aggregate(tenant.tenant_id)
            if event.event_type == "TENANT_STREAMS_OPENED"
            for one in event.event_data["openings"]
        ]
    assert sorted(openings) == [("user:ada", "events"), ("user:ada", "events"), ("user:ada", "type:RUN_FAILED")]


async def test_a_consumer_goes_on_where_it_said_that_it_was(service: Service, plane: Plane, tenant: Tenant) -> None:
    async with socket_of(service, tenant, Role.OPERATOR) as socket:
        answer = await do(socket, do="subscribe", channel="type:RUN_STARTED", consumer="billing", after="0-0-0")
        assert (answer["consumer"], answer["position"]) == ("billing", "0-0-0")
        await write(plane, tenant, 100)
        first = await events_of(socket, 60)
        assert (await acked(socket, "billing", first[39]["position"]))["is"] == "acked"
        assert (await acked(socket, "billing", first[9]["position"]))["is"] == "acked"  # it does not go back
        ahead = await do(socket, do="ack", consumer="billing", position="9-9-9")
    async with socket_of(service, tenant, Role.OPERATOR) as socket:
        assert (await do(socket, do="subscribe", channel="type:RUN_STARTED", consumer="billing"))["position"] == first[39][
            "position"
        ]
        again = await events_of(socket, 60)
        assert [one["event"]["id"] for one in again[:20]] == [one["event"]["id"] for one in first[40:]]
    assert ahead["is"] != "acked"
    async with service.client(tenant) as client:
        [lag] = (await client.get("/v1/streams/consumers")).json()["items"]
        assert (lag["name"], lag["channel"]) == ("billing", "type:RUN_STARTED")
        assert lag["behind"] >= 60
        assert (await client.delete("/v1/streams/consumers/billing")).status_code == 204
        assert (await client.delete("/v1/streams/consumers/billing")).status_code == 404
        assert (await client.get("/v1/streams/consumers")).json()["items"] == []


async def acked(socket: ClientConnection, consumer: str, position: str) -> Any:
    await socket.send(json.dumps({"do": "ack", "consumer": consumer, "position": position, "id": "ack"}))
    while True:
        message = await said(socket)
        if message["is"] in {"acked", "taken_over", "error"}:
            return message


async def test_of_two_that_follow_as_one_consumer_the_later_goes_on(service: Service, plane: Plane, tenant: Tenant) -> None:
    async with socket_of(service, tenant, Role.OPERATOR) as old, socket_of(service, tenant, Role.OPERATOR) as new:
        await do(old, do="subscribe", channel="events", consumer="billing", after="0-0-0")
        [event] = await events_of(old, 1)
        await do(new, do="subscribe", channel="events", consumer="billing")
        taken_over = {"is": "taken_over", "channel": "events", "consumer": "billing"}
        while (message := await said(old))["is"] != "taken_over":
            pass
        assert message == taken_over  # at once, and again when it says how far it is
        assert await acked(old, "billing", event["position"]) == taken_over | {"id": "ack"}
        assert (await acked(new, "billing", event["position"]))["is"] == "acked"
        await new.send(json.dumps({"do": "renew", "token": await service.token(tenant, Role.READER)}))
        while (await said(new))["is"] != "renewed":
            pass
        assert (await acked(new, "billing", event["position"]))["is"] == "error"
    async with socket_of(service, tenant) as reader:
        assert (await do(reader, do="subscribe", channel="events", consumer="mine"))["status"] == 403
        wrong = await do(reader, do="subscribe", channel="events", consumer="a b")
        assert (wrong["status"], wrong["field"]) == (422, "consumer")
    async with socket_of(service, tenant, Role.OPERATOR) as socket:
        other = await do(socket, do="subscribe", channel="type:RUN_FAILED", consumer="billing")
        assert (other["status"], other["is"]) == (422, "error")
        live = await do(socket, do="subscribe", channel="chat:x", consumer="billing")
        assert (live["status"], live["field"]) == (422, "channel")


async def test_a_consumer_moves_with_the_transaction_that_dealt_with_the_event_or_not_at_all(plane: Plane, tenant: Tenant) -> None:
    await write(plane, tenant, 50)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        consumer = await tx.consumers.hold("copy", Channel("events"))
    with pytest.raises(RuntimeError):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            [*_, (_, position)] = await tx.events.read_each(consumer.position, 10)
            tx.runs.start(run_type="copied")
            await tx.consumers.ack(consumer, position)
            raise RuntimeError
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        [lag] = await tx.consumers.list()
        assert lag.consumer.position == Position()
        assert await tx.runs.count(run_type="copied") == 0
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        [*_, (_, position)] = await tx.events.read_each(consumer.position, 10)
        await tx.consumers.ack(consumer, position)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        [lag] = await tx.consumers.list()
        assert lag.consumer.position == position
        with pytest.raises(InvalidInput, match="has not come to"):
            await tx.consumers.hold("ahead", Channel("events"), start=Position(epoch=9, transaction_id=1, sequence_number=1))
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        with pytest.raises(InvalidInput, match="has not come to"):
            await tx.consumers.ack(consumer, Position(epoch=9, transaction_id=1, sequence_number=1))


async def test_a_socket_goes_on_with_another_token(service: Service, plane: Plane, tenant: Tenant) -> None:
    headers = {"Authorization": f"Bearer {await service.token(tenant, Role.OPERATOR, lasts=timedelta(seconds=6))}"}
    other = await plane.tenants.create("other", actor=ACTOR)
    async with connect(address(service), additional_headers=headers) as socket:
        await said(socket)
        await do(socket, do="subscribe", channel="logs:desk")
        foreign = await do(socket, do="renew", token=await service.token(other))
        assert (foreign["is"], foreign["status"]) == ("error", 403)
        assert (await do(socket, do="renew", token="pp_nonsense"))["status"] == 401
        assert (await do(socket, do="renew", token=await service.token(tenant, Role.READER)))["is"] == "unsubscribed"
        assert (await said(socket))["is"] == "renewed"
        await asyncio.sleep(7)  # the first token has ended by now
        assert (await do(socket, do="ping"))["is"] == "pong"


async def test_all_that_is_said_is_as_documented(service: Service, plane: Plane, tenant: Tenant) -> None:
    async with service.client(tenant) as client:
        document = (await client.get("/v1/streams/asyncapi.json")).json()
        assert "class Streams" in (await client.get("/v1/streams/client.js")).text
    assert document["asyncapi"] == "3.0.0"
    assert document["x-channels"]["chat"] == {"follow": "reader", "publish": "operator"}
    schemas = {
        schema["properties"]["is"]["const"]: {**schema, "components": document["components"]}
        for name, schema in document["components"]["schemas"].items()
        if "is" in schema.get("properties", {})
    }
    heard: set[str] = set()

    async def check(socket: ClientConnection, *until: str) -> None:
        async with asyncio.timeout(60):
            while not set(until) <= heard:
                message = await said(socket)
                jsonschema.validate(message, schemas[message["is"]])
                heard.add(message["is"])

    async with connect(address(service), additional_headers={"Authorization": f"Bearer {await service.token(tenant)}"}) as socket:
        await check(socket, "welcome")
        for order in [
            {"do": "subscribe", "channel": "events", "after": "0-0-0", "consumer": "x"},
            {"do": "subscribe", "channel": "metrics"},
            {"do": "subscribe", "channel": "chat:x", "after": f"{'0' * 31}1-7"},
            {"do": "publish", "channel": "chat:x", "content": {"a": [1]}, "id": "p"},
            {"do": "ping", "id": 3},
            {"do": "nothing"},
            {"do": "renew", "token": await service.token(tenant)},
            {"do": "unsubscribe", "channel": "metrics"},
        ]:
            await socket.send(json.dumps(order))
        await check(
            socket,
            "subscribed",
            "event",
            "caught_up",
            "metrics",
            "message",
            "published",
            "pong",
            "error",
            "renewed",
            "unsubscribed",
            "missed",
        )
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            [lag] = await tx.consumers.list()
            [(_, position)] = await tx.events.read_each(limit=1)
        await socket.send(json.dumps({"do": "ack", "consumer": "x", "position": str(position)}))
        await check(socket, "acked")
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            await tx.consumers.hold("x", Channel("events"))
        await socket.send(json.dumps({"do": "ack", "consumer": "x", "position": str(position)}))
        await check(socket, "taken_over")
    assert lag.consumer.name == "x"


async def test_what_is_no_place_of_this_log_and_no_channel_is_refused(service: Service, plane: Plane, tenant: Tenant) -> None:
    """A position of another database, say: nothing would ever come."""
    async with socket_of(service, tenant, Role.OPERATOR) as socket:
        for after in ("1-99999999-1", "9-1-1", "x", "1-2", "-1-1-1"):
            refused = await do(socket, do="subscribe", channel="events", after=after)
            assert (refused["is"], refused["field"]) == ("error", "after"), after
    async with Hub(plane) as hub:
        for channel in ("bogus:x", "type:RUN_COMPLETE", "run:abc", Channel("bogus", "x")):
            with pytest.raises(InvalidInput):
                async with hub.following(tenant.tenant_id, channel):
                    pass
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                with pytest.raises(InvalidInput):
                    await tx.consumers.hold("x", channel)
        async with hub.following(tenant.tenant_id, "events", "0-0-0") as follower:
            assert (await anext(follower.told())).what == "event"
    with pytest.raises(PersistenceError, match="not open"):
        async with hub.following(tenant.tenant_id, "events"):
            pass
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.events.read_each("0-0-0", 1)
        with pytest.raises(InvalidInput, match="no position"):
            await tx.events.read_each("zz")


async def test_who_was_taken_over_commits_nothing_of_what_he_did(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        mine = await tx.consumers.hold("billing", "events")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        await tx.consumers.hold("billing", "events")
    with pytest.raises(Conflict):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            [(_, position)] = await tx.events.read_each(mine.position, 1)
            tx.runs.start(run_type="billed")
            await tx.consumers.ack(mine, position)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.runs.count(run_type="billed") == 0
