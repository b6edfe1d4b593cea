"""Many writers at once: one wins, nothing is lost, readers miss nothing."""

import asyncio
import random

import asyncpg
import pytest

from persistence import Plane
from persistence.database.retry import retried
from persistence.errors import Conflict, SignalKnown, Unavailable
from persistence.models import Position, Signal, Tenant
from tests.helpers import ACTOR, TENANT_EVENTS, start_run


async def test_of_writers_on_one_aggregate_one_wins(plane: Plane, tenant: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)

    async def write(number: int) -> str:
        try:
            async with plane.transaction(tenant.tenant_id, actor=f"agent:{number}") as tx:
                tx.runs.suspend(run, f"by {number}")
        except Conflict:
            return "conflict"
        return f"by {number}"

    outcomes = await asyncio.gather(*(write(number) for number in range(10)))
    [winner] = [outcome for outcome in outcomes if outcome != "conflict"]
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        stored = await tx.runs.get(run.id)
        assert (stored.version, stored.wait_reason) == (2, winner)
        assert len(await tx.events.of_aggregate(run.id)) == 2


async def test_a_signal_received_by_many_at_once_is_one(plane: Plane, tenant: Tenant) -> None:
    async def receive(_: int) -> Signal:
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            return await tx.signals.receive("web", "1", "order", {"n": 1})

    received = await asyncio.gather(*(receive(number) for number in range(12)))
    assert len({signal.id for signal in received}) == 1
    assert sum(bool(signal.is_new) for signal in received) == 1


async def test_an_effect_asked_for_by_many_at_once_is_one(plane: Plane, tenant: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)

    async def ask(_: int) -> None:
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.effects.request(run, "TEST", spec={"n": 1}, idempotency_key="one")

    await asyncio.gather(*(ask(number) for number in range(12)))
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.effects.count() == 1
        assert await tx.events.count(event_type="EFFECT_REQUESTED") == 1


async def test_readers_of_the_log_miss_nothing_while_8_writers_commit_out_of_order(plane: Plane, tenant: Tenant) -> None:
    chance = random.Random(11)
    writers_done = asyncio.Event()

    async def write() -> None:
        for _ in range(25):
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                for _ in range(chance.randint(1, 3)):
                    tx.runs.start(run_type="test")
                await tx.flush()  # takes its sequence numbers now, and commits after others that take theirs later
                for _ in range(chance.randint(0, 20)):
                    await asyncio.sleep(0)

    async def read() -> list[int]:
        seen: list[int] = []
        position = Position()
        while True:
            finished = writers_done.is_set()
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                events, position = await tx.events.read(position, limit=7)
            assert Position.parse(str(position)) == position
            seen += [event.sequence_number for event in events]
            if finished and not events:
                return seen
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read()) for _ in range(2)]
    await asyncio.gather(*(write() for _ in range(8)))
    writers_done.set()
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        total = await tx.events.count()
    for seen in await asyncio.gather(*readers):
        assert len(seen) == len(set(seen)) == total


async def test_an_open_transaction_holds_readers_back_and_not_for_ever(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as slow:
        slow.runs.start(run_type="slow")
        await slow.flush()
        await start_run(plane, tenant.tenant_id)
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            assert len((await tx.events.read())[0]) == TENANT_EVENTS
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert len((await tx.events.read())[0]) == TENANT_EVENTS + 2


async def test_a_restored_log_goes_on_in_a_new_epoch(plane: Plane, tenant: Tenant, admin) -> None:  # type: ignore[no-untyped-def]
    await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        _, position = await tx.events.read()
    # As after a dump and a restore into another cluster: its identifier is another, and its transaction ids are small again.
    admin.execute("UPDATE canon.log_epochs SET system_identifier = 1")
    await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        [event], moved = await tx.events.read(position)
        assert event.sequence_number == position.sequence_number + 1
        assert (await tx.events.read(moved))[0] == []
    await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        [event], last = await tx.events.read(moved)
        assert last.epoch == position.epoch + 1
        assert len((await tx.events.read())[0]) == TENANT_EVENTS + 3


async def test_deadlocks_and_serialization_failures_are_tried_again(plane: Plane) -> None:
    tries = []

    async def work() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise asyncpg.SerializationError("first")
        if len(tries) == 2:
            raise asyncpg.DeadlockDetectedError("second")
        if len(tries) == 3:
            raise ConnectionResetError("third")
        return "done"

    assert await retried(work, plane.settings) == "done"


async def test_retries_end(plane: Plane) -> None:
    async def work() -> None:
        raise asyncpg.SerializationError("always")

    with pytest.raises(Unavailable, match="kept failing"):
        await retried(work, plane.settings.model_copy(update={"retry_for": 0.01}))


async def test_a_refusal_is_not_tried_again(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        signal = await tx.signals.receive("web", "1", "order")
    with pytest.raises(SignalKnown):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.signals._begin("SIGNAL_RECEIVED", {"source_channel": "web", "source_id": "1", "signal_type": "order"}, {})
    assert signal.is_new
