"""What is told and not kept: everybody who follows has it, in order, and learns when he missed some of it."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest

from persistence import Plane
from persistence.errors import InvalidInput, TenantDenied
from persistence.models import Channel, LivePosition, Role, Tenant
from persistence.queries.subscription import sweep_live
from persistence.streams import Hub, Told
from tests.helpers import ACTOR
from tests.integration.test_streams import do, said, socket_of
from tests.serving import serving

ROOM = Channel("chat", "desk")


async def told_to(
    hub: Hub, tenant: Tenant, channel: Channel, count: int, after: LivePosition | None = None, **options: Any
) -> list[Told]:
    async with hub.following(tenant.tenant_id, channel, after, **options) as follower, asyncio.timeout(60):
        found: list[Told] = []
        async for told in follower.told():
            if told.what in {"message", "missed"}:
                found.append(told)
            if len(found) == count:
                return found
    raise AssertionError


def contents(told: list[Told]) -> list[Any]:
    return [json.loads(one.text)["content"] if one.what == "message" else one.what for one in told]


async def test_all_who_follow_are_told_in_order_whoever_publishes(plane: Plane, tenant: Tenant) -> None:
    other_tenant = await plane.tenants.create("other", actor=ACTOR)
    async with Hub(plane) as hub:
        began = await plane.publish(tenant.tenant_id, ROOM, "first", actor=ACTOR)
        following = [asyncio.create_task(told_to(hub, tenant, ROOM, 60, began)) for _ in range(3)]
        elsewhere = asyncio.create_task(told_to(hub, tenant, Channel("chat", "other"), 1, began))
        foreign = asyncio.create_task(told_to(hub, other_tenant, ROOM, 1, LivePosition()))

        async def publish(name: str) -> None:
            for number in range(20):
                await plane.publish(tenant.tenant_id, ROOM, {"of": name, "n": number}, actor=ACTOR)

        await asyncio.gather(*(publish(name) for name in "abc"))
        await plane.publish(tenant.tenant_id, "chat:other", "elsewhere", actor=ACTOR)
        await plane.publish(other_tenant.tenant_id, ROOM, "foreign", actor=ACTOR)
        every = [contents(told) for told in await asyncio.gather(*following)]
        assert every[0] == every[1] == every[2]
        for name in "abc":
            assert [one["n"] for one in every[0] if one["of"] == name] == list(range(20))
        assert contents(await elsewhere) == ["elsewhere"]
        assert contents(await foreign) == ["foreign"]


async def test_who_comes_back_in_time_has_what_came_meanwhile(plane: Plane, tenant: Tenant) -> None:
    position = await plane.publish(tenant.tenant_id, ROOM, "before", actor=ACTOR)
    await plane.publish(tenant.tenant_id, ROOM, *range(700), actor=ACTOR)
    async with Hub(plane) as hub:
        assert contents(await told_to(hub, tenant, ROOM, 700, position)) == list(range(700))
        assert contents(await told_to(hub, tenant, ROOM, 10, position, capacity=2)) == list(range(10))


async def test_who_was_away_too_long_is_told_that_he_missed_some(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    position = await plane.publish(tenant.tenant_id, ROOM, "old", actor=ACTOR)
    await plane.publish(tenant.tenant_id, ROOM, "gone", actor=ACTOR)
    with admin.transaction():
        admin.execute("UPDATE persistence.live_messages SET created_at = created_at - interval '11 minutes'")
    await sweep_live(plane)
    await plane.publish(tenant.tenant_id, ROOM, "new", actor=ACTOR)
    async with Hub(plane) as hub:
        assert contents(await told_to(hub, tenant, ROOM, 2, position)) == ["missed", "new"]
        assert contents(await told_to(hub, tenant, ROOM, 2, LivePosition(feed=uuid4(), number=3))) == ["missed", "new"]


async def test_a_crash_takes_what_was_told_and_followers_learn_of_it(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    async with Hub(plane) as hub, hub.following(tenant.tenant_id, ROOM) as follower:
        told = follower.told()
        reading = asyncio.create_task(anext(told))
        await plane.publish(tenant.tenant_id, ROOM, "one", "two", actor=ACTOR)
        assert contents([await reading, await anext(told)]) == ["one", "two"]
        with admin.transaction():  # as the server does with tables that are not logged
            admin.execute("TRUNCATE persistence.live_messages, persistence.live_feeds")
        await plane.publish(tenant.tenant_id, ROOM, "three", actor=ACTOR)
        async with asyncio.timeout(60):
            came = []
            while "three" not in came:
                came += contents([await anext(told)])
            assert [one for one in came if one != "caught_up"] == ["missed", "three"]


async def test_of_each_tenant_no_more_than_ten_thousand_stay(plane: Plane, tenant: Tenant) -> None:
    for _ in range(12):
        last = await plane.publish(tenant.tenant_id, ROOM, *range(1000), actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        told, (_, swept_to) = await tx.live.read(LivePosition(), 20_000), await tx.live.feed()
    assert last.number == 12_000
    assert (len(told), told[0].number, swept_to.number) == (10_000, 2_001, 2_000)


async def test_what_cannot_be_told_is_refused(plane: Plane, tenant: Tenant) -> None:
    for channel, content, field in [
        ("events", 1, "channel"),
        ("metrics", 1, "channel"),
        ("chat:", 1, "channel"),
        ("chat:a\nb", 1, "channel"),
        ("nowhere:x", 1, "channel"),
        ("chat:x", "x" * 16_400, "content"),
        ("chat:x", object(), "content"),
    ]:
        with pytest.raises(InvalidInput) as refused:
            await plane.publish(tenant.tenant_id, channel, content, actor=ACTOR)
        assert refused.value.field == field, channel
    with pytest.raises(InvalidInput):
        await plane.publish(tenant.tenant_id, "chat:x", actor=ACTOR)
    with pytest.raises(TenantDenied):
        await plane.publish(uuid4(), "chat:x", 1, actor=ACTOR)


async def test_over_the_socket_and_over_http(plane: Plane, tenant: Tenant) -> None:
    async with serving(plane) as service, socket_of(service, tenant, Role.OPERATOR) as socket:
        assert (await do(socket, do="subscribe", channel="tokens:7"))["is"] == "subscribed"
        await socket.send(json.dumps({"do": "publish", "channel": "tokens:7", "content": "Hel", "id": 1}))
        async with service.client(tenant) as client:
            answer = await client.post("/v1/streams/messages", json={"channel": "tokens:7", "contents": ["lo", "!"]})
            assert answer.status_code == 201, answer.text
            wrong = await client.post("/v1/streams/messages", json={"channel": "events", "contents": [1]})
            assert (wrong.status_code, wrong.json()["field"]) == (422, "channel")
        found: dict[str, list[Any]] = {"message": [], "published": []}
        while len(found["message"]) < 3 or not found["published"]:
            message = await said(socket)
            found[message["is"]].append(message)
        assert sorted(one["message"]["content"] for one in found["message"]) == ["!", "Hel", "lo"]
        assert {one["message"]["actor"] for one in found["message"]} == {"user:ada"}
        async with socket_of(service, tenant) as reader:
            refused = await do(reader, do="publish", channel="tokens:7", content=1, id=5)
            assert (refused["is"], refused["status"], refused["id"]) == ("error", 403, 5)
            assert (await do(reader, do="subscribe", channel="logs:desk"))["status"] == 403
        async with service.client(tenant, Role.READER) as client:
            assert (await client.post("/v1/streams/messages", json={"channel": "chat:x", "contents": [1]})).status_code == 403


async def test_metrics_come_every_two_seconds(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.runs.start(run_type="x")
        await tx.consumers.hold("billing", Channel("events"))
    async with serving(plane) as service, socket_of(service, tenant) as socket:
        assert (await do(socket, do="subscribe", channel="metrics"))["is"] == "subscribed"
        first, second = [(await said(socket))["metrics"] for _ in range(2)]
        assert first["runs"]["RUNNING"] == 1
        assert first["consumers"][0]["name"] == "billing"
        assert first["consumers"][0]["behind"] >= 2
        assert first["at"] < second["at"]


async def test_server_sent_events_have_the_same_channels(plane: Plane, tenant: Tenant) -> None:
    position = await plane.publish(tenant.tenant_id, ROOM, "hello", actor=ACTOR)
    before = LivePosition(feed=position.feed, number=0)
    async with serving(plane) as service, service.client(tenant) as client, asyncio.timeout(60):
        async with client.stream("GET", "/v1/events/stream", params={"channel": "chat:desk", "after": str(before)}) as answer:
            lines: list[str] = []
            async for line in answer.aiter_lines():
                lines.append(line)
                if line.startswith("data: {"):
                    break
        assert f"id: {position}" in lines
        assert "event: message" in lines
        assert json.loads(lines[-1][6:])["content"] == "hello"
        ahead = await client.get("/v1/events/stream", headers={"Last-Event-ID": "99-1-1"})
        assert (ahead.status_code, ahead.json()["field"]) == (422, "after")
        for content in (float("nan"), "\x00"):
            with pytest.raises(InvalidInput) as refused:
                await plane.publish(tenant.tenant_id, "chat:x", {"v": content}, actor=ACTOR)
            assert str(refused.value.field).startswith("content")
        wrong = await client.get("/v1/events/stream", params={"channel": "logs:x", "after": "0-0-0"})
        assert wrong.status_code in {200, 422}
        none: httpx2.Response = await client.get("/v1/events/stream", params={"channel": "chat:"})
        assert (none.status_code, none.json()["field"]) == (422, "channel")


async def test_what_was_told_past_the_library_stops_nobody(plane: Plane, tenant: Tenant) -> None:
    """A login may call the function itself: with channels that are none, and numbers that no process holds."""
    async with Hub(plane) as hub, hub.following(tenant.tenant_id, ROOM) as follower:
        await plane.pool.execute(
            "SELECT * FROM persistence.publish_live($1, $2, ARRAY['nowhere', 'chat:desk', ''], ARRAY['1', '1e1000', 'null']::jsonb[], 'user:x')",
            tenant.tenant_id,
            plane.settings.user_id,
        )
        await plane.publish(tenant.tenant_id, ROOM, "then", actor=ACTOR)
        told = follower.told()
        async with asyncio.timeout(60):
            first, second = contents([await anext(told), await anext(told)])
    assert second == "then"
    assert first == {"text": "1" + "0" * 1000} or isinstance(first, int)
