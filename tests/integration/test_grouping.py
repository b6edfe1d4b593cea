"""Transactions that are sent together: each is still all or nothing for itself, with its own answer."""

import asyncio
from typing import Any

import psycopg
import pytest

from persistence import Plane
from persistence.errors import Conflict, IdempotencyMismatch, PersistenceError
from persistence.models import NewSignal, Run, Tenant
from tests.helpers import ACTOR, TENANT_EVENTS, start_run


@pytest.fixture
def one_at_a_time(plane: Plane) -> Plane:
    """The second transaction waits for the first already."""
    object.__setattr__(plane.settings, "__dict__", {**plane.settings.__dict__, "appends_at_once": 1})
    return plane


async def at_once(*work: Any) -> list[Any]:
    return await asyncio.gather(*work, return_exceptions=True)


async def test_what_comes_while_another_commits_goes_together(
    one_at_a_time: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    await at_once(*(start_run(one_at_a_time, tenant.tenant_id) for _ in range(50)))
    runs, commits = admin.execute(
        "SELECT count(*), count(DISTINCT transaction_id) FROM orchestration_events WHERE event_type = 'RUN_STARTED'"
    ).fetchone() or (0, 0)
    assert runs == 50
    assert commits < 10


async def test_those_that_went_together_go_together_again(one_at_a_time: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    async def work() -> None:
        for _ in range(10):
            await start_run(one_at_a_time, tenant.tenant_id)

    await asyncio.gather(*(work() for _ in range(10)))
    runs, commits = admin.execute(
        "SELECT count(*), count(DISTINCT transaction_id) FROM orchestration_events WHERE event_type = 'RUN_STARTED'"
    ).fetchone() or (0, 0)
    assert runs == 100
    assert commits <= 12  # the first goes alone, and so it may at the end


async def test_one_that_is_refused_takes_nobody_with_it(one_at_a_time: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    run = await start_run(one_at_a_time, tenant.tenant_id)

    async def complete(subject: Run) -> str:
        async with one_at_a_time.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.runs.start(run_type="beside")
            tx.runs.complete(subject)
        return "completed"

    others = [start_run(one_at_a_time, tenant.tenant_id) for _ in range(5)]
    answers = await at_once(*others, complete(run), complete(run), complete(run))
    assert sorted(type(answer).__name__ for answer in answers[5:]) == ["Conflict", "Conflict", "str"]
    assert all(isinstance(answer, Run) for answer in answers[:5])
    assert admin.execute("SELECT count(*) FROM runs WHERE run_type = 'beside'").fetchone() == (1,)


async def test_each_learns_which_of_its_effects_was_there(one_at_a_time: Plane, tenant: Tenant) -> None:
    run = await start_run(one_at_a_time, tenant.tenant_id)

    async def ask(key: str, **spec: Any) -> int:
        async with one_at_a_time.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.effects.request(run, "TEST", spec=spec, idempotency_key=key)
        assert len(tx.results) == 1
        return len(tx.existing)

    assert sorted(await at_once(*(ask("same") for _ in range(6)))) == [0, 1, 1, 1, 1, 1]
    answers = await at_once(*(ask(f"other-{number}") for number in range(4)), ask("same", changed=True))
    assert answers[:4] == [0, 0, 0, 0]
    assert isinstance(answers[4], IdempotencyMismatch)


async def test_who_gives_up_waiting_leaves_the_others_alone(
    one_at_a_time: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    tasks = [asyncio.create_task(start_run(one_at_a_time, tenant.tenant_id)) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[5].cancel()
    answers = await at_once(*tasks)
    assert sum(isinstance(answer, Run) for answer in answers) == 9
    assert isinstance(answers[5], asyncio.CancelledError)


async def test_a_lost_connection_is_repeated_by_each(one_at_a_time: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    tasks = [asyncio.create_task(start_run(one_at_a_time, tenant.tenant_id)) for _ in range(30)]
    for _ in range(3):
        await asyncio.sleep(0)
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'persistence_service'")
    assert all(isinstance(answer, Run) for answer in await at_once(*tasks))
    assert admin.execute("SELECT count(*) FROM orchestration_events").fetchone() == (30 + TENANT_EVENTS + 1,)


async def test_tenants_and_users_never_go_together(one_at_a_time: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    other = await one_at_a_time.tenants.create("other", actor="system:test")
    await at_once(*(start_run(one_at_a_time, one.tenant_id) for _ in range(20) for one in (tenant, other)))
    mixed = admin.execute(
        "SELECT count(*) FROM (SELECT FROM orchestration_events GROUP BY transaction_id HAVING count(DISTINCT tenant_id) > 1) AS m"
    ).fetchone()
    assert mixed == (0,)


async def test_many_effects_at_once(plane: Plane, tenant: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        ids = tx.effects.request_many(run, "TEST", {f"k{n}": {"n": n} for n in range(100)}, priority=2)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        again = tx.effects.request_many(run, "TEST", {"k7": {"n": 7}, "new": {}})
        await tx.flush()
        assert set(tx.existing.values()) == {ids[7]}
        effects = await tx.effects.get_many(ids)
        assert [(effect.idempotency_key, effect.effect_spec["n"]) for effect in effects] == [(f"k{n}", n) for n in range(100)]
        assert {entry.priority for entry in await tx.outbox.get_many(ids)} == {2}
        assert effects[0].causation_id == run.last_event_id
    assert len(again) == 2
    with pytest.raises(PersistenceError, match="idempotency_key"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.effects.request_many(run, "TEST", {"": {}})


async def test_who_waits_for_an_ordering_key_keeps_nobody_waiting(one_at_a_time: Plane, tenant: Tenant) -> None:
    plane = one_at_a_time
    run = await start_run(plane, tenant.tenant_id)

    async def ask(name: str) -> None:
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.effects.request(run, "TEST", spec={}, idempotency_key=name, ordering_key="k")

    async with plane.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        async with plane.bind(connection, tenant.tenant_id, actor=ACTOR) as tx:
            tx.effects.request(run, "TEST", spec={}, idempotency_key="held", ordering_key="k")
        waiting = [asyncio.create_task(ask(f"waits-{number}")) for number in range(3)]
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await asyncio.gather(*(start_run(plane, tenant.tenant_id) for _ in range(5)))
        assert not any(task.done() for task in waiting)
        await transaction.commit()
    await asyncio.gather(*waiting)


async def test_an_id_that_is_none_is_refused_before_it_is_sent(plane: Plane, tenant: Tenant) -> None:
    with pytest.raises(PersistenceError, match="event_id"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.runs.start(run_type="test", event_id="01a1fd04-a6df-748b-93fa-524aacb29c42")  # type: ignore[arg-type]


async def test_a_conflict_is_still_a_conflict(plane: Plane, tenant: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.runs.complete(run)
    with pytest.raises(Conflict):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.runs.complete(run)


async def test_one_who_waits_for_an_open_transaction_keeps_nobody_else_waiting(
    one_at_a_time: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    """Several who want what it holds, by signals and by appends: everybody else goes on at once, and they go on when it ends."""
    plane, place = one_at_a_time, tenant.tenant_id
    run = await start_run(plane, place)

    async def complete() -> str:
        async with plane.transaction(place, actor=ACTOR) as tx:
            tx.runs.complete(run)
        return "completed"

    def named(name: str) -> list[NewSignal]:
        return [NewSignal(source_channel="web", source_id=name, signal_type="order")]

    async with plane.transaction(place, actor=ACTOR) as tx:
        await tx.signals.receive_many(named("held"))
        tx.runs.suspend(run)
        await tx.flush()
        waiting = [asyncio.create_task(plane.receive(place, named("held"), actor=ACTOR)) for _ in range(3)]
        waiting += [asyncio.create_task(complete()) for _ in range(3)]  # type: ignore[arg-type]
        async with asyncio.timeout(plane.settings.lock_timeout / 2):
            for number in range(5):
                others = [plane.receive(place, named(f"{number}-{n}"), actor=ACTOR) for n in range(5)]
                await asyncio.gather(*others, *(start_run(plane, place) for _ in range(5)))
        assert not any(task.done() for task in waiting)
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, list) and answer[0].is_new is False for answer in answers[:3]), answers
    assert all(isinstance(answer, Conflict) for answer in answers[3:]), answers
