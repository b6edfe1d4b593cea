"""From request to delivery: leases, attempts, backoff, dead letters, fairness."""

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.errors import ConfigurationError
from persistence.models import Tenant, new_id
from persistence.outbox import Backoff, Delivery, PermanentFailure, RetryLater, Worker
from persistence.outbox.attempt import attempt
from persistence.outbox.housekeeping import Housekeeping
from persistence.outbox.queue import OutboxQueue, Settlement
from tests.helpers import ACTOR, get_effect, let_time_pass, request_effect, start_run, worker_with


def queue_of(plane: Plane, name: str = "w") -> OutboxQueue:
    return OutboxQueue(plane.pool, plane.settings, name)


async def succeed(_: Delivery) -> str:
    return "done"


def failing(error: BaseException) -> Callable[[Delivery], Awaitable[Any]]:
    async def fail(_: Delivery) -> None:
        raise error

    return fail


async def test_an_effect_is_delivered_with_all_it_needs(plane: Plane, tenant: Tenant) -> None:
    effect = await request_effect(plane, tenant.tenant_id, "key-1", to="x")
    seen: list[Delivery] = []

    async def handler(delivery: Delivery) -> dict[str, int]:
        seen.append(delivery)
        return {"status": 200}

    assert await worker_with(handler).drain(plane) == 1
    [delivery] = seen
    assert (delivery.tenant_id, delivery.effect_id, delivery.attempt) == (tenant.tenant_id, effect.id, 1)
    assert delivery.payload == {"to": "x", "idempotency_key": "key-1"}
    assert (delivery.idempotency_key, delivery.correlation_id) == ("key-1", effect.correlation_id)
    assert delivery.causation_id == effect.last_event_id
    stored = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (stored.status, stored.execution_result, stored.retry_count, stored.version) == ("EXECUTED", {"status": 200}, 0, 2)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        entry = await tx.outbox.get(effect.id)
        assert (entry.status, entry.published_at) == ("PUBLISHED", stored.executed_at)
        executed = (await tx.events.of_aggregate(effect.id))[-1]
        assert (executed.event_type, executed.actor, executed.causation_id) == (
            "EFFECT_EXECUTED", "system:outbox-worker/tester", effect.last_event_id,
        )  # fmt: skip


async def test_a_settled_effect_is_never_run_again(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    await request_effect(plane, tenant.tenant_id)
    assert await worker_with(succeed).drain(plane) == 1
    let_time_pass(admin)
    assert await worker_with(succeed).drain(plane) == 0


async def test_a_failed_attempt_waits_and_is_made_again(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    effect = await request_effect(plane, tenant.tenant_id)
    attempts: list[int] = []

    async def handler(delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt < 3:
            raise ConnectionError("busy")

    worker = worker_with(handler, backoff=Backoff(base=1000, cap=1000))
    await worker.drain(plane)
    pending = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (pending.status, pending.retry_count) == ("PENDING", 1)
    assert pending.error_details["type"] == "ConnectionError"
    assert pending.error_details["message"] == "busy"
    assert pending.next_retry_at is not None
    assert pending.next_retry_at > datetime.now(UTC) - timedelta(seconds=1)
    for _ in range(3):
        let_time_pass(admin)
        await worker.drain(plane)
    assert attempts == [1, 2, 3]
    done = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (done.status, done.retry_count, done.next_retry_at, done.version) == ("EXECUTED", 2, None, 4)


async def test_retry_after_is_honoured(plane: Plane, tenant: Tenant) -> None:
    effect = await request_effect(plane, tenant.tenant_id)
    await worker_with(failing(RetryLater("not now", after=500, details={"status": 429}))).drain(plane)
    waiting = await get_effect(plane, tenant.tenant_id, effect.id)
    assert waiting.next_retry_at is not None
    assert waiting.updated_at is not None
    assert (waiting.next_retry_at - waiting.updated_at).total_seconds() == pytest.approx(500, abs=1)
    assert waiting.error_details["status"] == 429


async def test_a_permanent_failure_is_a_dead_letter_at_once(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    effect = await request_effect(plane, tenant.tenant_id)
    await worker_with(failing(PermanentFailure("gone", details={"status": 410}))).drain(plane)
    dead = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (dead.status, dead.error_details["status"]) == ("DEAD_LETTER", 410)
    assert admin.execute("SELECT count(*) FROM outbox_queue WHERE held_by = 'DEAD_LETTER'").fetchone() == (1,)


async def test_attempts_run_out(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    effect = await request_effect(plane, tenant.tenant_id)
    worker = worker_with(failing(ValueError("no")), max_attempts=3)
    for _ in range(5):
        await worker.drain(plane)
        let_time_pass(admin)
    dead = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (dead.status, dead.retry_count, dead.version) == ("DEAD_LETTER", 3, 4)


async def test_attempts_that_killed_their_worker_count(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    effect = await request_effect(plane, tenant.tenant_id)
    for number in range(3):
        [held] = await queue_of(plane).claim({"TEST": 10}, lease=60)
        assert held.attempt == number + 1
        let_time_pass(admin)
    called = []

    async def handler(delivery: Delivery) -> None:
        called.append(delivery)

    await worker_with(handler, max_attempts=3).drain(plane)
    dead = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (dead.status, dead.error_details["type"], called) == ("DEAD_LETTER", "AttemptsUsedUp", [])


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (TimeoutError(), "TimeoutError"),
        (asyncio.CancelledError(), "CancelledError"),
        (SystemExit(3), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (ValueError("nul\x00 \ud800"), "ValueError"),
    ],
)
async def test_whatever_a_handler_raises_is_a_failed_attempt(
    plane: Plane, tenant: Tenant, error: BaseException, named: str
) -> None:
    effect = await request_effect(plane, tenant.tenant_id)
    assert await worker_with(failing(error), backoff=Backoff(1000, 1000)).drain(plane) == 1
    failed = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (failed.status, failed.error_details["type"]) == ("PENDING", named)


async def test_a_handler_that_takes_too_long_is_cut_off(plane: Plane, tenant: Tenant) -> None:
    effect = await request_effect(plane, tenant.tenant_id)

    async def hang(_: Delivery) -> None:
        await asyncio.Event().wait()

    await worker_with(hang, timeout=0.01, backoff=Backoff(1000, 1000)).drain(plane)
    failed = await get_effect(plane, tenant.tenant_id, effect.id)
    assert failed.error_details["message"] == "no answer within 0.01 seconds"


@pytest.mark.parametrize("result", [float("nan"), object(), "nul\x00", {1: 2}])
async def test_a_result_that_cannot_be_kept_is_no_reason_to_deliver_again(plane: Plane, tenant: Tenant, result: object) -> None:
    effect = await request_effect(plane, tenant.tenant_id)

    async def handler(_: Delivery) -> object:
        return result

    await worker_with(handler).drain(plane)
    done = await get_effect(plane, tenant.tenant_id, effect.id)
    assert done.status == "EXECUTED"
    assert "unstorable" in done.execution_result


async def test_a_worker_that_lost_its_lease_changes_nothing(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    effect = await request_effect(plane, tenant.tenant_id)
    slow, quick = queue_of(plane, "slow"), queue_of(plane, "quick")
    [late] = await slow.claim({"TEST": 1}, lease=60)
    assert await quick.claim({"TEST": 1}, lease=60) == []
    let_time_pass(admin)
    [taken] = await quick.claim({"TEST": 1}, lease=60)
    assert taken.attempt == 2
    assert await slow.settle([Settlement(late, "DEAD", "{}")]) == set()
    assert await slow.extend([late], 60) == set()
    assert await slow.release([late]) == set()
    assert await quick.extend([taken], 60) == {effect.id}
    assert await quick.settle([Settlement(taken, "EXECUTED", '"ok"')]) == {effect.id}
    assert await quick.settle([Settlement(taken, "EXECUTED", '"ok"')]) == set()
    assert (await get_effect(plane, tenant.tenant_id, effect.id)).version == 3  # requested, lost, executed


async def test_what_was_not_begun_is_handed_back_and_does_not_count(plane: Plane, tenant: Tenant) -> None:
    await request_effect(plane, tenant.tenant_id)
    [held] = await queue_of(plane).claim({"TEST": 1}, lease=60)
    await queue_of(plane).release([held])
    [again] = await queue_of(plane).claim({"TEST": 1}, lease=60)
    assert again.attempt == 1


def test_no_index_has_a_column_that_a_claim_changes(admin: psycopg.Connection) -> None:
    """So leases are taken by heap-only updates."""
    [claim] = admin.execute("SELECT prosrc FROM pg_proc WHERE proname = 'claim_outbox'").fetchone() or ("",)
    [changes] = re.findall(r"UPDATE outbox_queue AS q\s+SET(.*?)FROM", claim, re.DOTALL)
    changed = re.findall(r"^\s+(\w+) =", changes, re.MULTILINE)
    assert {"leased_until", "attempts", "updated_at"} <= set(changed)
    found = admin.execute(
        """
        SELECT i.indexrelid::regclass::text, a.attname
        FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = 'outbox_queue'::regclass AND a.attname = ANY (%s)
        """,
        (changed,),
    )
    assert found.fetchall() == []


async def test_an_effect_is_not_delivered_before_its_time(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        effect = tx.effects.request(run, "TEST", spec={}, idempotency_key="later", deliver_after=later)
    assert await worker_with(succeed).drain(plane) == 0
    stored = await get_effect(plane, tenant.tenant_id, effect.id)
    assert stored.next_retry_at == effect.next_retry_at == later
    let_time_pass(admin)
    assert await worker_with(succeed).drain(plane) == 1


async def test_a_worker_takes_only_the_types_it_knows(plane: Plane, tenant: Tenant) -> None:
    await request_effect(plane, tenant.tenant_id, "a", "KNOWN")
    await request_effect(plane, tenant.tenant_id, "b", "UNKNOWN")
    assert await worker_with(succeed, "KNOWN").drain(plane) == 1


async def test_a_claim_is_shared_among_tenants(plane: Plane, tenant: Tenant) -> None:
    small = [await plane.tenants.create(f"small {n}", actor="system:test") for n in range(5)]
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        for number in range(200):
            tx.effects.request(run, "TEST", spec={}, idempotency_key=str(number))
    for one in small:
        await request_effect(plane, one.tenant_id)
    held = await queue_of(plane).claim({"TEST": 30}, lease=60)
    assert {one.tenant_id for one in small} <= {delivery.tenant_id for delivery in held}
    assert len(held) == 30  # and what the small ones left went to the large one


async def test_concurrent_claims_never_share_an_entry(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        for number in range(300):
            tx.effects.request(run, "TEST", spec={}, idempotency_key=str(number))
    claims = await asyncio.gather(*(queue_of(plane, str(n)).claim({"TEST": 40}, lease=60) for n in range(10)))
    held = [delivery.effect_id for claim in claims for delivery in claim]
    assert len(held) == len(set(held)) == 300


async def test_concurrency_is_held_for_each_type(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        for number in range(60):
            tx.effects.request(run, "TEST", spec={}, idempotency_key=str(number))
    busy = most = 0

    async def handler(_: Delivery) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1

    assert await worker_with(handler, concurrency=3).drain(plane) == 60
    assert most == 3


async def test_dead_letters_are_requeued_or_discarded_on_the_record(plane: Plane, tenant: Tenant) -> None:
    first, second = await request_effect(plane, tenant.tenant_id, "1"), await request_effect(plane, tenant.tenant_id, "2")
    await worker_with(failing(PermanentFailure("gone"))).drain(plane)
    letters = plane.dead_letters(tenant.tenant_id, actor="user:operator")
    assert await letters.requeue([first.id, new_id()], "receiver is back") == {first.id}
    assert await letters.discard([second.id], "no longer wanted") == {second.id}
    assert await letters.requeue([second.id]) == set()
    assert await worker_with(succeed).drain(plane) == 1
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        life = await tx.events.of_aggregate(first.id)
        assert [e.event_type for e in life] == ["EFFECT_REQUESTED", "EFFECT_DEAD_LETTERED", "EFFECT_REQUEUED", "EFFECT_EXECUTED"]
        assert (life[2].actor, life[2].event_data["reason"]) == ("user:operator", "receiver is back")
        assert (await tx.outbox.get(second.id)).status == "DISCARDED"


async def test_nothing_but_a_requeue_can_be_done_by_hand(plane: Plane, tenant: Tenant) -> None:
    await request_effect(plane, tenant.tenant_id)
    async with plane.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT persistence.enter_tenant($1, $2)", tenant.tenant_id, plane.settings.user_id)
        with pytest.raises(asyncpg.PostgresError, match="cannot be changed from PENDING to PUBLISHED by hand"):
            await connection.execute("UPDATE persistence.outbox_events SET status = 'PUBLISHED'")


async def test_a_running_worker_is_woken_by_the_bell_and_stops_in_good_order(plane: Plane, tenant: Tenant) -> None:
    delivered = asyncio.Event()
    begun = asyncio.Event()
    may_end = asyncio.Event()

    async def handler(delivery: Delivery) -> str:
        if delivery.idempotency_key == "quick":
            delivered.set()
        else:
            begun.set()
            await may_end.wait()
        return "done"

    worker = Worker(name="tester", poll_interval=3600)
    worker.handler("TEST", concurrency=1)(handler)
    stop = asyncio.Event()
    working = asyncio.create_task(worker.run(plane, stop))
    await request_effect(plane, tenant.tenant_id, "quick")
    async with asyncio.timeout(20):
        await delivered.wait()
        slow = await request_effect(plane, tenant.tenant_id, "slow")
        await begun.wait()
        stop.set()
        may_end.set()
        await working
    assert (await get_effect(plane, tenant.tenant_id, slow.id)).status == "EXECUTED"


async def test_a_handler_that_outlasts_the_grace_is_due_again(plane: Plane, tenant: Tenant) -> None:
    begun = asyncio.Event()

    async def hang(_: Delivery) -> None:
        begun.set()
        await asyncio.Event().wait()

    worker = Worker(name="tester", listen=False, grace=0.01)
    worker.handler("TEST", timeout=3600)(hang)
    stop = asyncio.Event()
    effect = await request_effect(plane, tenant.tenant_id)
    working = asyncio.create_task(worker.run(plane, stop))
    async with asyncio.timeout(20):
        await begun.wait()
        stop.set()
        await working
    interrupted = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (interrupted.status, interrupted.error_details["type"]) == ("PENDING", "WorkerStopped")
    assert await worker_with(succeed).drain(plane) == 1


async def test_a_lost_lease_cancels_the_handler(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(_: Delivery) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    effect = await request_effect(plane, tenant.tenant_id)
    worker = Worker(name="tester", listen=False, lease=0.3)
    worker.handler("TEST", timeout=3600)(hang)
    stop = asyncio.Event()
    working = asyncio.create_task(worker.run(plane, stop))
    async with asyncio.timeout(20):
        await begun.wait()
        admin.execute("UPDATE persistence.outbox_queue SET lease_token = gen_random_uuid(), due_at = now() + interval '1 hour'")
        await cancelled.wait()
        stop.set()
        await working
    assert (await get_effect(plane, tenant.tenant_id, effect.id)).version == 1


async def test_old_records_of_delivered_effects_are_purged_and_the_log_stays(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    effect = await request_effect(plane, tenant.tenant_id, "old")
    await worker_with(succeed).drain(plane)
    await request_effect(plane, tenant.tenant_id, "pending")
    assert await Housekeeping(retention=timedelta(days=1)).round(plane) == 0
    admin.execute("SET session_replication_role = replica")
    admin.execute("UPDATE outbox_events SET published_at = published_at - interval '2 days' WHERE status = 'PUBLISHED'")
    assert await Housekeeping(retention=timedelta(days=1)).round(plane) == 1
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.outbox.count() == 1
        assert len(await tx.events.of_aggregate(effect.id)) == 2
        assert (await tx.effects.get(effect.id)).status == "EXECUTED"


class Unspeakable:
    """A result, or an error, that cannot say what it is."""

    def __repr__(self) -> str:
        raise ValueError("no words")


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


async def test_what_cannot_be_put_into_words_is_settled_all_the_same(plane: Plane, tenant: Tenant) -> None:
    returned = await request_effect(plane, tenant.tenant_id, "returned", effect_type="RETURNS")
    raised = await request_effect(plane, tenant.tenant_id, "raised", effect_type="RAISES")
    worker = Worker(name="tester", listen=False)

    @worker.handler("RETURNS")
    async def give(_: Delivery) -> object:
        return Unspeakable()

    @worker.handler("RAISES", max_attempts=1)
    async def fail(_: Delivery) -> None:
        raise UnspeakableError

    async with asyncio.timeout(20):
        assert await worker.drain(plane) == 2
    assert (await get_effect(plane, tenant.tenant_id, returned.id)).status == "EXECUTED"
    assert "raises ValueError" in (await get_effect(plane, tenant.tenant_id, raised.id)).error_details["message"]


@pytest.mark.parametrize("after", [float("inf"), float("nan"), 1e13, -5.0])
async def test_a_wait_that_makes_no_sense_is_bounded(plane: Plane, tenant: Tenant, after: float, admin: psycopg.Connection) -> None:
    await request_effect(plane, tenant.tenant_id)
    await worker_with(failing(RetryLater("later", after=after))).drain(plane) if after > 0 else await one_attempt(plane, after)
    [(wait,)] = admin.execute("SELECT extract(epoch FROM due_at - now())::float FROM outbox_queue").fetchall()
    assert wait < 31 * 86_400


async def one_attempt(plane: Plane, after: float) -> None:
    """A wait of no time would be over at once, and the next attempt made."""
    queue = queue_of(plane)
    [delivery] = await queue.claim({"TEST": 1}, 60)
    worker = worker_with(failing(RetryLater("later", after=after)))
    [outcome] = await attempt(worker.handlers["TEST"], [delivery], max_bytes=1000)
    assert isinstance(outcome, Settlement)
    await queue.settle([outcome])


async def test_an_outcome_that_is_refused_takes_no_other_with_it(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    """Here the server refuses one result, which no check of this side foresees."""
    good = await request_effect(plane, tenant.tenant_id, "good")
    bad = await request_effect(plane, tenant.tenant_id, "bad")
    admin.execute("ALTER TABLE effects ADD CONSTRAINT planted CHECK (execution_result <> '\"bad\"')")

    async def handler(delivery: Delivery) -> str:
        return delivery.idempotency_key

    async with asyncio.timeout(20):
        await worker_with(handler).drain(plane)
    assert (await get_effect(plane, tenant.tenant_id, good.id)).status == "EXECUTED"
    kept = await get_effect(
        plane, tenant.tenant_id, bad.id
    )  # what has happened does not happen again for what the database thinks of its result
    assert (kept.status, kept.execution_result["unstorable"]) == ("EXECUTED", '"bad"')


async def test_an_entry_that_is_committed_late_is_claimed_at_once(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    run = await start_run(plane, tenant.tenant_id)
    queue = queue_of(plane)
    await request_effect(plane, tenant.tenant_id, "first")
    assert len(await queue.claim({"TEST": 10}, lease=60)) == 1
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        late = tx.effects.request(run, "TEST", spec={}, idempotency_key="late")
        await tx.flush()  # due from now on, and committed after the sweep
        await request_effect(plane, tenant.tenant_id, "early")
        admin.execute("UPDATE outbox_marks SET swept_to = now() - interval '1 minute'")
        assert await queue.sweep(["TEST"])
    claimed = {delivery.effect_id for delivery in await queue.claim({"TEST": 10}, lease=60)}
    assert late.id in claimed
    assert len(claimed) == 2


async def test_a_plain_function_does_not_hold_up_the_worker(plane: Plane, tenant: Tenant) -> None:
    """Two attempts, each of which ends only when the other has begun, and a context variable that the thread sees."""
    both = threading.Barrier(2, timeout=60)
    context: ContextVar[str] = ContextVar("context", default="none")
    threads = set()

    def deliver(delivery: Delivery) -> dict[str, str]:
        both.wait()
        threads.add(threading.current_thread() is threading.main_thread())
        return {"context": context.get()}

    effects = [await request_effect(plane, tenant.tenant_id, key) for key in ("1", "2")]
    context.set("of the caller")
    assert await worker_with(deliver, concurrency=2).drain(plane) == 2
    assert threads == {False}
    for effect in effects:
        stored = await get_effect(plane, tenant.tenant_id, effect.id)
        assert (stored.status, stored.execution_result) == ("EXECUTED", {"context": "of the caller"})


@pytest.mark.parametrize("error", [PermanentFailure("never"), StopIteration("odd"), SystemExit(3)])
async def test_what_a_plain_function_raises_is_recorded(plane: Plane, tenant: Tenant, error: BaseException) -> None:
    def deliver(_: Delivery) -> None:
        raise error

    effect = await request_effect(plane, tenant.tenant_id)
    await worker_with(deliver, max_attempts=1).drain(plane)
    stored = await get_effect(plane, tenant.tenant_id, effect.id)
    assert stored.status == "DEAD_LETTER"
    assert str(error) in str(stored.error_details)


async def test_drain_until_settled_sees_retries_through(plane: Plane, tenant: Tenant) -> None:
    attempts = []

    async def deliver(delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        if len(attempts) < 3:
            raise RuntimeError("not yet")

    effect = await request_effect(plane, tenant.tenant_id)
    worker = worker_with(deliver, backoff=Backoff(base=0.2, cap=0.2))
    assert await worker.drain(plane, until="settled", timeout=120) == 3
    assert attempts == [1, 2, 3]
    assert (await get_effect(plane, tenant.tenant_id, effect.id)).status == "EXECUTED"


async def test_drain_until_settled_waits_for_what_others_hold(plane: Plane, tenant: Tenant) -> None:
    effect = await request_effect(plane, tenant.tenant_id)
    other = queue_of(plane, "other")
    [held] = await other.claim({"TEST": 1}, 300)
    worker = worker_with(succeed)
    assert await worker.drain(plane) == 0
    with pytest.raises(TimeoutError):
        await worker.drain(plane, until="settled", timeout=0.3)
    draining = asyncio.create_task(worker.drain(plane, until="settled", timeout=120))
    await other.settle([Settlement(held, "EXECUTED", "{}")])
    assert await draining == 0
    assert (await get_effect(plane, tenant.tenant_id, effect.id)).status == "EXECUTED"


async def test_an_attempt_whose_worker_was_lost_is_in_the_log(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    effect = await request_effect(plane, tenant.tenant_id)
    assert len(await queue_of(plane, "first").claim({"TEST": 1}, 60)) == 1
    let_time_pass(admin)
    assert await worker_with(succeed).drain(plane) == 1
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        events = await tx.events.of_aggregate(effect.id)
    assert [event.event_type for event in events] == ["EFFECT_REQUESTED", "EFFECT_ATTEMPT_FAILED", "EFFECT_EXECUTED"]
    assert events[1].event_data["error_details"] == {
        "type": "WorkerLost", "message": "worker first did not report back: it may have been delivered", "attempt": 1,
    }  # fmt: skip
    assert (events[1].actor, events[2].event_data["retry_count"]) == ("system:outbox-worker/tester", 1)


async def test_attempts_are_counted_as_they_were_made(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    effect = await request_effect(plane, tenant.tenant_id)
    for _ in range(2):
        assert len(await queue_of(plane).claim({"TEST": 1}, 60)) == 1
        let_time_pass(admin)
    await worker_with(succeed, max_attempts=2).drain(plane)
    dead = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (dead.status, dead.retry_count, dead.error_details["type"]) == ("DEAD_LETTER", 2, "AttemptsUsedUp")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        lost = [
            e.event_data["error_details"]["attempt"]
            for e in await tx.events.of_aggregate(effect.id)
            if e.event_type == "EFFECT_ATTEMPT_FAILED"
        ]
    assert lost == [1, 2]


async def test_what_the_database_does_not_take_for_its_size_is_settled_in_short(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    admin.execute("UPDATE canon.size_limits SET event_bytes = 30000")
    done = await request_effect(plane, tenant.tenant_id, "done")

    async def long_answer(_: Delivery) -> list[str]:
        return [str(new_id()) for _ in range(2000)]

    assert await worker_with(long_answer).drain(plane) == 1
    stored = await get_effect(plane, tenant.tenant_id, done.id)
    assert (stored.status, set(stored.execution_result)) == ("EXECUTED", {"unstorable", "reason"})
    failed = await request_effect(plane, tenant.tenant_id, "failed")
    error = PermanentFailure("no", details={"type": "Mine", "attempt": 99, "long": ["x" * 100] * 2000})
    await worker_with(failing(error)).drain(plane)
    stored = await get_effect(plane, tenant.tenant_id, failed.id)
    assert (stored.status, stored.error_details["type"], stored.error_details["attempt"]) == ("DEAD_LETTER", "PermanentFailure", 1)
    assert len(stored.error_details["details"]) <= 4000


async def test_a_result_beyond_the_limit_is_kept_in_words(dsn: str, tenant: Tenant) -> None:
    async with Plane(dsn=dsn, max_event_bytes=2000) as plane:
        effect = await request_effect(plane, tenant.tenant_id)

        async def long_answer(_: Delivery) -> str:
            return "x" * 2000

        assert await worker_with(long_answer).drain(plane) == 1
        stored = await get_effect(plane, tenant.tenant_id, effect.id)
        assert (stored.status, stored.execution_result["reason"]) == ("EXECUTED", "result: 2002 bytes exceed the limit of 2000")


@pytest.mark.parametrize("wrong", [{"backoff": 5}, {"breaker": 3}, {"timeout": "30"}, {"max_attempts": True}])
def test_settings_of_a_handler_are_what_they_are_called(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        worker_with(succeed, **wrong)


@pytest.mark.parametrize("wrong", [{"base": -1}, {"cap": timedelta(seconds=1)}, {"base": float("nan")}])
def test_a_backoff_is_in_seconds(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="backoff: "):
        Backoff(**wrong)


async def test_a_time_to_wait_is_a_number_of_seconds_or_a_timedelta(plane: Plane, tenant: Tenant) -> None:
    assert RetryLater("later", after=timedelta(minutes=2)).after == 120
    effect = await request_effect(plane, tenant.tenant_id)

    async def fail(_: Delivery) -> None:
        raise RetryLater("429", after="60")  # type: ignore[arg-type]

    assert await worker_with(fail, backoff=Backoff(base=1000, cap=1000)).drain(plane) == 1
    stored = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (stored.retry_count, stored.error_details["type"]) == (1, "TypeError")
    assert "after is '60'" in stored.error_details["message"]


async def test_the_first_requests_of_a_type_do_not_wait_for_each_other(
    plane: Plane, tenant: Tenant, dsn: str, admin: psycopg.Connection
) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
    with pytest.raises(ZeroDivisionError):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.effects.request(run, "TEST", spec={}, idempotency_key="open")
            await tx.flush()
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as other:
                asked = other.effects.request(run, "TEST", spec={}, idempotency_key="committed")
            assert await worker_with(succeed).drain(plane) == 1  # it has left a mark of its own
            raise ZeroDivisionError
    assert (await get_effect(plane, tenant.tenant_id, asked.id)).status == "EXECUTED"


async def test_housekeeping_is_one_workers_at_a_time(plane: Plane, tenant: Tenant) -> None:
    async with plane.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT persistence.refresh_projections()")
        assert await Housekeeping().round(plane) is None
    assert await Housekeeping().round(plane) == 0
    with pytest.raises(ConfigurationError, match="retention: 0:00:00 is less than an hour"):
        Housekeeping(retention=timedelta(0))


async def test_what_kills_its_worker_takes_nobody_with_it(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    """Six entries that were held together whenever the worker died: the last attempt of each is made alone, and only the culprit's is in vain."""
    effects = [await request_effect(plane, tenant.tenant_id, f"{number}") for number in range(6)]
    for _ in range(2):
        assert len(await queue_of(plane).claim({"TEST": 6}, lease=60)) == 6
        let_time_pass(admin)  # their worker was lost
    beside: list[int] = []
    ran: list[str] = []
    under_way = 0

    async def handler(delivery: Delivery) -> None:
        nonlocal under_way
        under_way += 1
        beside.append(under_way)
        ran.append(delivery.idempotency_key)
        await asyncio.sleep(0.01)
        under_way -= 1
        if delivery.effect_id == effects[0].id:
            raise PermanentFailure("the culprit")

    await worker_with(handler, max_attempts=3, concurrency=6).drain(plane)
    assert sorted(ran) == sorted(effect.idempotency_key for effect in effects)
    assert set(beside) == {1}
    statuses = [(await get_effect(plane, tenant.tenant_id, effect.id)).status for effect in effects]
    assert statuses == ["DEAD_LETTER"] + ["EXECUTED"] * 5


async def test_a_worker_that_stops_before_a_last_attempt_hands_it_back(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    await request_effect(plane, tenant.tenant_id, "lost")
    assert len(await queue_of(plane).claim({"TEST": 1}, lease=60)) == 1
    let_time_pass(admin)
    begun, stop = asyncio.Event(), asyncio.Event()

    async def slow(_: Delivery) -> None:
        begun.set()
        await asyncio.sleep(60)

    async def quick(_: Delivery) -> None:
        return None

    worker = Worker(name="tester", listen=False, grace=0.1, poll_interval=0.05)
    worker.handler("OTHER")(slow)
    worker.handler("TEST", max_attempts=2)(quick)
    admin.execute("UPDATE persistence.outbox_queue SET due_at = now() + interval '1 hour' WHERE effect_type = 'TEST'")
    await request_effect(plane, tenant.tenant_id, "busy", "OTHER")
    working = asyncio.create_task(worker.run(plane, stop))
    await begun.wait()
    admin.execute("UPDATE persistence.outbox_queue SET due_at = now() WHERE effect_type = 'TEST'")
    while admin.execute(
        "SELECT count(*) FROM persistence.outbox_queue WHERE effect_type = 'TEST' AND leased_by = 'tester'"
    ).fetchone() != (1,):
        await asyncio.sleep(0.01)
    stop.set()  # while it waits for the other to end
    await working
    assert admin.execute("SELECT attempts, lease_token FROM persistence.outbox_queue WHERE effect_type = 'TEST'").fetchone() == (
        1,
        None,
    )
    assert await worker_with(quick, max_attempts=2).drain(plane) == 1
