"""Claims look where there are marks: what is quiet has none, what comes due has one again, and nobody waits for another's."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from persistence import Plane
from persistence.models import Tenant
from persistence.outbox import Delivery
from persistence.outbox.queue import OutboxQueue, Settlement
from tests.helpers import ACTOR, request_effect, worker_with

_MARKS = "SELECT count(*) FROM persistence.outbox_marks"

# A minute later, as far as marks can tell.
_LATER = "UPDATE persistence.outbox_marks SET created_at = created_at - interval '2 minutes'"


@pytest.fixture
def queue(plane: Plane) -> OutboxQueue:
    return OutboxQueue(plane.pool, plane.settings, "w")


def marks(admin: psycopg.Connection) -> int:
    row = admin.execute(_MARKS).fetchone()
    assert row is not None
    return int(row[0])


async def claimed(queue: OutboxQueue, *types: str) -> list[Delivery]:
    return await queue.claim(dict.fromkeys(types or ("TEST",), 50), lease=60)


async def settle(queue: OutboxQueue, deliveries: list[Delivery], outcome: str = "EXECUTED", detail: str = "null") -> None:
    assert await queue.settle([Settlement(delivery, outcome, detail) for delivery in deliveries])  # type: ignore[arg-type]


async def quieten(queue: OutboxQueue, admin: psycopg.Connection) -> None:
    admin.execute(_LATER)
    assert await queue.sweep(["TEST"])
    assert marks(admin) == 0


async def test_what_is_quiet_has_none_and_the_next_request_leaves_one(
    plane: Plane, tenant: Tenant, queue: OutboxQueue, admin: psycopg.Connection
) -> None:
    await request_effect(plane, tenant.tenant_id, "first")
    assert marks(admin) == 1
    await settle(queue, await claimed(queue))
    assert await queue.sweep(["TEST"])
    assert marks(admin) == 1, "it was left a moment ago"
    await quieten(queue, admin)
    await request_effect(plane, tenant.tenant_id, "second")
    await request_effect(plane, tenant.tenant_id, "third")
    assert marks(admin) == 1
    assert len(await claimed(queue)) == 2


async def test_what_is_leased_or_due_soon_is_not_quiet(
    plane: Plane, tenant: Tenant, queue: OutboxQueue, admin: psycopg.Connection
) -> None:
    await request_effect(plane, tenant.tenant_id, "leased")
    [delivery] = await claimed(queue)
    admin.execute(_LATER)
    assert await queue.sweep(["TEST"])
    assert marks(admin) == 1
    await queue.settle([Settlement(delivery, "FAILED", '{"type": "x"}', delay=200.0, answered=False)])
    assert await queue.sweep(["TEST"])
    assert marks(admin) == 1


async def test_what_is_due_much_later_is_found_in_time(
    plane: Plane, tenant: Tenant, queue: OutboxQueue, admin: psycopg.Connection
) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        later = tx.effects.request(run, "TEST", spec={}, idempotency_key="k", deliver_after=datetime.now(UTC) + timedelta(hours=1))
    await quieten(queue, admin)
    assert await queue.sweep(["TEST"])
    assert marks(admin) == 0
    admin.execute("UPDATE persistence.outbox_queue SET due_at = now() + interval '4 minutes'")
    assert await queue.sweep(["TEST"])
    assert marks(admin) == 1
    admin.execute("UPDATE persistence.outbox_queue SET due_at = now()")
    assert [delivery.effect_id for delivery in await claimed(queue)] == [later.id]


async def test_what_comes_back_after_a_quiet_time_is_found(
    plane: Plane, tenant: Tenant, queue: OutboxQueue, admin: psycopg.Connection
) -> None:
    """A dead letter that is requeued, and an entry that gets its turn because the one before it is discarded."""
    effect = await request_effect(plane, tenant.tenant_id, "dead")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        first, second = (tx.effects.request(run, "TEST", spec={}, idempotency_key=name, ordering_key="k") for name in ("1", "2"))
    deliveries = await claimed(queue)
    assert {delivery.effect_id for delivery in deliveries} == {effect.id, first.id}
    await settle(queue, deliveries, "BLOCKED", '{"type": "x"}')
    await quieten(queue, admin)
    letters = plane.dead_letters(tenant.tenant_id, actor="user:operator")
    await letters.requeue([effect.id])
    assert [delivery.effect_id for delivery in await claimed(queue)] == [effect.id]
    admin.execute("DELETE FROM persistence.outbox_marks")
    await letters.discard([first.id], "no more")
    assert [delivery.effect_id for delivery in await claimed(queue)] == [second.id]


async def test_several_marks_of_one_tenant_are_one_share(
    plane: Plane, tenant: Tenant, queue: OutboxQueue, admin: psycopg.Connection
) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    for whose in (tenant, other):
        for number in range(60):
            await request_effect(plane, whose.tenant_id, str(number))
    admin.execute(
        "INSERT INTO persistence.outbox_marks (tenant_id, effect_type) SELECT %s, 'TEST' FROM generate_series(1, 20)",
        [tenant.tenant_id],
    )
    shares: Counter[UUID] = Counter(delivery.tenant_id for delivery in await claimed(queue))
    assert shares == {tenant.tenant_id: 25, other.tenant_id: 25}
    assert await queue.sweep(["TEST"])
    assert marks(admin) == 2


async def test_of_many_types_those_with_marks_are_looked_at(
    plane: Plane, tenant: Tenant, queue: OutboxQueue, admin: psycopg.Connection
) -> None:
    types = [f"TYPE_{number:03}" for number in range(300)]
    for name in (types[7], types[299], "NOT_MINE"):
        await request_effect(plane, tenant.tenant_id, name, name)
    assert {delivery.effect_type for delivery in await claimed(queue, *types)} == {types[7], types[299]}


async def test_a_mark_that_is_missing_is_left_by_a_sweep(
    plane: Plane, tenant: Tenant, queue: OutboxQueue, admin: psycopg.Connection
) -> None:
    await request_effect(plane, tenant.tenant_id, "lost")
    admin.execute("DELETE FROM persistence.outbox_marks")
    assert await claimed(queue) == []
    assert await queue.sweep(["TEST"])
    assert len(await claimed(queue)) == 1


async def test_a_thousand_quiet_tenants_cost_a_claim_nothing(
    plane: Plane, tenant: Tenant, queue: OutboxQueue, admin: psycopg.Connection
) -> None:
    async def nothing(_: Delivery) -> None:
        return None

    admin.execute(
        "INSERT INTO persistence.outbox_marks (tenant_id, effect_type) SELECT gen_random_uuid(), 'TEST' FROM generate_series(1, 1000)"
    )
    await request_effect(plane, tenant.tenant_id, "one")
    assert len(await claimed(queue)) == 1, "found among a thousand that have nothing"
    admin.execute(_LATER)
    assert await queue.sweep(["TEST"])
    assert marks(admin) == 1
    await request_effect(plane, tenant.tenant_id, "two")
    assert await worker_with(nothing).drain(plane) == 1
