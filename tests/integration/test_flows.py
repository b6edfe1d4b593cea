"""Flows: what is awaited is done once, waits hold nothing, and what ends them wakes the run in the same transaction."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pydantic import BaseModel

from persistence import Plane
from persistence.errors import (
    ChildFailed,
    ConfigurationError,
    EffectFailed,
    FlowCancelled,
    FlowFailed,
    IdempotencyMismatch,
    InvalidInput,
    StepFailed,
    TimedOut,
)
from persistence.executor import Executor
from persistence.flows import Flow, Flows, Retry, attempt, heartbeat
from persistence.models import Tenant
from persistence.outbox import Delivery, PermanentFailure, Worker
from persistence.queries.run_diagnosis import diagnose_run

ACTOR = "system:test"


class Order(BaseModel):
    id: str
    cents: int = 100


@dataclass
class Quote:
    cents: int


@asynccontextmanager
async def executing(plane: Plane, flows: Flows, **options: Any) -> AsyncIterator[Executor]:
    executor = Executor(flows, poll_interval=0.2, **options)
    stop = asyncio.Event()
    task = asyncio.create_task(executor.run(plane, stop))
    try:
        yield executor
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


async def kinds(plane: Plane, tenant: Tenant, run_id: UUID) -> list[str]:
    """The types of the events of a run, its steps and whatever else is part of it."""
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = await tx.runs.get(run_id)
        return [event.event_type for event in await tx.events.of_correlations(run.correlation_id)]


async def test_steps_are_done_once_and_typed(plane: Plane, tenant: Tenant) -> None:
    flows, calls = Flows(), []

    async def price(order: Order) -> Quote:
        calls.append("price")
        return Quote(order.cents * 2)

    def tax(quote: Quote) -> int:
        calls.append("tax")
        return quote.cents // 5

    @flows.flow("order")
    async def order(run: Flow, given: Order) -> Quote:
        quote = await run.step(price, given)
        assert isinstance(quote, Quote)
        return Quote(quote.cents + await run.step(tax, quote))

    async with executing(plane, flows):
        handle = await plane.flows.start(order, Order(id="1"), tenant, key="order-1")
        assert await handle.result(timeout=20) == Quote(240)
        again = await plane.flows.start(order, Order(id="1"), tenant, key="order-1")
        assert (again.run_id, again.is_new) == (handle.run_id, False)
        assert await again.result(timeout=20) == Quote(240)
        with pytest.raises(IdempotencyMismatch, match="another input"):
            await plane.flows.start(order, Order(id="2"), tenant, key="order-1")
    assert calls == ["price", "tax"]
    assert await kinds(plane, tenant, handle.run_id) == [
        "RUN_CREATED", "RUN_STARTED", "STEP_RECORDED", "STEP_RECORDED", "RUN_COMPLETED",
    ]  # fmt: skip


async def test_a_wait_holds_nothing_and_a_signal_wakes_it(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    flows, calls = Flows(), []

    async def note(word: str) -> None:
        calls.append(word)

    @flows.flow("approval")
    async def approval(run: Flow, given: str) -> str:
        await run.step(note, "before")
        said = await run.signal("approval", key=given)
        await run.step(note, "after")
        return str(said["by"])

    async with executing(plane, flows):
        handle = await plane.flows.start(approval, "order-7", tenant)
        await until_status(handle, "WAITING")
        assert admin.execute("SELECT count(*) FROM run_queue").fetchone() == (0,)
        await plane.flows.signal("approval", tenant, key="order-8", payload={"by": "nobody"})
        await plane.flows.signal("approval", tenant, key="order-7", payload={"by": "ann"})
        assert await handle.result(timeout=20) == "ann"
        early = await plane.flows.start(approval, "order-8", tenant)
        assert await early.result(timeout=20) == "nobody"
    assert calls == ["before", "after"] * 2


async def until_status(handle: Any, status: str) -> None:
    async with asyncio.timeout(20):
        while (await handle.run()).status != status:
            await asyncio.sleep(0.01)


async def test_an_effect_is_delivered_by_a_worker_and_its_result_comes_back(plane: Plane, tenant: Tenant) -> None:
    flows, worker = Flows(), Worker(poll_interval=0.1)

    @worker.handler("PAYMENT")
    async def pay(delivery: Delivery) -> dict[str, Any]:
        if delivery.payload["cents"] < 0:
            raise PermanentFailure("nothing to pay")
        return {"receipt": delivery.idempotency_key}

    @flows.flow("pay")
    async def paying(run: Flow, cents: int) -> str:
        try:
            paid = await run.effect("PAYMENT", {"cents": cents}, key=f"pay/{cents}")
        except EffectFailed as error:
            return f"{error.type}: {error.detail}"
        return str(paid["receipt"])

    stop = asyncio.Event()
    delivering = asyncio.create_task(worker.run(plane, stop))
    async with executing(plane, flows):
        good, bad = [await plane.flows.start(paying, cents, tenant) for cents in (5, -1)]
        assert await good.result(timeout=20) == "pay/5"
        assert "nothing to pay" in await bad.result(timeout=20)
        shared = await plane.flows.start(paying, 5, tenant)  # asks for what another run asked for
        assert await shared.result(timeout=20) == "pay/5"
    stop.set()
    await delivering
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        statuses = {effect.idempotency_key: effect.status for effect in await tx.effects.all()}
    assert statuses == {"pay/5": "EXECUTED", "pay/-1": "CANCELLED"}


async def test_children_are_parts_of_their_parent(plane: Plane, tenant: Tenant) -> None:
    flows = Flows()

    async def double(number: int) -> int:
        if number == 13:
            raise ValueError("unlucky")
        return number * 2

    @flows.flow("child")
    async def child(run: Flow, number: int) -> int:
        return await run.step(double, number, retry=Retry(attempts=1))

    @flows.flow("parent")
    async def parent(run: Flow, numbers: list[int]) -> list[Any]:
        results = await run.gather((run.child(child, number) for number in numbers), return_exceptions=True)
        return [str(result) if isinstance(result, ChildFailed) else result for result in results]

    async with executing(plane, flows):
        handle = await plane.flows.start(parent, [1, 2, 13], tenant)
        assert await handle.result(timeout=20) == [2, 4, "child:child: ValueError: unlucky"]
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        children = await tx.runs.all(parent_run_id=handle.run_id)
        assert sorted(run.status for run in children) == ["COMPLETED", "COMPLETED", "FAILED"]
        assert {run.correlation_id for run in children} == {(await handle.run()).correlation_id}


async def test_steps_side_by_side_go_on_to_their_end(plane: Plane, tenant: Tenant) -> None:
    flows = Flows()
    at_once, most = 0, 0

    async def pack(item: int) -> int:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return item + 1

    async def twice(run: Flow, item: int) -> int:
        return await run.step(pack, await run.step(pack, item))

    @flows.flow("packing")
    async def packing(run: Flow) -> list[int]:
        first = await run.gather((run.step(pack, item) for item in range(100)), at_once=20)
        await run.sleep(0.01)
        second = await run.gather(*(twice(run, item) for item in range(10)))
        await run.signal("go")
        return [sum(first), *second]

    async with executing(plane, flows):
        handle = await plane.flows.start(packing, None, tenant)
        await until_status(handle, "WAITING")
        await plane.flows.signal("go", tenant, key=handle.run_id)
        assert await handle.result(timeout=20) == [5050, *range(2, 12)]
    assert 10 <= most <= 20


async def test_what_fails_is_tried_again_and_then_the_flow_hears_of_it(plane: Plane, tenant: Tenant) -> None:
    flows, calls = Flows(), []

    async def shaky(word: str) -> int:
        calls.append((word, attempt().number))
        if word == "never" or attempt().number < 3:
            raise OSError("no line")
        return attempt().number

    @flows.flow("shaky")
    async def flow(run: Flow) -> str:
        retry = Retry(attempts=3, first=0.01)
        tries = await run.tool("phone", shaky, "works", retry=retry)
        try:
            await run.step(shaky, "never", retry=Retry(attempts=5, never=(OSError,)))
        except StepFailed as error:
            return f"{tries} {error.type}"
        return "?"

    async with executing(plane, flows):
        handle = await plane.flows.start(flow, None, tenant)
        assert await handle.result(timeout=20) == "3 OSError"
    assert calls == [("works", 1), ("works", 2), ("works", 3), ("never", 1)]
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        [first, second] = await tx.steps.all(run_id=handle.run_id)
        assert (first.status, first.retry_count, first.wait_until) == ("COMPLETED", 2, None)
        assert (second.status, second.retry_count, second.error_details["type"]) == ("FAILED", 0, "OSError")
        assert [call.status for call in await tx.tool_calls.all(step_id=first.id)] == ["FAILED", "FAILED", "COMPLETED"]


async def test_what_was_done_is_undone_when_the_flow_fails_or_is_cancelled(plane: Plane, tenant: Tenant) -> None:
    flows, undone = Flows(), []

    async def book(what: str) -> str:
        return f"{what}-1"

    async def cancel(booking: str) -> None:
        undone.append(booking)

    async def ship() -> None:
        raise RuntimeError("no ship")

    @flows.flow("trip")
    async def trip(run: Flow, waits: bool) -> None:
        for what in ("hotel", "flight"):
            run.compensate(cancel, await run.step(book, what))
        if waits:
            await run.sleep(timedelta(days=3))
        await run.step(ship, retry=Retry(attempts=1))

    async with executing(plane, flows):
        handle = await plane.flows.start(trip, False, tenant)
        with pytest.raises(FlowFailed, match="no ship"):
            await handle.result(timeout=20)
        assert undone == ["flight-1", "hotel-1"]
        undone.clear()
        handle = await plane.flows.start(trip, True, tenant)
        await until_status(handle, "WAITING")
        await handle.cancel("the customer fell ill")
        with pytest.raises(FlowCancelled, match="fell ill"):
            await handle.result(timeout=20)
        assert undone == ["flight-1", "hotel-1"]
        assert (await handle.run()).status == "CANCELLED"


async def test_a_signal_that_does_not_come_times_out(plane: Plane, tenant: Tenant) -> None:
    flows = Flows()

    @flows.flow("patient")
    async def patient(run: Flow) -> str:
        try:
            await run.signal("never", timeout=1.5)
        except TimedOut:
            return "it did not come"
        return "?"

    async with executing(plane, flows):
        handle = await plane.flows.start(patient, None, tenant)
        await until_status(handle, "WAITING")
        assert await handle.result(timeout=20) == "it did not come"


async def test_plain_functions_are_flows_too(plane: Plane, tenant: Tenant) -> None:
    flows = Flows()

    def add(one: int, two: int) -> int:
        return one + two

    @flows.flow("plain")
    def plain(run: Any, number: int) -> list[int]:
        three = run.step(add, number, 1)
        several = run.gather(run.deferred.step(add, three, more) for more in range(3))
        run.sleep(1.2)
        return [three, *several, run.signal("last")["n"]]

    async with executing(plane, flows):
        handle = await plane.flows.start(plain, 2, tenant)
        await plane.flows.signal("last", tenant, key=handle.run_id, payload={"n": 9})
        assert await handle.result(timeout=20) == [3, 3, 4, 5, 9]


async def test_values_are_made_once(plane: Plane, tenant: Tenant) -> None:
    flows, seen = Flows(), []

    @flows.flow("chance")
    async def chance(run: Flow) -> int:
        seen.append((await run.now(), await run.uuid(), await run.random()))
        await run.publish({"at": "the beginning"})
        await run.signal("go")
        return 1

    async with executing(plane, flows):
        handle = await plane.flows.start(chance, None, tenant)
        await until_status(handle, "WAITING")
        assert await handle.state() == {"at": "the beginning"}
        await plane.flows.signal("go", tenant, key=handle.run_id)
        assert await handle.result(timeout=20) == 1
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert abs(seen[0][0] - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_flow_that_takes_another_way_stops_and_shows_both(plane: Plane, tenant: Tenant) -> None:
    flows, words = Flows(), ["one"]

    async def say(word: str) -> str:
        return word

    @flows.flow("fickle")
    async def fickle(run: Flow) -> str:
        said = await run.step(say, words[-1])
        await run.signal("go")
        return said

    @flows.flow("forgetful")
    async def forgetful(run: Flow) -> None:
        if words:
            await run.step(say, "x")
            await run.signal("go")

    async with executing(plane, flows):
        handle = await plane.flows.start(fickle, None, tenant)
        await until_status(handle, "WAITING")
        words.append("two")
        await plane.flows.signal("go", tenant, key=handle.run_id)
        with pytest.raises(
            FlowFailed,
            match=r"TookAnotherWay: position 0: the flow asks for say \['two'\], where it asked for say \['one'\] before",
        ):
            await handle.result(timeout=20)
        words.pop()
        await handle.retry()
        assert await handle.result(timeout=20) == "one"
        shorter = await plane.flows.start(forgetful, None, tenant)
        await until_status(shorter, "WAITING")
        words.clear()
        await plane.flows.signal("go", tenant, key=shorter.run_id)
        with pytest.raises(FlowFailed, match=r"position 0: the flow ends without it, where it asked for say \['x'\] before"):
            await shorter.result(timeout=20)


async def test_what_is_not_the_runs_cannot_be_awaited(plane: Plane, tenant: Tenant) -> None:
    flows = Flows()

    @flows.flow("sleepy")
    async def sleepy(run: Flow) -> None:
        await asyncio.sleep(1)

    @flows.flow("hasty")
    async def hasty(run: Flow) -> None:
        async with asyncio.timeout(1):
            await run.signal("x")

    async with executing(plane, flows):
        for flow, said in ((sleepy, "awaits something that is not the run's"), (hasty, "Timeout should be used inside a task")):
            handle = await plane.flows.start(flow, None, tenant)
            with pytest.raises(FlowFailed, match=said):
                await handle.result(timeout=20)


async def test_runs_stay_with_their_version_and_old_ones_go_the_old_way(plane: Plane, tenant: Tenant) -> None:
    old, new = Flows(), Flows()

    async def say(word: str) -> str:
        return word

    @old.flow("greeting")
    async def first(run: Flow) -> str:
        await run.signal("go")
        return await run.step(say, "hello")

    @new.flow("greeting")
    async def patched(run: Flow) -> str:
        is_new = await run.patched("wait-less")
        if not is_new:
            await run.signal("go")
        return await run.step(say, "good day" if is_new else "hello")

    @new.flow("greeting", version=2)
    async def second(run: Flow) -> str:
        return "2"

    async with executing(plane, old):
        handle = await plane.flows.start(first, None, tenant)
        await until_status(handle, "WAITING")
        unknown = await plane.flows.start(second, None, tenant)
    assert (await unknown.run()).status == "PENDING"
    async with executing(plane, new):
        await plane.flows.signal("go", tenant, key=handle.run_id)
        assert await handle.result(timeout=20) == "hello"
        assert await (await plane.flows.start(patched, None, tenant)).result(timeout=20) == "good day"
        assert await unknown.result(timeout=20) == "2"


async def test_of_one_ordering_key_one_run_is_under_way_at_a_time(plane: Plane, tenant: Tenant) -> None:
    flows, under_way, most = Flows(), 0, 0

    async def work() -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1

    @flows.flow("serial")
    async def serial(run: Flow, number: int) -> int:
        await run.step(work)
        if number == 0:
            await run.signal("go")
        return number

    async with executing(plane, flows):
        handles = [await plane.flows.start(serial, number, tenant, ordering_key="customer-1") for number in range(5)]
        await until_status(handles[0], "WAITING")
        free = await plane.flows.start(serial, 9, tenant)
        assert await free.result(timeout=20) == 9
        assert [(await handle.run()).status for handle in handles[1:]] == ["PENDING"] * 4
        await plane.flows.signal("go", tenant, key=handles[0].run_id)
        assert [await handle.result(timeout=20) for handle in handles] == list(range(5))
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        ended = sorted(await tx.runs.all(ordering_key="customer-1"), key=lambda run: run.completed_at)
        assert [run.input_data for run in ended] == list(range(5))


async def test_a_deadline_ends_a_run(plane: Plane, tenant: Tenant) -> None:
    flows = Flows()

    @flows.flow("late", deadline=timedelta(seconds=1.5))
    async def late(run: Flow) -> None:
        await run.signal("never")

    async with executing(plane, flows):
        handle = await plane.flows.start(late, None, tenant)
        with pytest.raises(FlowFailed, match="DeadlineExceeded"):
            await handle.result(timeout=20)


async def test_a_long_step_is_seen_at_work_and_tells_how_far_it_is(plane: Plane, tenant: Tenant) -> None:
    flows, go = Flows(), asyncio.Event()

    async def long() -> str:
        heartbeat({"done": 1})
        await go.wait()
        return "done"

    async def silent() -> None:
        await asyncio.sleep(60)

    @flows.flow("long")
    async def flow(run: Flow) -> str:
        said = await run.step(long)
        try:
            await run.step(silent, heartbeat=0.2, retry=Retry(attempts=1))
        except StepFailed as error:
            return f"{said}, {error.detail}"
        return "?"

    async with executing(plane, flows):
        handle = await plane.flows.start(flow, None, tenant)
        async with asyncio.timeout(20):
            while True:
                async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                    steps = await tx.steps.all(run_id=handle.run_id)
                if steps and steps[0].progress:
                    break
                await asyncio.sleep(0.02)
        assert (steps[0].status, steps[0].progress) == ("RUNNING", {"done": 1})
        go.set()
        assert await handle.result(timeout=20) == "done, no heartbeat came in time"


async def test_input_and_definitions_are_checked(plane: Plane, tenant: Tenant) -> None:
    flows = Flows()

    @flows.flow("order")
    async def order(run: Flow, given: Order) -> None:
        await run.step(print, object())

    with pytest.raises(ConfigurationError, match="two of version 1"):
        flows.flow("order")(order)
    for wrong in ({"cents": "many"}, 5, None):
        with pytest.raises((InvalidInput, Exception), match="order.given"):
            await plane.flows.start(order, wrong, tenant)
    with pytest.raises(InvalidInput, match="is no flow"):
        await plane.flows.start(print, None, tenant)
    with pytest.raises(InvalidInput, match="tenant: is missing"):
        await plane.flows.start(order, Order(id="1"))
    async with executing(plane, flows):
        handle = await plane.flows.start(order, Order(id="1"), tenant)
        with pytest.raises(FlowFailed, match="print: argument 1: a object cannot be kept"):
            await handle.result(timeout=20)


async def test_what_the_database_refuses_fails_the_run(plane: Plane, tenant: Tenant) -> None:
    flows = Flows()

    @flows.flow("payer")
    async def payer(run: Flow, cents: int) -> None:
        await run.effect("PAYMENT", {"cents": cents}, key="the same key")

    async def large() -> str:
        return "x" * 2_000_000

    @flows.flow("large")
    async def too_large(run: Flow) -> str:
        try:
            return await run.step(large, retry=Retry(attempts=1))
        except StepFailed as error:
            return error.type

    async with executing(plane, flows):
        first = await plane.flows.start(payer, 1, tenant)
        await until_status(first, "WAITING")
        other = await plane.flows.start(payer, 2, tenant)
        with pytest.raises(FlowFailed, match="IdempotencyMismatch"):
            await other.result(timeout=20)
        assert await (await plane.flows.start(too_large, None, tenant)).result(timeout=20) == "TooLarge"
        await first.cancel()
        with pytest.raises(FlowCancelled):
            await first.result(timeout=20)


async def test_a_diagnosis_says_who_has_a_run_or_why_nobody_has(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    flows = Flows()

    @flows.flow("asking")
    async def asking(run: Flow) -> None:
        await run.signal("answer", key="q1")

    async def said(run_id: UUID) -> tuple[str, str | None]:
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            found = await diagnose_run(tx, run_id)
        return found.conclusion, found.next

    handle = await plane.flows.start(asking, None, tenant, ordering_key="desk")
    behind = await plane.flows.start(asking, None, tenant, ordering_key="desk")
    assert f"of ordering key desk run {handle.run_id} goes before it" in (await said(behind.run_id))[0]
    admin.execute("UPDATE run_queue SET due_at = now() - interval '5 minutes' WHERE held_by IS NULL")
    conclusion, advice = await said(handle.run_id)
    assert "It has been due for 5 min, and no executor that has flow asking@1 took it up." in conclusion
    assert advice == "persistence worker --app, with a program that has asking@1"
    async with executing(plane, flows):
        await until_status(handle, "WAITING")
        conclusion, advice = await said(handle.run_id)
        assert "signal answer for q1" in conclusion
        assert advice == "persistence runs signal answer --key q1 is what it waits for"


async def test_a_fork_goes_on_from_a_step_and_leaves_the_first_as_it_is(plane: Plane, tenant: Tenant) -> None:
    flows, calls, broken = Flows(), [], [True]

    async def say(word: str) -> str:
        calls.append(word)
        if word == "three" and broken:
            raise ValueError("not yet")
        return word * 2

    @flows.flow("telling")
    async def telling(run: Flow) -> list[str]:
        one = await run.tool("teller", say, "one")
        told = await run.signal("word")
        return [one, told, await run.step(say, "three", retry=Retry(attempts=1))]

    async with executing(plane, flows):
        handle = await plane.flows.start(telling, None, tenant, key="first")
        await plane.flows.signal("word", tenant, key=handle.run_id, payload="two")
        with pytest.raises(FlowFailed):
            await handle.result(timeout=20)
        broken.clear()
        forked = await plane.flows.fork(handle.run_id, tenant, "2")
        other = plane.flows.handle(telling, forked.id, tenant)
        assert await other.result(timeout=20) == ["oneone", "two", "threethree"]
        with pytest.raises(InvalidInput, match="no step 9"):
            await plane.flows.fork(handle.run_id, tenant, "9")
        assert (await handle.run()).status == "FAILED"
        await handle.retry()
        assert await handle.result(timeout=20) == ["oneone", "two", "threethree"]
    assert calls == ["one", "three", "three", "three"]
