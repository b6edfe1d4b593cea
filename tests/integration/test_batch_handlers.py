"""Handlers that are given many deliveries at once: each is settled on its own, and none ends for what another one did."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest

from persistence import Plane
from persistence.encoding import encode
from persistence.errors import ConfigurationError
from persistence.models import Tenant
from persistence.outbox import Backoff, Delivery, PermanentFailure, RetryLater, Snooze, Worker
from persistence.outbox.desk import Desk
from persistence.outbox.queue import OutboxQueue
from persistence.outbox.registry import Handler
from tests.helpers import get_effect, let_time_pass, request_effect

SOON = Backoff(base=0.001, cap=0.002)


async def requested(plane: Plane, tenant: Tenant, *names: str) -> dict[str, Any]:
    return {name: await request_effect(plane, tenant.tenant_id, name, text=name) for name in names}


async def statuses(plane: Plane, tenant: Tenant, effects: dict[str, Any]) -> dict[str, str]:
    return {name: (await get_effect(plane, tenant.tenant_id, effect.id)).status for name, effect in effects.items()}


async def test_each_delivery_has_its_own_end(plane: Plane, tenant: Tenant) -> None:
    effects = await requested(plane, tenant, "good", "bad", "late", "odd")
    worker = Worker()
    sizes: list[int] = []

    @worker.handler("TEST", batch=10, max_attempts=2)
    async def deliver(deliveries: Sequence[Delivery]) -> list[Any]:
        sizes.append(len(deliveries))
        outcome = {"good": {"n": 1}, "bad": PermanentFailure("no"), "late": RetryLater("later", after=3600), "odd": {1, 2}}
        return [outcome[delivery.payload["text"]] for delivery in deliveries]

    assert await worker.drain(plane) == 4
    assert sizes == [4]
    assert await statuses(plane, tenant, effects) == {
        "good": "EXECUTED",
        "bad": "DEAD_LETTER",
        "late": "PENDING",
        "odd": "EXECUTED",
    }
    assert (await get_effect(plane, tenant.tenant_id, effects["good"].id)).execution_result == {"n": 1}


async def test_nothing_said_is_that_all_went_well(plane: Plane, tenant: Tenant) -> None:
    effects = await requested(plane, tenant, "a", "b")
    worker = Worker()

    @worker.handler("TEST", batch=2)
    def deliver(deliveries: Sequence[Delivery]) -> None:
        assert len(deliveries) == 2

    assert await worker.drain(plane) == 2
    assert set((await statuses(plane, tenant, effects)).values()) == {"EXECUTED"}


async def test_calls_are_no_larger_than_asked_for(plane: Plane, tenant: Tenant) -> None:
    await requested(plane, tenant, *(f"k{n}" for n in range(25)))
    worker = Worker()
    sizes: list[int] = []

    @worker.handler("TEST", batch=10, concurrency=2)
    async def deliver(deliveries: Sequence[Delivery]) -> None:
        sizes.append(len(deliveries))

    assert await worker.drain(plane) == 25
    assert max(sizes) <= 10
    assert sum(sizes) == 25


async def test_a_failure_of_all_ends_nobody_who_could_succeed(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    """One poisons every call that it is part of. On their last attempts each is alone."""
    effects = await requested(plane, tenant, "good", "poison", "fine")
    worker = Worker()

    @worker.handler("TEST", batch=10, max_attempts=3, backoff=SOON)
    async def deliver(deliveries: Sequence[Delivery]) -> None:
        if any(delivery.payload["text"] == "poison" for delivery in deliveries):
            raise PermanentFailure("one of these is bad")

    for _ in range(3):
        await worker.drain(plane)
        let_time_pass(admin)
    assert await statuses(plane, tenant, effects) == {"good": "EXECUTED", "poison": "DEAD_LETTER", "fine": "EXECUTED"}


@pytest.mark.parametrize("said", [["one"], "text", {"a": 1}], ids=["too few", "a text", "a mapping"])
async def test_what_is_not_of_each_is_a_failure_that_says_so(plane: Plane, tenant: Tenant, said: object) -> None:
    effects = await requested(plane, tenant, "a", "b")
    worker = Worker()

    @worker.handler("TEST", batch=2)
    async def deliver(_: Sequence[Delivery]) -> Any:
        return said

    await worker.drain(plane)
    assert "the handler was given" in (await get_effect(plane, tenant.tenant_id, effects["a"].id)).error_details["message"]


async def test_a_patient_handler_gets_what_comes_meanwhile(plane: Plane, tenant: Tenant) -> None:
    worker = Worker(poll_interval=0.05)
    sizes: list[int] = []
    done, stop = asyncio.Event(), asyncio.Event()

    @worker.handler("TEST", batch=5, within=60)
    async def deliver(deliveries: Sequence[Delivery]) -> None:
        sizes.append(len(deliveries))
        done.set()

    running = asyncio.create_task(worker.run(plane, stop))
    for name in ("a", "b", "c", "d", "e"):
        await requested(plane, tenant, name)
    await asyncio.wait_for(done.wait(), 30)
    stop.set()
    await running
    assert sizes == [5]


async def test_a_worker_that_stops_hands_back_what_waits_for_its_batch(plane: Plane, tenant: Tenant) -> None:
    effects = await requested(plane, tenant, "a")
    worker = Worker(poll_interval=0.05)
    stop = asyncio.Event()

    @worker.handler("TEST", batch=5, within=60)
    async def deliver(_: Sequence[Delivery]) -> None:
        raise AssertionError("nothing was to be begun")

    running = asyncio.create_task(worker.run(plane, stop))
    async with asyncio.timeout(30):
        while await OutboxQueue(plane.pool, plane.settings, "w").claim({"TEST": 1}, 0.001) and not running.done():
            await asyncio.sleep(0.05)  # until the worker holds it, nobody else does
    stop.set()
    await asyncio.wait_for(running, 30)
    assert (await statuses(plane, tenant, effects))["a"] == "PENDING"
    async with plane.transaction(tenant.tenant_id, actor="agent:test") as tx:
        types = [event.event_type for event in await tx.events.of_aggregate(effects["a"].id)]
    assert "EFFECT_EXECUTED" not in types


async def test_one_lost_lease_stops_the_call_for_nobody_else(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    effects = await requested(plane, tenant, "a", "b")
    worker = Worker(lease=0.6, poll_interval=0.05)
    begun, go_on, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @worker.handler("TEST", batch=5, timeout=60)
    async def deliver(deliveries: Sequence[Delivery]) -> list[str]:
        begun.set()
        await go_on.wait()
        return ["done" for _ in deliveries]

    running = asyncio.create_task(worker.run(plane, stop))
    await asyncio.wait_for(begun.wait(), 30)
    admin.execute(
        "UPDATE outbox_queue SET lease_token = gen_random_uuid(), leased_until = now() + '1 hour' WHERE id = %s", (effects["a"].id,)
    )
    async with asyncio.timeout(30):
        while (
            len(
                admin.execute(
                    "SELECT 1 FROM outbox_queue WHERE leased_until > now() + '0.3 s' AND id = %s", (effects["b"].id,)
                ).fetchall()
            )
            == 0
        ):
            await asyncio.sleep(0.02)
    go_on.set()
    async with asyncio.timeout(30):
        while (await statuses(plane, tenant, effects))["b"] != "EXECUTED":
            await asyncio.sleep(0.02)
    stop.set()
    await running
    assert await statuses(plane, tenant, effects) == {"a": "PENDING", "b": "EXECUTED"}


@pytest.mark.parametrize("batch", [None, 5])
async def test_a_receiver_that_takes_nothing_now_is_no_failure(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection, batch: int | None
) -> None:
    effects = await requested(plane, tenant, "a")
    worker = Worker()
    attempts: list[int] = []

    async def deliver(given: Any) -> Any:
        delivery = given[0] if batch else given
        attempts.append(delivery.attempt)
        if len(attempts) < 4:
            raise Snooze(3600)
        return ["done"] if batch else "done"

    worker.handler("TEST", max_attempts=2, batch=batch)(deliver)  # type: ignore[call-overload]
    for _ in range(4):
        await worker.drain(plane)
        [(wait,)] = admin.execute("SELECT coalesce(max(extract(epoch FROM due_at - now())), 0)::float FROM outbox_queue").fetchall()
        assert wait == 0 or 3000 < wait < 3700
        let_time_pass(admin)
    assert attempts == [1, 1, 1, 1]
    effect = await get_effect(plane, tenant.tenant_id, effects["a"].id)
    assert (effect.status, effect.version) == ("EXECUTED", 2)  # nothing else is on the record


def test_a_wait_needs_a_batch() -> None:
    worker = Worker()
    with pytest.raises(ConfigurationError, match="within is of a batch"):
        worker.handler("TEST", within=1.0)(lambda _: None)  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="batch is 0"):
        worker.handler("TEST", batch=0)(lambda _: None)


async def test_what_only_would_have_to_happen_is_a_failure(plane: Plane, tenant: Tenant) -> None:
    effects = await requested(plane, tenant, "coroutine", "generator", "class", "good")
    worker = Worker()

    async def send() -> str:
        return "sent"

    def sending() -> Iterator[str]:
        yield "sent"

    @worker.handler("TEST", batch=10, max_attempts=1)
    async def deliver(deliveries: Sequence[Delivery]) -> list[Any]:
        said = {"coroutine": send, "generator": sending, "class": lambda: ValueError, "good": lambda: "done"}
        return [said[delivery.payload["text"]]() for delivery in deliveries]

    await worker.drain(plane)
    ended = await statuses(plane, tenant, effects)
    assert ended == {"coroutine": "DEAD_LETTER", "generator": "DEAD_LETTER", "class": "DEAD_LETTER", "good": "EXECUTED"}


async def test_a_handler_may_do_with_its_list_what_it_likes(plane: Plane, tenant: Tenant) -> None:
    effects = await requested(plane, tenant, "a", "b", "c")
    worker = Worker()

    @worker.handler("TEST", batch=3)
    async def deliver(deliveries: list[Delivery]) -> None:
        while deliveries:
            deliveries.pop()

    async with asyncio.timeout(30):
        assert await worker.drain(plane) == 3
    assert set((await statuses(plane, tenant, effects)).values()) == {"EXECUTED"}


async def test_what_the_database_does_not_take_is_delivered_once(
    plane: Plane, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short it is."""
    effects = await requested(plane, tenant, "a")
    worker = Worker()
    calls: list[int] = []
    monkeypatch.setattr("persistence.outbox.attempt.encode", lambda value: "{broken" if value == {"odd": 1} else encode(value))

    @worker.handler("TEST")
    async def deliver(delivery: Delivery) -> dict[str, int]:
        calls.append(delivery.attempt)
        return {"odd": 1}

    await worker.drain(plane)
    assert calls == [1]
    assert await statuses(plane, tenant, effects) == {"a": "EXECUTED"}


async def test_what_is_taken_off_the_desk_is_waited_for_no_longer(plane: Plane, tenant: Tenant) -> None:
    """A last attempt that goes alone waits for what is under way: not for a batch that will never be full."""
    await requested(plane, tenant, "a")
    [delivery] = await OutboxQueue(plane.pool, plane.settings, "w").claim({"TEST": 1}, 60)
    desk = Desk(Handler("TEST", lambda _: None, batch=5, within=3600))
    desk.add(delivery)
    filling = asyncio.create_task(desk.fill(asyncio.Event()))
    async with asyncio.timeout(30):
        while not desk.filling:
            await asyncio.sleep(0)
        desk.clear()
        await filling
    assert desk.next() == []
