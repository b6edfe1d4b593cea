"""Questions about a tenant, and their answers."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from persistence import Plane
from persistence.errors import InvalidInput, NotFound, TooLarge
from persistence.models import Effect, Position, Run, Tenant
from persistence.outbox import Backoff, Breaker, Delivery, PermanentFailure, Worker
from persistence.queries import size
from persistence.queries.causation import causation_of
from persistence.queries.comparison import compare_runs
from persistence.queries.dead_letters import DeadLetterFilter, dead_letters
from persistence.queries.effect_diagnosis import EffectDiagnosis, diagnose_effect
from persistence.queries.moment import moment_of
from persistence.queries.outbox_state import attendance, leases, outbox_depth, troubled_destinations
from persistence.queries.overview import overview
from persistence.queries.run_diagnosis import RunDiagnosis, diagnose_run
from persistence.queries.runs import RunFilter, found_runs, list_runs
from persistence.queries.search import search_runs
from persistence.queries.subscription import follow
from persistence.queries.trace import trace_correlation, trace_run
from persistence.queries.waterfall import waterfall
from persistence.sample import play
from tests.helpers import ACTOR, get_effect, request_effect, start_run, worker_with


async def failed_run(plane: Plane, tenant: Tenant, *, retried: int = 0, with_call: bool = True) -> Run:
    error = {"type": "NoIncome", "message": "the register knows no income"}
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="loan", input={"amount": 1})
        step = tx.steps.start(run, step_type="assess")
        for _ in range(retried):
            step = tx.steps.retry(tx.steps.fail(step, error))
        if with_call:
            call = tx.tool_calls.fail(tx.tool_calls.start(step, tool_name="register", args={"who": "Edsger"}), error)
            step = tx.steps.fail(step, error, because=call)
        else:
            step = tx.steps.fail(step, error)
        return tx.runs.fail(run, error, because=step)


async def diagnosed(plane: Plane, tenant: Tenant, run: Run) -> RunDiagnosis:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        return await diagnose_run(tx, run.id)


async def explained(plane: Plane, tenant: Tenant, effect: Effect) -> EffectDiagnosis:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        return await diagnose_effect(tx, effect.id)


async def test_runs_are_listed_newest_first_in_pages_that_join(plane: Plane, tenant: Tenant) -> None:
    runs = [await start_run(plane, tenant.tenant_id) for _ in range(7)]
    seen = []
    after = None
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        while True:
            page = await list_runs(tx, limit=3, after=after)
            seen += [item.id for item in page.items]
            after = page.next
            if after is None:
                break
    assert seen == [run.id for run in reversed(runs)]


async def test_runs_are_filtered_by_status_type_and_time(plane: Plane, tenant: Tenant) -> None:
    early = await start_run(plane, tenant.tenant_id)
    between = datetime.now(UTC) + timedelta(milliseconds=1)
    while datetime.now(UTC) <= between:
        pass
    failed = await failed_run(plane, tenant)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        for wanted, expected in (
            (RunFilter(status="FAILED"), [failed.id]),
            (RunFilter(run_type="test"), [early.id]),
            (RunFilter(since=between), [failed.id]),
            (RunFilter(until=between), [early.id]),
            (RunFilter(status="FAILED", run_type="test"), []),
        ):
            assert [item.id for item in (await list_runs(tx, wanted)).items] == expected
        [line] = (await list_runs(tx, RunFilter(status="FAILED"))).items
        assert line.error == "NoIncome: the register knows no income"
        with pytest.raises(InvalidInput, match="status: 'BROKEN' is none of a run"):
            await list_runs(tx, RunFilter(status="BROKEN"))
        with pytest.raises(InvalidInput, match="limit"):
            await list_runs(tx, limit=1001)


async def test_a_run_is_found_by_anything_that_names_it(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        signal = await tx.signals.receive("web:eu", "order-1", "order", {})
        run = tx.runs.start(signal, run_type="order")
        step = tx.steps.start(run, step_type="charge")
        call = tx.tool_calls.start(step, tool_name="bank")
        effect = tx.effects.request(step, "TEST", spec={}, idempotency_key="order-1/mail")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        for text, what in (
            (str(run.id), "run"),
            (str(signal.id), "signal"),
            (str(step.id), "step"),
            (str(call.id), "tool call"),
            (str(effect.id), "effect"),
            (str(effect.last_event_id), "event"),
            (str(run.correlation_id), "correlation"),
            ("web:eu:order-1", "signal"),
            (" order-1/mail ", "idempotency key"),
        ):
            [found] = await search_runs(tx, text)
            assert (found.what, found.run_id) == (what, run.id), text
            assert [line.id for line in (await found_runs(tx, text)).items] == [run.id]
        for nothing in (str(uuid4()), "web:us:order-1", "nothing", ""):
            assert await search_runs(tx, nothing) == []


async def test_nothing_of_another_tenant_is_found(plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    run = await failed_run(plane, tenant)
    effect = await request_effect(plane, tenant.tenant_id, "key-1")
    async with plane.transaction(other.tenant_id, actor=ACTOR) as tx:
        assert await search_runs(tx, str(run.id)) == []
        assert await search_runs(tx, "key-1") == []
        assert (await list_runs(tx)).items == []
        assert await outbox_depth(tx) == []
        for question in (diagnose_run(tx, run.id), diagnose_effect(tx, effect.id), trace_run(tx, run.id), moment_of(tx, run.id)):
            with pytest.raises(NotFound):
                await question
        with pytest.raises(NotFound):
            await causation_of(tx, run.correlation_id)


async def test_a_failed_run_says_which_step_and_which_tool_call(plane: Plane, tenant: Tenant) -> None:
    found = await diagnosed(plane, tenant, await failed_run(plane, tenant, retried=2))
    assert found.conclusion == (
        "The run failed because step 0 assess failed after 2 retries, because its tool call register failed: "
        "NoIncome: the register knows no income."
    )
    [step] = found.failed_steps
    assert step.event is not None
    assert (step.event.event_type, step.retries, step.tool_calls[0].tool_name) == ("STEP_FAILED", 2, "register")
    assert str(found.run.id) in str(found.next)
    assert found.breaks == []


async def test_a_run_that_waits_says_for_what(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="loan")
        tx.steps.suspend(tx.steps.start(run, step_type="sign"), "a signature")
        run = tx.runs.suspend(run, "the customer")
    found = await diagnosed(plane, tenant, run)
    assert found.conclusion == "The run is WAITING: the customer. Step 0 sign is WAITING: a signature."
    assert [step.step_type for step in found.waits_for] == ["sign"]


async def test_a_run_whose_effect_died_says_so(plane: Plane, tenant: Tenant) -> None:
    effect = await request_effect(plane, tenant.tenant_id)

    async def refuse(_: Delivery) -> None:
        raise PermanentFailure("no such mailbox")

    await worker_with(refuse).drain(plane)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.complete(await tx.runs.get(effect.run_id))
    found = await diagnosed(plane, tenant, run)
    assert (
        "1 effect could not be delivered: TEST was given up after 1 attempts, PermanentFailure: no such mailbox."
        in found.conclusion
    )
    assert found.next == f"persistence diagnose effect {effect.id}"


async def test_the_causes_of_a_run_form_a_tree(plane: Plane, tenant: Tenant) -> None:
    run = await failed_run(plane, tenant)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        causation = await causation_of(tx, run.correlation_id)
    assert [(event.event_type, event.depth) for event in causation.events] == [
        ("RUN_STARTED", 0),
        ("STEP_STARTED", 1),
        ("TOOL_CALL_STARTED", 2),
        ("TOOL_CALL_FAILED", 3),
        ("STEP_FAILED", 4),
        ("RUN_FAILED", 5),
    ]
    assert causation.breaks == []


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("DELETE FROM orchestration_events WHERE event_type = 'TOOL_CALL_FAILED'", "which is not in the log"),
        ("UPDATE orchestration_events SET causation_id = NULL WHERE event_type = 'STEP_FAILED'", "STEP_FAILED has no cause"),
        (
            "UPDATE orchestration_events SET causation_id = (SELECT id FROM orchestration_events WHERE event_type = 'RUN_FAILED') "
            "WHERE event_type = 'STEP_STARTED'",
            "STEP_STARTED was recorded before its cause, RUN_FAILED",
        ),
        (
            "UPDATE orchestration_events SET correlation_id = gen_random_uuid() WHERE event_type = 'TOOL_CALL_FAILED'",
            "belongs to another correlation",
        ),
        ("DELETE FROM orchestration_events WHERE event_type = 'STEP_STARTED'", "but the log has no version 1 before it"),
        (
            "DELETE FROM orchestration_events WHERE event_type = 'RUN_FAILED'",
            "its row says version 2, its newest event in this correlation is version 1",
        ),
    ],
)
async def test_a_broken_chain_says_where(plane: Plane, tenant: Tenant, admin: psycopg.Connection, fault: str, what: str) -> None:
    run = await failed_run(plane, tenant)
    admin.execute("SET session_replication_role = replica")
    admin.execute(fault)
    found = await diagnosed(plane, tenant, run)
    assert any(what in broken.what for broken in found.breaks), [broken.what for broken in found.breaks]
    assert "chain of causes is broken" in found.conclusion


async def test_an_effect_says_why_it_has_not_happened(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    effect = await request_effect(plane, tenant.tenant_id, "one")
    due = await explained(plane, tenant, effect)
    assert (due.state, due.next) == ("due", None)
    assert "the next worker that is free takes it" in due.conclusion

    admin.execute("UPDATE outbox_queue SET due_at = now() - interval '1 minute'")
    never = await explained(plane, tenant, effect)
    assert never.state == "no worker"
    assert "has been seen yet" in never.conclusion
    admin.execute("UPDATE outbox_streams SET handled_at = now() - interval '6 minutes'")
    unattended = await explained(plane, tenant, effect)
    assert unattended.state == "no worker"
    assert unattended.next == "start a worker with a handler for TEST"
    admin.execute("UPDATE outbox_streams SET handled_at = now()")

    await plane.limits.set("TEST", tenant_id=tenant.tenant_id, max_concurrency=0, actor="user:op")
    assert "TEST: 0 at a time" in (await explained(plane, tenant, effect)).conclusion
    await plane.limits.set("TEST", tenant_id=tenant.tenant_id, actor="user:op")

    admin.execute(
        "UPDATE outbox_queue SET leased_until = now() + interval '1 minute', leased_by = 'w-7', attempts = 1, lease_token = gen_random_uuid()"
    )
    leased = await explained(plane, tenant, effect)
    assert leased.state == "being delivered"
    assert "w-7 is delivering it, attempt 1" in leased.conclusion
    admin.execute("UPDATE outbox_queue SET leased_until = NULL, leased_by = NULL, attempts = 0, lease_token = NULL")

    admin.execute("DELETE FROM outbox_queue")
    lost = await explained(plane, tenant, effect)
    assert (lost.state, lost.next) == ("broken", "persistence fit")


async def test_an_effect_that_failed_says_when_it_is_tried_again(plane: Plane, tenant: Tenant) -> None:
    effect = await request_effect(plane, tenant.tenant_id)

    async def fail(_: Delivery) -> None:
        raise ConnectionError("busy")

    worker = worker_with(fail, backoff=Backoff(base=3600, cap=7200), breaker=None)
    await worker.drain(plane)
    found = await explained(plane, tenant, effect)
    assert found.state == "waiting"
    assert "1 attempt failed, the last with ConnectionError: busy. It will be retried at" in found.conclusion


async def test_an_effect_whose_destination_rests_says_until_when(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        effect = tx.effects.request(run, "TEST", spec={}, idempotency_key="k", destination="bank.example")

    async def fail(_: Delivery) -> None:
        raise ConnectionError("busy")

    await worker_with(fail, backoff=Backoff(base=0.001, cap=0.001), breaker=Breaker(failures=1, rest=600)).drain(plane)
    found = await explained(plane, tenant, effect)
    assert found.state == "destination rests"
    assert "times in a row and is left in peace until" in found.conclusion
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        [destination] = await troubled_destinations(tx)
    assert (destination.destination, destination.rests) == ("bank.example", True)


async def test_an_effect_behind_another_of_its_key_names_it(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        first, second = (tx.effects.request(run, "TEST", spec={}, idempotency_key=key, ordering_key="acct-1") for key in ("a", "b"))
    found = await explained(plane, tenant, second)
    assert (found.state, found.next) == ("waiting for its turn", f"persistence diagnose effect {first.id}")
    assert f"It waits behind effect {first.id} of the ordering key 'acct-1'." == found.conclusion


async def test_an_effect_that_is_over_says_how(plane: Plane, tenant: Tenant) -> None:
    delivered, dead, cancelled = [await request_effect(plane, tenant.tenant_id, key) for key in ("good", "bad", "unwanted")]
    async with plane.transaction(tenant.tenant_id, actor="user:ada") as tx:
        tx.effects.cancel(await tx.effects.get(cancelled.id), "not wanted")

    async def deliver(delivery: Delivery) -> None:
        if delivery.idempotency_key == "bad":
            raise PermanentFailure("no such mailbox")

    await worker_with(deliver).drain(plane)
    assert (await explained(plane, tenant, delivered)).conclusion.startswith("It was delivered at")
    gone = await explained(plane, tenant, dead)
    assert "after 1 attempt: PermanentFailure: no such mailbox." in gone.conclusion
    assert f"persistence dlq requeue {dead.id}" in str(gone.next)
    assert (await explained(plane, tenant, cancelled)).conclusion.endswith("by user:ada: not wanted.")
    await plane.dead_letters(tenant.tenant_id, actor="user:op").discard([dead.id], "sent by hand")
    over = await explained(plane, tenant, dead)
    assert over.state == "discarded"
    assert over.conclusion.endswith("by user:op: sent by hand.")


async def test_two_runs_part_where_they_differ(plane: Plane, tenant: Tenant) -> None:
    async def run_with(steps: list[tuple[str, int]], effects: int) -> Run:
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            run = tx.runs.start(run_type="loan", input={"n": 1})
            for name, output in steps:
                tx.steps.complete(tx.steps.start(run, step_type=name), {"n": output})
            for number in range(effects):
                tx.effects.request(run, "MAIL", spec={}, idempotency_key=f"{run.id}-{number}")
            return tx.runs.complete(run, {"done": True})

    left = await run_with([("a", 1), ("b", 1), ("c", 1)], 1)
    right = await run_with([("a", 1), ("b", 2), ("x", 1), ("c", 1)], 2)
    twin = await run_with([("a", 1), ("b", 1), ("c", 1)], 1)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        found = await compare_runs(tx, left.id, right.id)
        alike = await compare_runs(tx, left.id, twin.id)
    assert [(p.left and p.left.step_type, p.right and p.right.step_type, list(p.differs)) for p in found.steps] == [
        ("a", "a", []),
        ("b", "b", ["output_result"]),
        (None, "x", ["missing"]),
        ("c", "c", []),
    ]
    assert found.parts_at == 1
    assert found.effects == [("MAIL", "PENDING", 1, 2)]
    assert (alike.parts_at, list(alike.differs), alike.effects) == (None, [], [])


async def test_a_waterfall_has_a_bar_for_each_part(plane: Plane, tenant: Tenant) -> None:
    run = await failed_run(plane, tenant)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        found = waterfall(await trace_run(tx, run.id))
    assert [(bar.kind, bar.depth, bar.status) for bar in found.bars] == [
        ("run", 0, "FAILED"),
        ("step", 1, "FAILED"),
        ("tool call", 2, "FAILED"),
    ]
    for bar in found.bars:
        at, long = found.place(bar)
        assert 0 <= at <= at + long <= 1.0001


async def test_a_run_is_seen_as_it_stood_after_each_event(plane: Plane, tenant: Tenant) -> None:
    run = await failed_run(plane, tenant)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        moments = [await moment_of(tx, run.id, number) for number in range(1, 7)]
        last = await moment_of(tx, run.id)
        with pytest.raises(InvalidInput, match="moment: 7 is not between 1 and 6"):
            await moment_of(tx, run.id, 7)
    assert [(m.event.event_type, [part.status for part in m.parts]) for m in moments] == [
        ("RUN_STARTED", ["RUNNING"]),
        ("STEP_STARTED", ["RUNNING", "RUNNING"]),
        ("TOOL_CALL_STARTED", ["RUNNING", "RUNNING", "RUNNING"]),
        ("TOOL_CALL_FAILED", ["RUNNING", "RUNNING", "FAILED"]),
        ("STEP_FAILED", ["RUNNING", "FAILED", "FAILED"]),
        ("RUN_FAILED", ["FAILED", "FAILED", "FAILED"]),
    ]
    assert last == moments[-1]
    assert [part.is_moved for part in last.parts] == [True, False, False]


async def test_the_overview_counts_what_is_there(plane: Plane, tenant: Tenant) -> None:
    await play(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        found = await overview(tx)
        depth = await outbox_depth(tx)
        seen = await attendance(tx)
        held = await leases(tx)
    assert (found.runs["COMPLETED"], found.runs["FAILED"], found.runs["RUNNING"]) == (4, 1, 0)
    assert found.events["RUN_STARTED"] == 5
    loans, *_ = [of_type for of_type in found.types if of_type.run_type == "loan-application"]
    assert (loans.run_type, loans.runs, loans.failed) == ("loan-application", 5, 1)
    offers = next(of_type for of_type in depth if of_type.effect_type == "SAMPLE_SEND_OFFER")
    assert (offers.effect_type, offers.due, offers.dead) == ("SAMPLE_SEND_OFFER", 3, 0)
    assert offers.lag_seconds >= 0
    assert [(item.is_attended, item.handled_at) for item in seen] == [(False, None)] * 2  # no worker has been here
    assert held == []


async def test_dead_letters_come_in_pages_that_join(plane: Plane, tenant: Tenant) -> None:
    effects = [await request_effect(plane, tenant.tenant_id, f"key-{n}") for n in range(5)]

    async def refuse(_: Delivery) -> None:
        raise PermanentFailure("no")

    worker = Worker(name="tester", listen=False, settle_batch=1)
    worker.handler("TEST")(refuse)
    await worker.drain(plane)
    seen, after = [], None
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        while True:
            page = await dead_letters(tx, DeadLetterFilter(), limit=2, after=after)
            seen += [entry.id for entry in page.items]
            after = page.next
            if after is None:
                break
        with pytest.raises(InvalidInput, match="no place among the dead letters"):
            await dead_letters(tx, DeadLetterFilter(), after="yesterday")
    assert sorted(seen) == sorted(effect.id for effect in effects)


async def test_following_the_log_misses_nothing_and_repeats_nothing(plane: Plane, tenant: Tenant) -> None:
    await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tail, here = await tx.events.newest(2)
        whole = await tx.events.read_each(Position())
    assert [event.id for event, _ in tail] == [event.id for event, _ in whole[-2:]]
    assert [str(place) for _, place in tail] == [str(place) for _, place in whole[-2:]]
    seen = []
    reader = follow(plane, tenant.tenant_id, here, actor=ACTOR, types={"RUN_STARTED"}, pause=0.001)
    late = plane.transaction(tenant.tenant_id, actor=ACTOR)
    async with late:
        first = late.runs.start(run_type="late")
        await late.flush()  # takes its sequence number before the other, and commits after it
        second = await start_run(plane, tenant.tenant_id)
        page, place = await anext(reader)
        assert page == []
    while len(seen) < 2:
        page, place = await anext(reader)
        seen += [event.aggregate_id for event, _ in page]
    assert seen == [first.id, second.id]
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.events.read_each(place) == []
    await reader.aclose()


async def test_a_delivered_effect_is_still_there_to_ask_about(plane: Plane, tenant: Tenant) -> None:
    effect = await request_effect(plane, tenant.tenant_id)

    async def succeed(_: Delivery) -> str:
        return "done"

    await worker_with(succeed).drain(plane)
    assert (await get_effect(plane, tenant.tenant_id, effect.id)).status == "EXECUTED"
    assert (await explained(plane, tenant, effect)).state == "delivered"


async def test_a_run_that_is_being_written_is_not_called_broken(plane: Plane, tenant: Tenant) -> None:
    """An answer of several statements is of one moment, whatever is written between them."""
    run = await start_run(plane, tenant.tenant_id)
    async with plane.snapshot(tenant.tenant_id, actor=ACTOR) as tx:
        await tx.runs.get(run.id)
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as other:
            other.runs.complete(run)
        found = await diagnose_run(tx, run.id)
    assert (found.run.status, found.breaks) == ("RUNNING", [])


async def test_a_dead_letter_is_counted_behind_however_many_wait_for_it(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        tx.effects.request_many(run, "TEST", {f"key-{number}": {} for number in range(20)})
    admin.execute("UPDATE outbox_queue SET due_at = 'infinity', held_by = 'KEY'")
    admin.execute(
        "UPDATE outbox_queue SET held_by = 'DEAD_LETTER', died_at = now() WHERE id = (SELECT max(id::text)::uuid FROM outbox_queue)"
    )
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        [depth] = await outbox_depth(tx, most=5)
    assert (depth.held, depth.dead) == (5, 1)


async def test_what_the_run_failed_with_is_said_also_when_a_step_failed_before(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="loan")
        tx.steps.fail(tx.steps.start(run, step_type="optional"), {"type": "Flaky", "message": "no matter"})
        run = tx.runs.fail(run, {"type": "BudgetExceeded", "message": "too dear"})
    found = await diagnosed(plane, tenant, run)
    assert found.conclusion == "The run failed: BudgetExceeded: too dear. Before that step 0 optional had failed: Flaky: no matter."


async def test_a_story_that_is_too_long_for_one_piece_is_refused(
    plane: Plane, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await failed_run(plane, tenant)
    monkeypatch.setattr(size, "MOST_EVENTS", 5)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        with pytest.raises(TooLarge, match="more than 5 events"):
            await size.check_size(tx, run.id)


async def test_a_group_without_error_or_destination_is_chosen_alone(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        nowhere = tx.effects.request(run, "TEST", spec={}, idempotency_key="a")
        tx.effects.request(run, "TEST", spec={}, idempotency_key="b", destination="there")

    async def refuse(_: Delivery) -> None:
        raise PermanentFailure("no")

    await worker_with(refuse).drain(plane)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        page = await dead_letters(tx, DeadLetterFilter(destination=""))
    assert [entry.id for entry in page.items] == [nowhere.id]


async def test_a_trace_has_every_event_that_it_counts(plane: Plane, tenant: Tenant) -> None:
    """An approval that came later, in the run's correlation, moved it: it is in the run's trace; so are saved states."""
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        order = await tx.signals.receive("web", "1", "order", {})
        run = tx.runs.start(order, run_type="order")
        step = tx.steps.start(run, step_type="wait")
        tx.checkpoints.save(step, {"n": 1}, label="before")
        run = tx.runs.suspend(run, "approval")
    async with plane.transaction(tenant.tenant_id, actor="user:boss") as tx:
        approval = await tx.signals.receive("desk", "1", "approval", {"ok": True}, correlation_id=run.correlation_id)
        run = tx.runs.resume(await tx.runs.get(run.id), because=approval)
        tx.signals.process(approval, because=run)
        other = tx.runs.start(approval, run_type="other")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        trace = await trace_run(tx, run.id)
        whole = await trace_correlation(tx, run.correlation_id)

    def lives(nodes: Any) -> list[str]:
        return [event.event_type for node in nodes for event in node.life] + [e for node in nodes for e in lives(node.children)]

    assert sorted(lives(trace.roots)) == sorted(
        [
            "SIGNAL_RECEIVED",
            "RUN_STARTED",
            "STEP_STARTED",
            "CHECKPOINT_SAVED",
            "RUN_SUSPENDED",
            "SIGNAL_RECEIVED",
            "RUN_RESUMED",
            "SIGNAL_PROCESSED",
        ]
    )
    assert trace.events == len(lives(trace.roots))
    assert whole.events == len(lives(whole.roots)) == trace.events + 1
    assert str(other.id) not in trace.model_dump_json()
