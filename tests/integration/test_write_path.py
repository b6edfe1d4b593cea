"""Appending: all or nothing, once for each id, refused by name."""

from datetime import datetime
from uuid import uuid4

import psycopg
import pytest

from persistence import Plane
from persistence.errors import (
    Conflict,
    DeliveryUnderway,
    IdempotencyMismatch,
    InvalidInput,
    InvalidTransition,
    NotFound,
    SignalKnown,
    TooLarge,
    UnknownEventType,
)
from persistence.models import NewEvent, NewSignal, Step, Tenant, new_id
from persistence.outbox.queue import OutboxQueue
from tests.helpers import ACTOR, TENANT_EVENTS, get_effect, request_effect, start_run


def run_started(**changes: object) -> NewEvent:
    facts = {
        "id": new_id(), "event_type": "RUN_STARTED", "aggregate_id": new_id(), "aggregate_version": 1, "event_data": {"run_type": "test"},
        "correlation_id": new_id(),
    }  # fmt: skip
    return NewEvent(**{**facts, **changes})


async def append(plane: Plane, tenant: Tenant, *events: NewEvent) -> list[bool]:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.events.append(*events)
    return [result.is_new for result in tx.results]


async def test_one_transaction_carries_correlation_causation_and_actor(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:planner", source="loans") as tx:
        signal = await tx.signals.receive("web", "1", "loan.application", {"amount": 7})
        run = tx.runs.start(signal, run_type="loan", input={"amount": 7})
        step = tx.steps.start(run, step_type="assess")
        call = tx.tool_calls.start(step, tool_name="register", args=["x"])
        call = tx.tool_calls.complete(call, {"found": True}, actor="external:register")
        step = tx.steps.complete(step, {"ok": True}, because=call)
        effect = tx.effects.request(step, "TEST", spec={"to": "x"}, idempotency_key="offer-1")
        saved = tx.checkpoints.save(step, {"cursor": 1}, label="after assess")
        run = tx.runs.complete(run, {"ok": True}, because=step)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        events = {e.event_type: e for e in (await tx.events.list(correlation_id=signal.correlation_id)).items}
        assert len(events) == 9
        causes = {name: next((o.event_type for o in events.values() if o.id == e.causation_id), None) for name, e in events.items()}
        assert causes == {
            "SIGNAL_RECEIVED": None,
            "RUN_STARTED": "SIGNAL_RECEIVED",
            "STEP_STARTED": "RUN_STARTED",
            "TOOL_CALL_STARTED": "STEP_STARTED",
            "TOOL_CALL_COMPLETED": "TOOL_CALL_STARTED",
            "STEP_COMPLETED": "TOOL_CALL_COMPLETED",
            "EFFECT_REQUESTED": "STEP_COMPLETED",
            "CHECKPOINT_SAVED": "STEP_COMPLETED",
            "RUN_COMPLETED": "STEP_COMPLETED",
        }
        assert {e.actor for name, e in events.items() if name != "TOOL_CALL_COMPLETED"} == {"agent:planner"}
        assert events["TOOL_CALL_COMPLETED"].actor == "external:register"
        assert {e.source for e in events.values()} == {"loans"}
        stored_run, stored_step = await tx.runs.get(run.id), await tx.steps.get(step.id)
        assert (stored_run.status, stored_run.version, stored_run.output_result) == ("COMPLETED", 2, {"ok": True})
        assert stored_run.started_at == stored_run.completed_at >= stored_run.created_at
        assert (stored_step.step_index, stored_step.output_result) == (0, {"ok": True})
        assert (await tx.tool_calls.get(call.id)).tool_result == {"found": True}
        assert (await tx.outbox.get(effect.id)).payload == {"to": "x", "idempotency_key": "offer-1"}
        latest = await tx.checkpoints.latest(run)
        assert latest is not None
        assert (latest.id, latest.state) == (saved.id, {"cursor": 1})
        assert "state" not in events["CHECKPOINT_SAVED"].event_data


async def test_what_a_command_returns_is_what_the_database_says(plane: Plane, tenant: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id, input={"a": [1, None]})
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        stored = await tx.runs.get(run.id)
    told = {"created_at", "updated_at", "started_at"}
    assert stored.model_dump(exclude=told) == run.model_dump(exclude=told)


async def test_a_failed_step_is_retried_and_counted(plane: Plane, tenant: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        step = tx.steps.start(run, step_type="flaky")
        step = tx.steps.fail(step, {"message": "no"})
        step = tx.steps.retry(step)
        assert (step.retry_count, step.error_details) == (1, None)
        step = tx.steps.fail(step, {"message": "no again"})
        step = tx.steps.retry(step)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        stored = await tx.steps.get(step.id)
        assert (stored.status, stored.retry_count, stored.error_details, stored.completed_at, stored.version) == (
            "RUNNING",
            2,
            None,
            None,
            5,
        )


async def test_sequence_numbers_follow_the_order_of_the_batch(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        for _ in range(50):
            step = tx.steps.schedule(tx.runs.start(run_type="test"), step_type="work")
            tx.steps.complete(tx.steps.start(step))
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        events = sorted((await tx.events.list(limit=1000)).items, key=lambda event: event.sequence_number)[TENANT_EVENTS:]
        assert [e.id for e in events] == [e.id for e in sorted(events, key=lambda event: event.id)]
        assert [e.event_type for e in events[:4]] == ["RUN_STARTED", "STEP_SCHEDULED", "STEP_STARTED", "STEP_COMPLETED"]


async def test_a_batch_appended_twice_is_answered_as_done(plane: Plane, tenant: Tenant) -> None:
    events = [run_started(), run_started()]
    assert await append(plane, tenant, *events) == [True, True]
    assert await append(plane, tenant, *events) == [False, False]
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert (await tx.events.count(), await tx.runs.count()) == (TENANT_EVENTS + 2, 2)


async def test_a_known_id_with_other_content_is_refused(plane: Plane, tenant: Tenant) -> None:
    event = run_started()
    await append(plane, tenant, event)
    with pytest.raises(IdempotencyMismatch, match="is in the log with other content"):
        await append(plane, tenant, event.model_copy(update={"event_data": {"run_type": "another"}}))
    with pytest.raises(IdempotencyMismatch, match="1 of 2 events are in the log already"):
        await append(plane, tenant, event, run_started())
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.events.count() == TENANT_EVENTS + 1


async def test_a_signal_is_received_once(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        new = [NewSignal(source_channel="web", source_id=str(n), signal_type="order", payload={"n": n}) for n in range(3)]
        first = await tx.signals.receive_many([*new, new[0]])
        assert [s.is_new for s in first[:3]] == [True] * 3
        assert first[3].id == first[0].id
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        again = await tx.signals.receive_many([new[2], NewSignal(source_channel="web", source_id="3", signal_type="order")])
        assert [s.is_new for s in again] == [False, True]
        assert (again[0].id, again[0].correlation_id) == (first[2].id, first[2].correlation_id)
    with pytest.raises(IdempotencyMismatch, match=r"signal \(web, 1\) was received"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            await tx.signals.receive("web", "1", "order", {"n": "another"})


async def test_recording_a_known_signal_is_refused_with_its_id(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        known = await tx.signals.receive("web", "1", "order")
    with pytest.raises(SignalKnown, match=str(known.id)):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.signals.record(NewSignal(source_channel="web", source_id="1", signal_type="order"))


async def test_an_effect_is_requested_once_for_each_key(plane: Plane, tenant: Tenant) -> None:
    first = await request_effect(plane, tenant.tenant_id, "key", to="x")
    run = await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        again = tx.effects.request(run, "TEST", spec={"to": "x"}, idempotency_key="key")
        other = tx.effects.request(run, "TEST", spec={"to": "y"}, idempotency_key="other")
        twin = tx.effects.request(run, "TEST", spec={"to": "y"}, idempotency_key="other")
    assert (again.id, twin.id, again.idempotency_key) == (first.id, other.id, "key"), "what was returned is what is there"
    assert set(tx.existing.values()) == {first.id, other.id}
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert again == await tx.effects.get(first.id)
    with pytest.raises(IdempotencyMismatch, match=f"'key' belongs to effect {first.id}"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.effects.request(run, "TEST", spec={"to": "z"}, idempotency_key="key")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert (await tx.effects.count(), await tx.outbox.count()) == (2, 2)


async def test_what_known_effects_caused_is_caused_by_what_caused_them(plane: Plane, tenant: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)

    async def ask() -> Step:
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            step = tx.steps.start(run, step_type="s")
            first = tx.effects.request(run, "TEST", spec={}, idempotency_key="1", because=step)
            second = tx.effects.request(run, "TEST", spec={}, idempotency_key="2", because=first)
            return tx.steps.complete(step, because=second)

    await ask()
    again = await ask()
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        begun, ended = await tx.events.of_aggregate(again.id)
        assert (ended.event_type, ended.causation_id) == ("STEP_COMPLETED", begun.id)


async def test_an_error_inside_the_block_leaves_nothing(plane: Plane, tenant: Tenant) -> None:
    with pytest.raises(ZeroDivisionError):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.runs.start(run_type="test")
            await tx.runs.count()  # sends it
            tx.runs.start(run_type="test")
            raise ZeroDivisionError
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert (await tx.runs.count(), await tx.events.count()) == (0, TENANT_EVENTS)


async def test_a_read_sees_what_was_buffered_before_it(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        assert (await tx.runs.get(run.id)).status == "RUNNING"
        tx.runs.complete(run)
        assert (await tx.runs.get(run.id)).status == "COMPLETED"


async def test_steps_of_a_run_read_back_are_numbered_on(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        tx.steps.schedule(run, step_type="a")
        tx.steps.schedule(run, step_type="b")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        known = await tx.runs.get(run.id)
        tx.steps.schedule(known, step_type="c")
        tx.steps.schedule(known, step_type="d")
        steps = (await tx.steps.list(run_id=run.id)).items
        assert [(s.step_type, s.step_index) for s in steps] == [("a", 0), ("b", 1), ("c", 2), ("d", 3)]


async def test_steps_go_on_in_later_transactions_with_the_run_of_the_first(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
        tx.steps.start(run, step_type="a")
        await tx.flush()
        tx.steps.start(run, step_type="b")
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        tx.steps.start(run, step_type="c")
        tx.steps.start(run, step_type="d")
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        steps = await tx.steps.all(run_id=run.id)
    assert sorted((step.step_type, step.step_index) for step in steps) == [("a", 0), ("b", 1), ("c", 2), ("d", 3)]


@pytest.mark.parametrize(
    ("event", "error", "message"),
    [
        ({"event_type": "RUN_EXPLODED"}, UnknownEventType, "'RUN_EXPLODED' is no event type"),
        ({"event_type": "RUN_COMPLETED", "event_data": {}}, InvalidTransition, "RUN_COMPLETED cannot be its first event"),
        ({"event_data": {}}, InvalidInput, "run_type is missing"),
        ({"event_data": {"run_type": "x", "input_data": "nul\x00"}}, InvalidInput, "RUN_STARTED.input_data: a NUL character"),
        ({"event_data": {"run_type": "x", "input_data": float("nan")}}, InvalidInput, "RUN_STARTED.input_data: nan"),
        ({"event_data": {"run_type": "x", "colour": 1}}, InvalidInput, "colour"),
        ({"event_data": {"run_type": "x", "input_data": "x" * 1024 * 1024}}, TooLarge, "exceed the limit of 1048576"),
        ({"occurred_at": datetime(2026, 1, 4)}, InvalidInput, "occurred_at: has no time zone"),  # noqa: DTZ001
        (
            {"aggregate_version": 7, "event_type": "RUN_COMPLETED", "event_data": {}, "causation_id": new_id()},
            NotFound,
            "does not exist in this tenant",
        ),
    ],
)
async def test_what_does_not_fit_is_refused_by_name(
    plane: Plane, tenant: Tenant, event: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await append(plane, tenant, run_started(), run_started(**event))
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.events.count() == TENANT_EVENTS


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_batch_events": 10}, "more than 10 events"),
        ({"max_batch_bytes": 4096}, "more than 4096 bytes"),
    ],
)
async def test_limits_are_settings(dsn: str, tenant: Tenant, limits: dict[str, int], message: str) -> None:
    async with Plane(dsn=dsn, **limits) as plane:
        with pytest.raises(TooLarge, match=message):
            await append(plane, tenant, *(run_started() for _ in range(20)))
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            for _ in range(20):
                tx.events.append(run_started())
                await tx.flush()
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            assert await tx.events.count() == TENANT_EVENTS + 20


async def test_the_database_has_the_same_limits(admin: psycopg.Connection, plane: Plane, tenant: Tenant) -> None:
    call = "SELECT * FROM append_events(%s, %s, (SELECT jsonb_agg(jsonb_build_object('id', n)) FROM generate_series(1, %s) AS n))"
    with pytest.raises(psycopg.Error, match="a batch of 10001 events exceeds the limit of 10000") as refused:
        admin.execute(call, (tenant.tenant_id, plane.settings.user_id, 10_001))
    assert refused.value.sqlstate == "PE006"
    with pytest.raises(psycopg.Error, match="events must be a JSON array"):
        admin.execute("SELECT * FROM append_events(%s, %s, '{}')", (tenant.tenant_id, plane.settings.user_id))


async def test_ten_thousand_events_go_in_as_one_batch(plane: Plane, tenant: Tenant) -> None:
    assert all(await append(plane, tenant, *(run_started() for _ in range(10_000))))


async def test_a_stale_object_is_a_conflict_here_and_there(plane: Plane, tenant: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)
    with pytest.raises(Conflict, match="go on with the object that the last command returned"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.runs.suspend(run)
            tx.runs.complete(run)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.runs.suspend(run)
    with pytest.raises(Conflict, match="has a version 2 already"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.runs.complete(run)


async def test_an_effect_can_be_cancelled_until_it_is_being_delivered(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    early, late = await request_effect(plane, tenant.tenant_id, "early"), await request_effect(plane, tenant.tenant_id, "late")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.effects.cancel(early, "changed my mind")
    held = await OutboxQueue(plane.pool, plane.settings, "w").claim({"TEST": 10}, lease=60)
    assert [delivery.effect_id for delivery in held] == [late.id]
    with pytest.raises(DeliveryUnderway, match=str(late.id)):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.effects.cancel(late)
    assert (await get_effect(plane, tenant.tenant_id, early.id)).status == "CANCELLED"
    assert admin.execute("SELECT count(*) FROM outbox_queue").fetchone() == (1,)


async def test_lists_are_paged_and_filtered(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        runs = [tx.runs.start(run_type="odd" if n % 2 else "even") for n in range(25)]
        tx.runs.complete(runs[3])
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        seen, after = [], None
        while True:
            page = await tx.runs.list(limit=10, after=after)
            seen += [run.id for run in page.items]
            after = page.next
            if after is None:
                break
        assert seen == [run.id for run in runs]
        assert await tx.runs.count(run_type="odd", status="RUNNING") == 11
        assert await tx.runs.count(run_type=["odd", "even"]) == 25
        newest = await tx.runs.list(limit=1, newest_first=True)
        assert newest.items[0].id == runs[-1].id
        with pytest.raises(InvalidInput, match="filter 'colour': runs cannot be filtered by it"):
            await tx.runs.list(colour="red")
        with pytest.raises(InvalidInput, match="limit"):
            await tx.runs.list(limit=0)
        assert {r.id for r in await tx.runs.get_many([runs[0].id, runs[1].id, uuid4()])} == {runs[0].id, runs[1].id}


async def test_a_discarded_checkpoint_keeps_its_digest_only(plane: Plane, tenant: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        saved = tx.checkpoints.save(run, {"text": "größe", "n": 1})
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        restored = tx.checkpoints.restore(await tx.checkpoints.get(saved.id))
        tx.checkpoints.discard(restored)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        stored = await tx.checkpoints.get(saved.id)
        assert (stored.status, stored.state, stored.digest, stored.version) == ("DISCARDED", None, saved.digest, 3)


async def test_decide_tries_again_after_a_conflict(plane: Plane, tenant: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)
    interfered = []

    async def body(tx):  # type: ignore[no-untyped-def]
        current = await tx.runs.get(run.id)
        if not interfered:
            interfered.append(1)
            async with plane.transaction(tenant.tenant_id, actor="agent:rival") as rival:
                rival.runs.suspend(current)
        return tx.runs.cancel(current)

    cancelled = await plane.decide(tenant.tenant_id, body, actor=ACTOR)
    assert (cancelled.status, cancelled.version) == ("CANCELLED", 3)


@pytest.mark.parametrize("one_by_one", [0, 3, 8])
async def test_a_part_that_began_and_ended_in_the_batch_is_not_open(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection, one_by_one: int
) -> None:
    """However the events go: beside a step that was recorded whole, another that begins and fails."""
    admin.execute("UPDATE canon.size_limits SET one_by_one = %s", [one_by_one])
    run = await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.steps.record(run, step_type="whole")
        step = tx.steps.start(run, step_type="fails")
        tx.steps.fail(step, {"message": "no"})
        tx.runs.complete(run)
    with pytest.raises(InvalidTransition, match="is WAITING"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            whole = tx.runs.start(run_type="test")
            tx.steps.suspend(tx.steps.start(whole, step_type="waits"))
            tx.runs.complete(whole)
