"""Entries of one ordering key: one at a time, in the order in which they were committed."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest

from persistence import Plane
from persistence.errors import DeliveryUnderway
from persistence.models import Effect, Tenant
from persistence.outbox import Backoff, Delivery, PermanentFailure, Worker
from persistence.outbox.queue import OutboxQueue, Settlement
from tests.helpers import ACTOR, get_effect, let_time_pass


async def request(plane: Plane, tenant_id: UUID, names: Sequence[str], key: str | None = "k", **options: Any) -> list[Effect]:
    async with plane.transaction(tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        return [tx.effects.request(run, "TEST", spec={}, idempotency_key=name, ordering_key=key, **options) for name in names]


class Recorder:
    """A handler that notes what came, and how many of one ordering key were with it at the same time."""

    def __init__(self, failing: dict[str, BaseException] | None = None) -> None:
        self.failing = failing or {}
        self.seen: list[str] = []
        self.together = 0
        self._busy: dict[str | None, int] = {}

    async def __call__(self, delivery: Delivery) -> None:
        key = delivery.ordering_key
        self._busy[key] = self._busy.get(key, 0) + 1
        self.together = max(self.together, self._busy[key])
        self.seen.append(delivery.idempotency_key)
        await asyncio.sleep(0)
        self._busy[key] -= 1
        if delivery.idempotency_key in self.failing:
            raise self.failing[delivery.idempotency_key]


def worker_of(handler: Recorder, **settings: Any) -> Worker:
    worker = Worker(name="tester", listen=False)
    worker.handler("TEST", **{"backoff": Backoff(base=1000, cap=1000), **settings})(handler)
    return worker


async def test_one_at_a_time_in_order(plane: Plane, tenant: Tenant) -> None:
    names = [f"a{number}" for number in range(20)]
    await request(plane, tenant.tenant_id, names[:10])
    await request(plane, tenant.tenant_id, names[10:])
    recorder = Recorder()
    await asyncio.gather(*(worker_of(recorder).drain(plane) for _ in range(3)))
    await worker_of(recorder).drain(plane)
    assert recorder.seen == names
    assert recorder.together == 1


async def test_other_keys_go_on(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    await request(plane, tenant.tenant_id, ["a1", "a2"], key="a")
    await request(plane, tenant.tenant_id, ["b1", "b2"], key="b")
    await request(plane, tenant.tenant_id, ["free"], key=None)
    recorder = Recorder({"a1": ConnectionError("busy")})
    await worker_of(recorder).drain(plane)
    assert sorted(recorder.seen) == ["a1", "b1", "b2", "free"]
    recorder.failing.clear()
    let_time_pass(admin)
    await worker_of(recorder).drain(plane)
    assert recorder.seen[-2:] == ["a1", "a2"]


async def test_a_key_is_its_tenants_own(plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    await request(plane, tenant.tenant_id, ["x"])
    await request(plane, other.tenant_id, ["x"])
    queue = OutboxQueue(plane.pool, plane.settings, "w")
    assert len(await queue.claim({"TEST": 10}, 60)) == 2


async def test_a_dead_letter_blocks_its_key_until_it_is_requeued(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    [first, _] = await request(plane, tenant.tenant_id, ["a1", "a2"])
    recorder = Recorder({"a1": PermanentFailure("no")})
    await worker_of(recorder).drain(plane)
    assert recorder.seen == ["a1"]
    assert (await get_effect(plane, tenant.tenant_id, first.id)).status == "DEAD_LETTER"
    await request(plane, tenant.tenant_id, ["a3"])
    let_time_pass(admin)
    await worker_of(recorder).drain(plane)
    assert recorder.seen == ["a1"]
    recorder.failing.clear()
    assert await plane.dead_letters(tenant.tenant_id, actor="user:op").requeue([first.id]) == {first.id}
    await worker_of(recorder).drain(plane)
    assert recorder.seen == ["a1", "a1", "a2", "a3"]


async def test_a_dead_letter_requeued_by_sql_takes_its_place_again(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection, dsn: str
) -> None:
    [first, _] = await request(plane, tenant.tenant_id, ["a1", "a2"])
    recorder = Recorder({"a1": PermanentFailure("no")})
    await worker_of(recorder).drain(plane)
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT persistence.enter_tenant(%s, %s)", (tenant.tenant_id, plane.settings.user_id))
        connection.execute(
            "UPDATE persistence.outbox_events SET status = 'PENDING', retry_count = 0, next_retry_at = NULL WHERE id = %s",
            (first.id,),
        )
    recorder.failing.clear()
    await worker_of(recorder).drain(plane)
    assert recorder.seen == ["a1", "a1", "a2"]


async def test_a_discarded_dead_letter_lets_the_others_go(plane: Plane, tenant: Tenant) -> None:
    [first, _] = await request(plane, tenant.tenant_id, ["a1", "a2"])
    recorder = Recorder({"a1": PermanentFailure("no")})
    await worker_of(recorder).drain(plane)
    await plane.dead_letters(tenant.tenant_id, actor="user:op").discard([first.id], "not wanted")
    await worker_of(recorder).drain(plane)
    assert recorder.seen == ["a1", "a2"]


async def test_a_dead_letter_may_be_let_past(plane: Plane, tenant: Tenant) -> None:
    [first, _] = await request(plane, tenant.tenant_id, ["a1", "a2"])
    recorder = Recorder({"a1": PermanentFailure("no")})
    await worker_of(recorder, blocks_key=False).drain(plane)
    assert recorder.seen == ["a1", "a2"]
    recorder.failing.clear()
    await plane.dead_letters(tenant.tenant_id, actor="user:op").requeue([first.id])
    await worker_of(recorder, blocks_key=False).drain(plane)
    assert recorder.seen == ["a1", "a2", "a1"]


async def test_a_cancelled_entry_lets_the_next_go(plane: Plane, tenant: Tenant) -> None:
    [first, _] = await request(plane, tenant.tenant_id, ["a1", "a2"])
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.effects.cancel(first)
    recorder = Recorder()
    await worker_of(recorder).drain(plane)
    assert recorder.seen == ["a2"]


async def test_what_is_being_delivered_cannot_be_cancelled(plane: Plane, tenant: Tenant) -> None:
    [first, second] = await request(plane, tenant.tenant_id, ["a1", "a2"])
    await OutboxQueue(plane.pool, plane.settings, "w").claim({"TEST": 5}, 60)
    with pytest.raises(DeliveryUnderway):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.effects.cancel(first)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.effects.cancel(second)


async def test_an_entry_recorded_while_the_one_before_it_is_settled_gets_its_turn(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    """The settlement cannot see it yet, and it could not see the settlement."""
    await request(plane, tenant.tenant_id, ["a1"])
    queue = OutboxQueue(plane.pool, plane.settings, "w")
    [delivery] = await queue.claim({"TEST": 5}, 60)
    async with plane.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        async with plane.bind(connection, tenant.tenant_id, actor=ACTOR) as tx:
            run = tx.runs.start(run_type="test")
            tx.effects.request(run, "TEST", spec={}, idempotency_key="a2", ordering_key="k")
        await queue.settle([Settlement(delivery, "EXECUTED", "null")])
        following = asyncio.create_task(queue.advance_keys({(tenant.tenant_id, "k")}))
        await transaction.commit()
    await following
    assert [item.idempotency_key for item in await queue.claim({"TEST": 5}, 60)] == ["a2"]


async def test_what_was_claimed_while_its_cancellation_waited_is_not_cancelled(plane: Plane, tenant: Tenant) -> None:
    [first, second] = await request(plane, tenant.tenant_id, ["a1", "a2"])
    queue = OutboxQueue(plane.pool, plane.settings, "w")

    async def cancel() -> None:
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.effects.cancel(first)

    async with plane.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        async with plane.bind(connection, tenant.tenant_id, actor=ACTOR) as tx:
            run = tx.runs.start(run_type="test")
            tx.effects.request(run, "TEST", spec={}, idempotency_key="a3", ordering_key="k")
        cancelling = asyncio.create_task(cancel())
        await asyncio.wait({cancelling}, timeout=0.2)
        assert [delivery.effect_id for delivery in await queue.claim({"TEST": 5}, 60)] == [first.id]
        await transaction.commit()
    with pytest.raises(DeliveryUnderway):
        await cancelling
    assert (await get_effect(plane, tenant.tenant_id, second.id)).status == "PENDING"


async def test_a_settlement_waits_for_nobody(plane: Plane, tenant: Tenant) -> None:
    """Somebody has the next entry of the key in an open transaction: its turn comes when that ends."""
    [_, second] = await request(plane, tenant.tenant_id, ["a1", "a2"])
    queue = OutboxQueue(plane.pool, plane.settings, "w")
    [delivery] = await queue.claim({"TEST": 5}, 60)
    async with plane.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        async with plane.bind(connection, tenant.tenant_id, actor=ACTOR) as tx:
            tx.effects.cancel(second)
        async with asyncio.timeout(5):
            assert await queue.settle([Settlement(delivery, "EXECUTED", "null")]) == {delivery.effect_id}
            await queue.advance_keys({(tenant.tenant_id, "k")})
        await transaction.rollback()
    assert await queue.sweep(["TEST"])
    assert [item.idempotency_key for item in await queue.claim({"TEST": 5}, 60)] == ["a2"]


async def test_a_sweep_finds_a_key_whose_turn_was_lost(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    """As above, but the worker died before it looked again."""
    await request(plane, tenant.tenant_id, ["a1"])
    admin.execute("UPDATE persistence.outbox_queue SET held_by = 'KEY', due_at = 'infinity'")
    recorder = Recorder()
    await worker_of(recorder).drain(plane)
    assert recorder.seen == ["a1"]


async def test_a_writer_of_a_key_waits_for_the_one_before_it(plane: Plane, tenant: Tenant) -> None:
    """So the places in the line are those of the commits."""
    async with plane.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        async with plane.bind(connection, tenant.tenant_id, actor=ACTOR) as tx:
            run = tx.runs.start(run_type="test")
            tx.effects.request(run, "TEST", spec={}, idempotency_key="first", ordering_key="k")
        second = asyncio.create_task(request(plane, tenant.tenant_id, ["second"]))
        await asyncio.wait({second}, timeout=0.2)
        assert not second.done()
        await transaction.commit()
    await second
    recorder = Recorder()
    await worker_of(recorder).drain(plane)
    assert recorder.seen == ["first", "second"]


async def test_lower_priority_numbers_go_first(plane: Plane, tenant: Tenant) -> None:
    for name, priority in (("later", 5), ("normal", 0), ("urgent", -5)):
        await request(plane, tenant.tenant_id, [name], key=None, priority=priority)
    queue = OutboxQueue(plane.pool, plane.settings, "w")
    claimed = [(await queue.claim({"TEST": 1}, 60))[0].idempotency_key for _ in range(3)]
    assert claimed == ["urgent", "normal", "later"]


async def test_a_plain_function_keeps_its_turn_until_it_ends(plane: Plane, tenant: Tenant) -> None:
    """It cannot be stopped, so its timeout does not let the next one begin; what comes of it in the end is what is recorded."""
    first, second = await request(plane, tenant.tenant_id, ["1", "2"])
    said: list[str] = []
    slow = threading.Event()

    def work(delivery: Delivery) -> str:
        said.append(f"begin {delivery.idempotency_key}")
        slow.wait(0.3)
        said.append(f"end {delivery.idempotency_key}")
        return "done"

    worker = Worker(name="tester", listen=False)
    worker.handler("TEST", timeout=0.05, max_attempts=1, blocks_key=False)(work)
    assert await worker.drain(plane) == 2
    assert said == ["begin 1", "end 1", "begin 2", "end 2"]
    for effect in (first, second):
        assert (await get_effect(plane, tenant.tenant_id, effect.id)).status == "EXECUTED"
