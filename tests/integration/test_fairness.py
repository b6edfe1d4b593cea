"""Nobody starves: shares, weights, and limits that hold across processes."""

from collections import Counter
from uuid import UUID

import psycopg
import pytest

from persistence import Plane
from persistence.errors import InvalidInput, NotFound, PermissionDenied
from persistence.models import Tenant, new_id
from persistence.outbox.delivery import Delivery
from persistence.outbox.queue import OutboxQueue, Settlement
from tests.helpers import ACTOR

OPERATOR = "user:operator"


async def request(plane: Plane, tenant_id: UUID, count: int, effect_type: str = "TEST") -> None:
    for _ in range(0, count, 5000):
        async with plane.transaction(tenant_id, actor=ACTOR) as tx:
            run = tx.runs.start(run_type="test")
            for _ in range(min(count, 5000)):
                tx.effects.request(run, effect_type, spec={}, idempotency_key=str(new_id()))


def queue_of(plane: Plane, name: str = "w") -> OutboxQueue:
    return OutboxQueue(plane.pool, plane.settings, name)


async def settle(queue: OutboxQueue, deliveries: list[Delivery]) -> None:
    await queue.settle([Settlement(delivery, "EXECUTED", "null") for delivery in deliveries])


def share(deliveries: list[Delivery]) -> Counter[UUID]:
    return Counter(delivery.tenant_id for delivery in deliveries)


async def test_a_hundred_thousand_entries_do_not_make_others_wait(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    await request(plane, tenant.tenant_id, 5000)
    # The other 95,000 by the short way: what claims look at is the queue and the entries.
    admin.execute(
        """
        WITH copies AS (
          INSERT INTO outbox_events
          SELECT (jsonb_populate_record(o, jsonb_build_object('id', n.id, 'aggregate_id', n.id, 'idempotency_key', n.id))).*
          FROM (SELECT o AS o FROM outbox_events AS o LIMIT 1) AS o, (SELECT gen_random_uuid() AS id FROM generate_series(1, 95000)) AS n
          RETURNING tenant_id, id, event_type
        )
        INSERT INTO outbox_queue (tenant_id, id, effect_type, due_at) SELECT tenant_id, id, event_type, now() - interval '1 hour' FROM copies
        """
    )
    others = [await plane.tenants.create(f"small-{number}", actor="system:test") for number in range(99)]
    for other in others:
        await request(plane, other.tenant_id, 1)
    claimed = share(await queue_of(plane).claim({"TEST": 100}, 60))
    assert claimed == Counter([tenant.tenant_id, *(other.tenant_id for other in others)])
    assert share(await queue_of(plane).claim({"TEST": 100}, 60)) == {tenant.tenant_id: 100}


async def test_where_tenants_are_more_than_places_all_get_their_turn(plane: Plane) -> None:
    tenants = [await plane.tenants.create(f"t{number}", actor="system:test") for number in range(40)]
    for tenant in tenants:
        await request(plane, tenant.tenant_id, 3)
    first_served: set[UUID] = set()
    for _ in range(60):
        first_served |= set(share(await queue_of(plane).claim({"TEST": 2}, 60)))
    assert len(first_served) == 40


async def test_weights_divide_what_is_claimed(plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    await plane.limits.set("TEST", tenant_id=tenant.tenant_id, weight=3, actor=OPERATOR)
    for one in (tenant, other):
        await request(plane, one.tenant_id, 200)
    assert share(await queue_of(plane).claim({"TEST": 100}, 60)) == {tenant.tenant_id: 75, other.tenant_id: 25}


async def test_what_one_does_not_use_goes_to_the_other(plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    await request(plane, tenant.tenant_id, 10)
    await request(plane, other.tenant_id, 100)
    assert share(await queue_of(plane).claim({"TEST": 60}, 60)) == {tenant.tenant_id: 10, other.tenant_id: 50}


async def test_the_concurrency_of_a_type_holds_across_processes(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    await plane.limits.set("TEST", max_concurrency=5, actor=OPERATOR)
    for one in (tenant, other):
        await request(plane, one.tenant_id, 10)
        await request(plane, one.tenant_id, 10, "FREE")
    held = await queue_of(plane, "w1").claim({"TEST": 3, "FREE": 4}, 60)
    assert Counter(delivery.effect_type for delivery in held) == {"TEST": 3, "FREE": 4}
    more = await queue_of(plane, "w2").claim({"TEST": 10}, 60)
    assert len(more) == 2
    assert await queue_of(plane, "w3").claim({"TEST": 10}, 60) == []
    await settle(queue_of(plane), more)
    assert len(await queue_of(plane, "w3").claim({"TEST": 10}, 60)) == 2
    admin.execute("UPDATE persistence.outbox_queue SET leased_until = now() WHERE leased_by = 'w1'")  # w1 died
    assert len(await queue_of(plane, "w2").claim({"TEST": 10}, 60)) == 3


async def test_the_concurrency_of_a_tenant_is_its_own(plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    await plane.limits.set("TEST", tenant_id=tenant.tenant_id, max_concurrency=2, actor=OPERATOR)
    await plane.limits.set("*", tenant_id=other.tenant_id, max_concurrency=3, actor=OPERATOR)
    for one in (tenant, other):
        await request(plane, one.tenant_id, 10)
        await request(plane, one.tenant_id, 10, "FREE")
    held = await queue_of(plane).claim({"TEST": 20, "FREE": 20}, 60)
    assert share([x for x in held if x.effect_type == "TEST"]) == {tenant.tenant_id: 2, other.tenant_id: 3}
    assert share([x for x in held if x.effect_type == "FREE"]) == {tenant.tenant_id: 10}


async def test_zero_stops_a_type_and_no_limit_lets_it_go(plane: Plane, tenant: Tenant) -> None:
    await request(plane, tenant.tenant_id, 5)
    await plane.limits.set("TEST", max_concurrency=0, actor=OPERATOR)
    assert await queue_of(plane).claim({"TEST": 5}, 60) == []
    await plane.limits.set("TEST", actor=OPERATOR)
    assert len(await queue_of(plane).claim({"TEST": 5}, 60)) == 5


async def test_a_rate_lets_a_seconds_worth_go_and_fills_with_time(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    await request(plane, tenant.tenant_id, 50)
    await plane.limits.set("TEST", max_rate=10, actor=OPERATOR)
    assert len(await queue_of(plane, "w1").claim({"TEST": 8}, 60)) == 8
    admin.execute("UPDATE persistence.outbox_limits SET tokens_at = now()")
    assert len(await queue_of(plane, "w2").claim({"TEST": 50}, 60)) == 2
    admin.execute("UPDATE persistence.outbox_limits SET tokens = 0, tokens_at = now() - interval '0.51 seconds'")
    assert len(await queue_of(plane, "w2").claim({"TEST": 50}, 60)) == 5
    admin.execute("UPDATE persistence.outbox_limits SET tokens_at = now() - interval '1 hour'")
    assert len(await queue_of(plane, "w2").claim({"TEST": 50}, 60)) == 10


async def test_only_what_was_claimed_of_a_type_counts_against_its_rate(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    """Also where an idle type comes before it in the same claim, or after it."""
    for effect_type in ("BUSY", "IDLE"):
        await plane.limits.set(effect_type, max_rate=10, actor=OPERATOR)
    await request(plane, tenant.tenant_id, 50, "BUSY")
    for _ in range(3):
        await queue_of(plane).claim({"IDLE": 5, "BUSY": 5}, 60)
        await queue_of(plane).claim({"BUSY": 5, "IDLE": 5}, 60)
    admin.execute("UPDATE outbox_limits SET tokens_at = now()")
    left = dict(admin.execute("SELECT effect_type, tokens FROM outbox_limits").fetchall())
    assert left["IDLE"] is None
    assert left["BUSY"] < 5
    assert len(admin.execute("SELECT FROM outbox_queue WHERE lease_token IS NOT NULL").fetchall()) < 15


async def test_small_claims_are_fair_too_and_keep_to_the_weights(plane: Plane) -> None:
    tenants = [await plane.tenants.create(f"t{number}", actor="system:test") for number in range(4)]
    for tenant in tenants:
        await request(plane, tenant.tenant_id, 300)
    await plane.limits.set("*", tenant_id=tenants[0].tenant_id, weight=3, actor=OPERATOR)
    drawn = share([delivery for _ in range(300) for delivery in await queue_of(plane).claim({"TEST": 1}, 60)])
    assert 110 < drawn[tenants[0].tenant_id] < 190, "three sixths"
    assert all(25 < drawn[tenant.tenant_id] < 80 for tenant in tenants[1:]), "a sixth each"


async def test_a_limit_is_recorded_with_its_actor(plane: Plane, tenant: Tenant) -> None:
    assert await plane.limits.set("TEST", tenant_id=tenant.tenant_id, max_rate=2.5, actor=OPERATOR)
    assert not await plane.limits.set("TEST", tenant_id=tenant.tenant_id, max_rate=2.5, actor=OPERATOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        last = (await tx.events.of_aggregate(tenant.tenant_id))[-1]
    assert (last.event_type, last.actor) == ("TENANT_LIMIT_SET", OPERATOR)
    assert last.event_data == {"effect_type": "TEST", "weight": 1, "max_concurrency": None, "max_rate": 2.5}
    [limit] = await plane.limits.list()
    assert (limit.tenant_id, limit.max_rate) == (tenant.tenant_id, 2.5)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"effect_type": ""}, "effect_type"),
        ({"effect_type": "*", "max_rate": 1}, "tenant"),
        ({"effect_type": "T", "weight": 2}, "tenant"),
        ({"effect_type": "T", "max_concurrency": -1}, "max_concurrency"),
        ({"effect_type": "T", "max_rate": 0}, "max_rate"),
        ({"effect_type": "T", "max_rate": float("nan")}, "max_rate"),
    ],
)
async def test_a_wrong_limit_is_refused_by_name(plane: Plane, arguments: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await plane.limits.set(**arguments, actor=OPERATOR)  # type: ignore[arg-type]
    assert caught.value.field == field


async def test_a_limit_of_a_tenant_that_is_not_there(plane: Plane) -> None:
    with pytest.raises(NotFound):
        await plane.limits.set("TEST", tenant_id=new_id(), max_rate=1, actor=OPERATOR)


async def test_services_set_no_limits(plane: Plane, admin: psycopg.Connection) -> None:
    admin.execute("REVOKE persistence_operator FROM persistence_service")
    try:
        with pytest.raises(PermissionDenied):
            await plane.limits.set("TEST", max_rate=1, actor=OPERATOR)
    finally:
        admin.execute("GRANT persistence_operator TO persistence_service")
