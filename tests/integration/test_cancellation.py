"""The life of parts: what begins, goes on and ends with a run, also where two do it at once."""

import asyncio
from uuid import UUID

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.errors import InvalidInput, InvalidTransition, PersistenceError
from persistence.models import Effect, NewSignal, Run, Tenant
from persistence.outbox import Delivery, PermanentFailure, RetryLater, Worker
from persistence.outbox.queue import OutboxQueue, Settlement
from tests.helpers import ACTOR, get_effect, let_time_pass, start_run, worker_with

ERROR = {"message": "withdrawn"}


async def reread(plane: Plane, tenant: Tenant, run: Run) -> Run:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        return await tx.runs.get(run.id)


async def cancel(plane: Plane, tenant: Tenant, run: Run) -> None:
    async with plane.transaction(tenant.tenant_id, actor="user:ada", source="desk") as tx:
        tx.runs.cancel(await tx.runs.get(run.id), ERROR)


async def statuses(plane: Plane, tenant: Tenant, run_id: UUID) -> dict[str, list[str]]:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        return {
            "steps": [step.status for step in await tx.steps.all(run_id=run_id)],
            "calls": [call.status for call in await tx.tool_calls.all(run_id=run_id)],
            "effects": [effect.status for effect in await tx.effects.all(run_id=run_id)],
            "runs": [run.status for run in await tx.runs.all(parent_run_id=run_id)],
        }


async def until_somebody_waits(dsn: str) -> None:
    """Until another session of this login waits for a lock."""
    connection = await asyncpg.connect(dsn)
    try:
        while not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = current_user AND wait_event_type = 'Lock')"
        ):
            await asyncio.sleep(0.01)
    finally:
        await connection.close()


async def busy_run(plane: Plane, tenant: Tenant) -> Run:
    """With open and closed steps and calls, waiting and ordered effects, a child with a child of its own."""
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="order")
        tx.steps.schedule(run, step_type="later")
        step = tx.steps.start(run, step_type="now")
        tx.tool_calls.start(step, tool_name="slow")
        tx.tool_calls.request(step, tool_name="next")
        tx.effects.request(step, "TEST", spec={}, idempotency_key="plain")
        tx.effects.request(run, "TEST", spec={}, idempotency_key="first", ordering_key="k")
        tx.effects.request(run, "TEST", spec={}, idempotency_key="second", ordering_key="k")
        done = tx.steps.complete(tx.steps.start(run, step_type="before"))
        tx.effects.request(done, "TEST", spec={}, idempotency_key="of what is done")
        child = tx.runs.start(run, run_type="child")
        tx.steps.suspend(tx.steps.start(child, step_type="waits"))
        tx.effects.request(child, "TEST", spec={}, idempotency_key="of the child")
        grandchild = tx.runs.start(child, run_type="grandchild")
        tx.runs.fail(grandchild, ERROR)
    return run


async def test_cancelling_a_run_cancels_all_that_is_open_in_it(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    run = await busy_run(plane, tenant)
    await cancel(plane, tenant, run)
    assert await statuses(plane, tenant, run.id) == {
        "steps": ["CANCELLED", "CANCELLED", "COMPLETED"],
        "calls": ["CANCELLED", "CANCELLED"],
        "effects": ["CANCELLED"] * 4,
        "runs": ["CANCELLED"],
    }
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert {run.status for run in await tx.runs.all()} == {"CANCELLED"}, (
            "the failed grandchild, too: it cannot be retried any more"
        )
        assert {effect.status for effect in await tx.effects.all()} == {"CANCELLED"}
        assert {entry.status for entry in await tx.outbox.all()} == {"CANCELLED"}
        events = {event.id: event for event in await tx.events.all(correlation_id=run.correlation_id)}
        cancelled = [event for event in events.values() if event.event_type.endswith("_CANCELLED")]
        assert len(cancelled) == 1 + 2 + 2 + 4 + 1 + 1 + 1 + 1
        for event in cancelled:
            assert (event.actor, event.source) == ("user:ada", "desk")
            cause = events[event.causation_id]
            assert cause.event_type == ("RUN_CANCELLED" if event.aggregate_id != run.id else "RUN_STARTED")
        step = next(e for e in cancelled if e.event_type == "STEP_CANCELLED")
        assert step.event_data["error_details"]["message"] == f"run {events[step.causation_id].aggregate_id} was cancelled"
    assert admin.execute("SELECT count(*) FROM outbox_queue").fetchone() == (0,)

    delivered = []

    async def deliver(delivery: Delivery) -> None:
        delivered.append(delivery.idempotency_key)

    assert await worker_with(deliver).drain(plane) == 0
    assert delivered == []


async def test_a_run_cannot_end_well_over_open_parts(plane: Plane, tenant: Tenant) -> None:
    run = await busy_run(plane, tenant)
    for way in ("STEP", "TOOL_CALL", "RUN"):
        with pytest.raises(InvalidTransition, match=f"RUN {run.id} cannot complete: its {way} .* is (PENDING|RUNNING|WAITING)"):
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                tx.runs.complete(await tx.runs.get(run.id))
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            if way == "STEP":  # a failed step may leave its calls open
                for step in await tx.steps.all(run_id=run.id, status=["PENDING", "RUNNING"]):
                    tx.steps.fail(step, ERROR)
            elif way == "TOOL_CALL":
                for call in await tx.tool_calls.all(run_id=run.id):
                    tx.tool_calls.cancel(call)
            else:
                for child in await tx.runs.all(parent_run_id=run.id):
                    tx.runs.fail(child, ERROR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.runs.complete(await tx.runs.get(run.id))
    assert (await reread(plane, tenant, run)).status == "COMPLETED"
    assert set((await statuses(plane, tenant, run.id))["effects"]) == {"PENDING"}, "effects are what a run leaves behind"


async def test_who_ends_a_run_may_say_what_becomes_of_its_parts(plane: Plane, tenant: Tenant) -> None:
    run = await busy_run(plane, tenant)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.runs.complete(await tx.runs.get(run.id), open_parts="cancel")
    assert await statuses(plane, tenant, run.id) == {
        "steps": ["CANCELLED", "CANCELLED", "COMPLETED"],
        "calls": ["CANCELLED", "CANCELLED"],
        "effects": ["PENDING"] * 4,
        "runs": ["CANCELLED"],
    }


async def test_a_step_ends_with_its_calls(plane: Plane, tenant: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)
    with pytest.raises(InvalidTransition, match=r"STEP .* cannot complete: its TOOL_CALL .* is RUNNING"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            step = tx.steps.start(run, step_type="s")
            tx.tool_calls.start(step, tool_name="t")
            tx.steps.complete(step)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        step = tx.steps.start(run, step_type="s")
        tx.tool_calls.start(step, tool_name="t")
        tx.steps.complete(step, open_parts="cancel")
        other = tx.steps.start(run, step_type="s")
        tx.tool_calls.start(other, tool_name="t")
        tx.effects.request(other, "TEST", spec={}, idempotency_key="of the step")
        tx.steps.cancel(other)
    found = await statuses(plane, tenant, run.id)
    assert (found["calls"], found["effects"]) == (["CANCELLED", "CANCELLED"], ["CANCELLED"])


@pytest.mark.parametrize("end", ["complete", "cancel", "fail"])
async def test_nothing_begins_in_what_has_ended(plane: Plane, tenant: Tenant, end: str) -> None:
    run = await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        failed = tx.steps.fail(tx.steps.start(run, step_type="s"), ERROR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        fresh = await tx.runs.get(run.id)
        ended = tx.runs.fail(fresh, ERROR) if end == "fail" else getattr(tx.runs, end)(fresh)
    births = (
        lambda tx: tx.steps.start(ended, step_type="s"),
        lambda tx: tx.steps.schedule(ended, step_type="s"),
        lambda tx: tx.steps.record(ended, step_type="s"),
        lambda tx: tx.steps.retry(failed),
        lambda tx: tx.effects.request(ended, "TEST", spec={}, idempotency_key="late"),
        lambda tx: tx.effects.request_many(ended, "TEST", {"late": {}}),
        lambda tx: tx.checkpoints.save(ended, {}),
        lambda tx: tx.runs.start(ended, run_type="child"),
        lambda tx: tx.tool_calls.start(failed, tool_name="t"),
    )
    for birth in births:
        with pytest.raises(
            InvalidTransition, match=f"cannot begin or go on: its RUN {run.id} is {ended.status}|its STEP .* is FAILED"
        ):
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                birth(tx)
    # within one batch, too: what comes after the end is refused, what comes before it is not
    with pytest.raises(InvalidTransition, match="cannot begin"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            quick = tx.runs.start(run_type="quick")
            over = tx.runs.complete(quick)
            tx.steps.record(over, step_type="s")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        quick = tx.runs.start(run_type="quick")
        tx.steps.record(quick, step_type="s")
        tx.effects.request(quick, "TEST", spec={}, idempotency_key="in time")
        tx.runs.complete(quick)


async def test_beginning_and_ending_at_the_same_moment(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    """Whoever comes second sees the first: no order leaves an open part in a run that has ended."""

    async def begin(run: Run) -> str:
        try:
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                await tx.runs.count()  # a transaction of several statements
                step = tx.steps.start(run, step_type="s")
                await tx.flush()
                await asyncio.sleep(0)
                tx.effects.request(step, "TEST", spec={}, idempotency_key=f"of {step.id}")
        except InvalidTransition:
            return "refused"
        return "begun"

    async def end(run: Run, how: str) -> str:
        try:
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                getattr(tx.runs, how)(run)
        except InvalidTransition:
            return "refused"
        return "ended"

    outcomes = set()
    for number in range(40):
        run = await start_run(plane, tenant.tenant_id)
        how = ("complete", "cancel")[number % 2]
        parts = [begin(run), end(run, how), begin(run)]
        outcomes.add((how, *await asyncio.gather(*(parts if number % 4 < 2 else reversed(parts)))))
    assert len(outcomes) > 1
    [broken] = admin.execute(
        """
        SELECT count(*)
        FROM runs AS r
        LEFT JOIN steps AS s ON s.tenant_id = r.tenant_id AND s.run_id = r.id
        LEFT JOIN effects AS e ON e.tenant_id = r.tenant_id AND e.run_id = r.id
        WHERE r.status IN ('COMPLETED', 'CANCELLED')
          AND (s.status = 'RUNNING' OR (r.status = 'CANCELLED' AND e.status = 'PENDING'))
        """
    ).fetchall()
    assert broken == (0,)


async def leased(plane: Plane, tenant: Tenant, queue: OutboxQueue) -> tuple[Run, Effect, Delivery]:
    run = await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        effect = tx.effects.request(run, "TEST", spec={}, idempotency_key=str(run.id))
    [delivery] = await queue.claim({"TEST": 10}, 60)
    await cancel(plane, tenant, run)
    return run, effect, delivery


async def test_an_effect_under_lease_is_marked_and_its_worker_is_told(plane: Plane, tenant: Tenant) -> None:
    queue = OutboxQueue(plane.pool, plane.settings, "w")
    _, effect, delivery = await leased(plane, tenant, queue)
    marked = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (marked.status, marked.cancel_requested_at is not None) == ("PENDING", True)
    assert not delivery.cancelled
    assert await queue.extend([delivery], 60) == {effect.id}
    assert delivery.cancelled
    await queue.settle([Settlement(delivery, "EXECUTED", '{"id": 7}')])
    done = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (done.status, done.execution_result, done.cancel_requested_at) == ("EXECUTED", {"id": 7}, marked.cancel_requested_at)


@pytest.mark.parametrize("outcome", ["FAILED", "DEAD"])
async def test_a_cancelled_effect_that_fails_is_not_tried_again(plane: Plane, tenant: Tenant, outcome: str) -> None:
    queue = OutboxQueue(plane.pool, plane.settings, "w")
    _, effect, delivery = await leased(plane, tenant, queue)
    await queue.settle([Settlement(delivery, outcome, '{"message": "busy"}', 0.0)])
    ended = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (ended.status, ended.retry_count, ended.error_details) == ("CANCELLED", 1, {"message": "busy"})
    assert await queue.claim({"TEST": 10}, 60) == []


async def test_a_cancelled_effect_whose_worker_died_is_ended_by_the_sweep(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    queue = OutboxQueue(plane.pool, plane.settings, "w")
    _, effect, _ = await leased(plane, tenant, queue)
    let_time_pass(admin)
    assert await queue.claim({"TEST": 10}, 60) == []
    assert await queue.sweep(["TEST"])
    assert (await get_effect(plane, tenant.tenant_id, effect.id)).status == "CANCELLED"
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        last = (await tx.events.of_aggregate(effect.id))[-1]
    assert (last.actor, last.source) == ("system:outbox-worker/sweep", "outbox")
    assert "may have been delivered" in last.event_data["reason"]


async def test_a_cancelled_effect_that_was_not_begun_is_handed_back_and_ended(plane: Plane, tenant: Tenant) -> None:
    queue = OutboxQueue(plane.pool, plane.settings, "w")
    _, effect, delivery = await leased(plane, tenant, queue)
    assert await queue.release([delivery]) == {effect.id}
    assert await queue.claim({"TEST": 10}, 60) == []
    assert await queue.sweep(["TEST"])
    assert (await get_effect(plane, tenant.tenant_id, effect.id)).status == "CANCELLED"


async def test_a_handler_hears_of_the_cancellation_while_it_works(plane: Plane, tenant: Tenant) -> None:
    begun, heard = asyncio.Event(), []

    async def deliver(delivery: Delivery) -> None:
        begun.set()
        await asyncio.wait_for(delivery.cancelled.wait(), 20)
        heard.append(bool(delivery.cancelled))
        raise RetryLater("called off")

    worker = Worker(name="w", lease=300)
    worker.handler("TEST", timeout=30)(deliver)
    stop = asyncio.Event()
    working = asyncio.create_task(worker.run(plane, stop))
    run = await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        effect = tx.effects.request(run, "TEST", spec={}, idempotency_key="k")
    await asyncio.wait_for(begun.wait(), 20)
    await cancel(plane, tenant, run)
    async with asyncio.timeout(30):
        while (await get_effect(plane, tenant.tenant_id, effect.id)).status != "CANCELLED":
            await asyncio.sleep(0.05)
    stop.set()
    await working
    assert heard == [True]


async def test_a_dead_letter_goes_with_its_run_and_lets_its_key_past(plane: Plane, tenant: Tenant) -> None:
    run, other = await start_run(plane, tenant.tenant_id), await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        dead = tx.effects.request(run, "TEST", spec={}, idempotency_key="dead", ordering_key="k")
        tx.effects.request(other, "TEST", spec={}, idempotency_key="behind it", ordering_key="k")
    delivered = []

    async def deliver(delivery: Delivery) -> None:
        if delivery.idempotency_key == "dead":
            raise PermanentFailure("no")
        delivered.append(delivery.idempotency_key)

    await worker_with(deliver).drain(plane)
    assert (await get_effect(plane, tenant.tenant_id, dead.id)).status == "DEAD_LETTER"
    assert delivered == []
    await cancel(plane, tenant, run)
    await worker_with(deliver).drain(plane)
    assert (await get_effect(plane, tenant.tenant_id, dead.id)).status == "CANCELLED"
    assert delivered == ["behind it"]
    assert await plane.dead_letters(tenant.tenant_id, actor=ACTOR).requeue([dead.id]) == set()


async def test_cancelling_beside_claims_and_settlements(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    """Workers claim and settle the effects of runs that are cancelled at any moment: each effect ends once, and none is delivered after its end."""
    delivered: list[str] = []

    async def deliver(delivery: Delivery) -> None:
        await asyncio.sleep(0)
        delivered.append(delivery.idempotency_key)

    runs = []
    for number in range(60):
        run = await start_run(plane, tenant.tenant_id)
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.effects.request_many(
                run, "TEST", {f"{number}/{n}": {} for n in range(3)}, ordering_key="k" if number % 3 == 0 else None
            )
        runs.append(run)
    worker = worker_with(deliver, concurrency=5)

    async def cancel_all() -> None:
        for run in runs:
            await cancel(plane, tenant, run)

    await asyncio.gather(worker.drain(plane), cancel_all())
    await worker.drain(plane)
    rows = dict(admin.execute("SELECT status, count(*) FROM effects GROUP BY status").fetchall())
    assert rows.get("EXECUTED", 0) == len(delivered) == len(set(delivered))
    assert sum(rows.values()) == 180
    assert set(rows) <= {"EXECUTED", "CANCELLED"}
    assert admin.execute("SELECT count(*) FROM outbox_queue").fetchone() == (0,)


async def test_cancelling_twice_and_again_after_a_lost_answer(plane: Plane, tenant: Tenant) -> None:
    run = await busy_run(plane, tenant)
    before = await reread(plane, tenant, run)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.runs.cancel(before)
        batch = tx._buffer
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as again:
        again._buffer = batch
        await again._attempt(again._deliver)
        assert [result.is_new for result in again.results] == [False]
    with pytest.raises(PersistenceError):
        await cancel(plane, tenant, run)


@pytest.mark.parametrize("few", [0, 8])
@pytest.mark.parametrize("how", ["complete", "cancel"])
async def test_what_is_begun_before_an_end_and_comes_in_after_it_is_refused(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection, dsn: str, how: str, few: int
) -> None:
    """A birth waits for somebody else (where its batch goes in together, it has its number in the log already), and meanwhile its run ends."""
    admin.execute("UPDATE canon.size_limits SET one_by_one = %s", (few,))
    run = await start_run(plane, tenant.tenant_id)

    async def begin() -> None:
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.signals.record(NewSignal(source_channel="web", source_id="1", signal_type="order"))
            step = tx.steps.start(run, step_type="late")
            tx.effects.request(step, "TEST", spec={}, idempotency_key="late")

    with pytest.raises(ZeroDivisionError):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.signals.record(NewSignal(source_channel="web", source_id="1", signal_type="order"))
            await tx.flush()
            beginning = asyncio.create_task(begin())
            await until_somebody_waits(dsn)
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as other:
                getattr(other.runs, how)(run)
            raise ZeroDivisionError
    with pytest.raises(InvalidTransition, match="cannot begin or go on: its (RUN|STEP)"):
        await beginning
    assert await statuses(plane, tenant, run.id) == {"steps": [], "calls": [], "effects": [], "runs": []}


async def test_a_run_does_not_end_in_a_snapshot(plane: Plane, tenant: Tenant) -> None:
    """It would not see what began in it meanwhile."""
    run = await start_run(plane, tenant.tenant_id)
    with pytest.raises(InvalidInput, match="transaction_isolation: RUN .* cannot end in a transaction that is repeatable read"):
        async with plane.snapshot(tenant.tenant_id, actor=ACTOR) as tx:
            await tx.runs.get(run.id)
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as other:
                other.steps.start(run, step_type="late")
            tx.runs.cancel(run)
    async with plane.snapshot(tenant.tenant_id, actor=ACTOR) as tx:
        mine = tx.runs.start(run_type="of this transaction")
        await tx.flush()
        tx.runs.complete(mine)
    assert (await reread(plane, tenant, mine)).status == "COMPLETED"


async def test_an_attempt_that_fails_while_its_cancellation_commits_is_recorded(plane: Plane, tenant: Tenant, dsn: str) -> None:
    queue = OutboxQueue(plane.pool, plane.settings, "w")
    run = await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        effect = tx.effects.request(run, "TEST", spec={}, idempotency_key="k")
    [delivery] = await queue.claim({"TEST": 10}, 60)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.runs.cancel(run)
        await tx.flush()
        settling = asyncio.create_task(queue.settle([Settlement(delivery, "FAILED", '{"message": "boom"}', 0.0)]))
        await until_somebody_waits(dsn)
    assert await settling == {effect.id}
    ended = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (ended.status, ended.retry_count, ended.error_details) == ("CANCELLED", 1, {"message": "boom"})
