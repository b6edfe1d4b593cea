"""A destination that keeps failing is left in peace, and nobody's attempts are used up by that."""

from uuid import UUID

import psycopg
import pytest

from persistence import Plane
from persistence.errors import ConfigurationError
from persistence.models import Tenant, new_id
from persistence.outbox import Backoff, Breaker, Delivery, PermanentFailure, Worker
from persistence.outbox.queue import OutboxQueue
from tests.helpers import ACTOR, let_time_pass


async def request(plane: Plane, tenant_id: UUID, count: int, destination: str) -> None:
    async with plane.transaction(tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        for _ in range(count):
            tx.effects.request(run, "TEST", spec={}, idempotency_key=str(new_id()), destination=destination)


class Receiver:
    """Destinations, some of which are down."""

    def __init__(self, *down: str) -> None:
        self.down = set(down)
        self.asked: list[str] = []
        self.error: Exception = ConnectionError("down")

    async def __call__(self, delivery: Delivery) -> None:
        assert delivery.destination is not None
        self.asked.append(delivery.destination)
        if delivery.destination in self.down:
            raise self.error


def worker_of(receiver: Receiver, concurrency: int = 1, failures: int = 3) -> Worker:
    worker = Worker(name="tester", listen=False, settle_within=0)
    worker.handler("TEST", concurrency=concurrency, backoff=Backoff(base=1000, cap=1000), breaker=Breaker(failures, rest=300))(
        receiver
    )
    return worker


def rest_is_over(admin: psycopg.Connection) -> None:
    admin.execute("UPDATE persistence.outbox_destinations SET open_until = now() - interval '1 second'")
    let_time_pass(admin)


async def test_a_failing_destination_rests_and_others_go_on(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    await request(plane, tenant.tenant_id, 40, "down.example")
    await request(plane, tenant.tenant_id, 10, "up.example")
    receiver = Receiver("down.example")
    await worker_of(receiver).drain(plane)
    asked = receiver.asked.count("down.example")
    assert 3 <= asked < 10
    assert receiver.asked.count("up.example") == 10
    waiting = admin.execute(
        "SELECT sum(attempts), count(*) FROM outbox_queue WHERE due_at > now() AND lease_token IS NULL"
    ).fetchone()
    assert waiting == (asked, 40)


async def test_a_probe_opens_the_way_again(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    await request(plane, tenant.tenant_id, 20, "down.example")
    receiver = Receiver("down.example")
    await worker_of(receiver).drain(plane)
    receiver.asked.clear()
    rest_is_over(admin)
    await worker_of(receiver).drain(plane)
    assert receiver.asked == ["down.example"], "one probe, and no more"
    receiver.asked.clear()
    receiver.down.clear()
    rest_is_over(admin)
    await worker_of(receiver).drain(plane)
    let_time_pass(admin)
    await worker_of(receiver).drain(plane)
    assert len(receiver.asked) == 20
    assert admin.execute("SELECT count(*) FROM outbox_destinations").fetchone() == (0,)
    assert admin.execute("SELECT count(*) FROM effects WHERE status = 'EXECUTED'").fetchone() == (20,)


async def test_an_answer_to_a_worker_that_knew_of_nothing_opens_the_way(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    await request(plane, tenant.tenant_id, 20, "back.example")
    await worker_of(Receiver("back.example")).drain(plane)
    rest_is_over(admin)
    other = Receiver()
    await worker_of(other).drain(plane)
    let_time_pass(admin)
    await worker_of(other).drain(plane)
    assert len(other.asked) == 20
    assert admin.execute("SELECT count(*) FROM outbox_destinations").fetchone() == (0,)


async def test_each_further_failure_doubles_the_rest(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    await request(plane, tenant.tenant_id, 20, "down.example")
    rests = []
    for _ in range(3):
        await worker_of(Receiver("down.example")).drain(plane)
        [(rest,)] = admin.execute("SELECT extract(epoch FROM open_until - now())::float FROM outbox_destinations").fetchall()
        rests.append(round(rest / 300))
        rest_is_over(admin)
    assert rests[0] in (1, 2), "the attempt under way when the breaker opened may count"
    assert rests[1] in (2 * rests[0], 4 * rests[0])
    assert rests[2] == 2 * rests[1]


async def test_a_claim_puts_off_some_thousands_at_most(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    await request(plane, tenant.tenant_id, 9000, "down.example")
    await request(plane, tenant.tenant_id, 1, "up.example")
    admin.execute(
        "INSERT INTO outbox_destinations (tenant_id, destination, failures, open_until) VALUES (%s, 'down.example', 9, now() + interval '1 hour')",
        (tenant.tenant_id,),
    )
    queue = OutboxQueue(plane.pool, plane.settings, "w")
    assert await queue.claim({"TEST": 1000}, 60) == []
    assert [delivery.destination for delivery in await queue.claim({"TEST": 1000}, 60)] == ["up.example"]


async def test_a_refusal_is_an_answer(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    await request(plane, tenant.tenant_id, 10, "strict.example")
    receiver = Receiver("strict.example")
    receiver.error = PermanentFailure("HTTP 400")
    await worker_of(receiver).drain(plane)
    assert len(receiver.asked) == 10
    assert admin.execute("SELECT count(*) FROM outbox_destinations").fetchone() == (0,)


async def test_failures_must_be_in_a_row(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    class Flaky(Receiver):
        async def __call__(self, delivery: Delivery) -> None:
            self.asked.append(delivery.idempotency_key)
            if len(self.asked) % 3:
                raise ConnectionError("now and then")

    await request(plane, tenant.tenant_id, 30, "flaky.example")
    receiver = Flaky()
    await worker_of(receiver).drain(plane)
    assert len(receiver.asked) == 30


async def test_a_destination_is_one_tenants(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    queue = OutboxQueue(plane.pool, plane.settings, "w")
    await request(plane, tenant.tenant_id, 5, "shared.example")
    await worker_of(Receiver("shared.example"), failures=1).drain(plane)
    await request(plane, other.tenant_id, 5, "shared.example")
    assert {delivery.tenant_id for delivery in await queue.claim({"TEST": 20}, 60)} == {other.tenant_id}


async def test_a_webhook_goes_to_its_host(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        effect = tx.effects.request(run, "HTTP_POST", spec={"url": "https://Hooks.example:8443/a?b"}, idempotency_key="k")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert (await tx.outbox.get(effect.id)).destination == "hooks.example:8443"


@pytest.mark.parametrize("settings", [{"failures": 0}, {"rest": 0}])
def test_a_breaker_that_makes_no_sense(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        Breaker(**settings)  # type: ignore[arg-type]
