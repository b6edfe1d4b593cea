"""What comes back of a snapshot, and what is said of what does not."""

import asyncio
import json
from hashlib import sha256
from uuid import UUID

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.cli.snapshots import find_snapshot
from persistence.encoding import encode
from persistence.errors import InvalidInput
from persistence.models import Run, Tenant, new_id
from persistence.snapshots import Subject, restore, take, verify
from persistence.snapshots import restoring as restoring_module
from persistence.snapshots.differences import Difference
from persistence.snapshots.manifest import SnapshotRefused
from tests.helpers import ACTOR

AGENT = Subject("agent", ACTOR)


async def started(plane: Plane, tenant: Tenant, count: int, **state: object) -> list[Run]:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        runs = [tx.runs.start(run_type="talk") for _ in range(count)]
        for run in runs:
            if state:
                tx.checkpoints.save(run, dict(state))
    return runs


async def now(plane: Plane, run: Run) -> Run:
    async with plane.transaction(run.tenant_id, actor=ACTOR) as tx:
        return await tx.runs.get(run.id)


async def planned(plane: Plane, tenant: Tenant) -> list[Difference]:
    snapshot = await find_snapshot(plane, tenant.tenant_id, "latest")
    return list((await restore(plane, snapshot, actor=ACTOR, dry_run=True)).differences)


async def test_a_state_that_was_changed_past_the_log_is_refused_and_not_brought_back(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    [run] = await started(plane, tenant, 1, mood="fine")
    admin.execute('UPDATE run_checkpoints SET state = \'{"mood": "evil"}\'')
    taken = await take(plane, tenant.tenant_id, AGENT, actor=ACTOR)
    with pytest.raises(SnapshotRefused, match="saved state"):
        await restore(plane, taken, actor=ACTOR)
    assert (await now(plane, run)).version == run.version
    assert (await verify(plane, taken, actor=ACTOR)).status == "REFUSED"


async def test_parts_come_back_after_what_they_are_parts_of(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        parent = tx.runs.start(run_type="whole", run_id=UUID("ffffffff-ffff-7fff-bfff-ffffffffffff"))
        child = tx.runs.start(parent, run_type="part", run_id=UUID("00000000-0000-7000-8000-000000000001"))
    taken = await take(plane, tenant.tenant_id, AGENT, actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        child = tx.runs.fail(child, {"message": "x"})
        tx.runs.fail(parent, {"message": "x"})
    assert {item.action for item in await planned(plane, tenant)} == {"retry"}
    done = await restore(plane, taken, actor=ACTOR)
    assert {item.action for item in done.differences} == {"retry"}
    assert ((await now(plane, parent)).status, (await now(plane, child)).status) == ("RUNNING", "RUNNING")


async def test_a_part_of_what_has_ended_stays_and_stops_nobody(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        parent = tx.runs.start(run_type="whole")
        child = tx.runs.start(parent, run_type="part")
        other = tx.runs.start(run_type="other")
    taken = await take(plane, tenant.tenant_id, AGENT, actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        child = tx.runs.fail(child, {"message": "x"})
        tx.runs.complete(parent)
        tx.runs.fail(other, {"message": "x"})
    expected = {parent.id: "it has ended since", child.id: "the run that it is part of has ended", other.id: None}
    assert {item.run_id: item.reason for item in await planned(plane, tenant)} == expected
    done = await restore(plane, taken, actor=ACTOR)
    assert {item.run_id: item.reason for item in done.differences} == expected
    assert (await now(plane, other)).status == "RUNNING"


async def test_many_are_brought_back_in_parts(plane: Plane, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring_module, "_BATCH", 2)
    runs = await started(plane, tenant, 7, mood="fine")
    taken = await take(plane, tenant.tenant_id, AGENT, actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        for run in runs:
            tx.checkpoints.save(tx.runs.suspend(run, "lost"), {"mood": "bad"})
    done = await restore(plane, taken, actor=ACTOR)
    assert (done.done, len(done.differences)) == (14, 14)
    assert await planned(plane, tenant) == []


async def test_one_that_others_work_on_is_left_and_said(plane: Plane, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it is read, somebody else moves it before what was decided is recorded."""
    busy, quiet = await started(plane, tenant, 2)
    taken = await take(plane, tenant.tenant_id, AGENT, actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        for run in (busy, quiet):
            tx.runs.suspend(run, "lost")
    really = restoring_module._present

    async def moving(tx: object, kept: list[restoring_module.Kept]) -> restoring_module.Present:
        found = await really(tx, kept)  # type: ignore[arg-type]
        if busy.id in found.runs:
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as other:
                other.runs.suspend(other.runs.resume(await other.runs.get(busy.id)), "busy")
        return found

    monkeypatch.setattr(restoring_module, "_present", moving)
    done = await restore(plane, taken, actor=ACTOR)
    [left] = [item for item in done.differences if item.action == "cannot"]
    assert left.run_id == busy.id
    assert "others work on it" in str(left.reason)
    assert (await now(plane, quiet)).status == "RUNNING"


async def test_what_is_waited_for_is_a_difference(plane: Plane, tenant: Tenant) -> None:
    [run] = await started(plane, tenant, 1)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        waiting = tx.runs.suspend(run, "an answer")
    taken = await take(plane, tenant.tenant_id, AGENT, actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.runs.suspend(tx.runs.resume(waiting), "a payment")
    [item] = await planned(plane, tenant)
    assert (item.then, item.now, item.action) == ("WAITING: an answer", "WAITING: a payment", "wait as before")
    await restore(plane, taken, actor=ACTOR)
    assert (await now(plane, run)).wait_reason == "an answer"


async def test_what_came_later_is_said_and_not_undone(plane: Plane, tenant: Tenant) -> None:
    [run] = await started(plane, tenant, 1)
    taken = await take(plane, tenant.tenant_id, Subject("tenant"), actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.checkpoints.save(run, {"went": "off the road"})
        later = tx.runs.start(run_type="later")
    done = await restore(plane, taken, actor=ACTOR)
    assert {(item.run_id, item.action) for item in done.differences} == {(run.id, "cannot"), (later.id, "cannot")}
    assert any("began after" in str(item.reason) for item in done.differences)


async def test_what_was_discarded_is_not_brought_back(plane: Plane, tenant: Tenant) -> None:
    [run] = await started(plane, tenant, 1, person="Ada")
    taken = await take(plane, tenant.tenant_id, AGENT, actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        saved = await tx.checkpoints.latest(run)
        assert saved is not None
        tx.checkpoints.discard(saved)
    [item] = (await restore(plane, taken, actor=ACTOR)).differences
    assert (item.action, item.reason) == ("cannot", "that state was discarded since")


async def test_the_latest_is_not_what_was_taken_before_going_back(plane: Plane, tenant: Tenant) -> None:
    await started(plane, tenant, 1, mood="fine")
    first = await take(plane, tenant.tenant_id, AGENT, actor=ACTOR)
    await restore(plane, first, actor=ACTOR)
    assert (await find_snapshot(plane, tenant.tenant_id, "latest")).id == first.id


async def saved_by_sql(plane: Plane, tenant: Tenant, run: Run, state: str) -> None:
    checkpoint, text = str(new_id()), state.encode()
    event = {
        "id": str(new_id()), "event_type": "CHECKPOINT_SAVED", "event_version": 1, "aggregate_type": "CHECKPOINT", "aggregate_id": checkpoint,
        "aggregate_version": 1, "correlation_id": str(run.correlation_id), "causation_id": str(run.last_event_id), "actor": ACTOR,
        "source": "service", "attachment": state,
        "event_data": {"run_id": str(run.id), "digest": sha256(text).hexdigest(), "size_bytes": len(text)},
    }  # fmt: skip
    async with plane.pool.acquire() as connection:
        await connection.execute(
            "SELECT * FROM persistence.append_events($1, persistence.service_user(), $2::text::jsonb)",
            tenant.tenant_id,
            encode([event]),
        )


NUMBERS = "[1.50, 1e-400, 123456789012345678901234567890, 0.1234567890123456789012345, 1e16, -0.0]"


async def test_numbers_that_this_process_cannot_hold_are_kept_as_they_are(plane: Plane, tenant: Tenant) -> None:
    [run, plain] = await started(plane, tenant, 2)
    await saved_by_sql(plane, tenant, run, f'{{"n": {NUMBERS}}}')
    await saved_by_sql(plane, tenant, plain, '{"price": 1.50}')
    event = (
        f'[{{"id": "{new_id()}", "event_type": "SIGNAL_RECEIVED", "event_version": 1, "aggregate_type": "SIGNAL", "aggregate_id": "{new_id()}",'
        f' "aggregate_version": 1, "correlation_id": "{new_id()}", "actor": "{ACTOR}", "source": "service", "event_data":'
        f' {{"source_channel": "sql", "source_id": "1", "signal_type": "said", "payload": {{"n": {NUMBERS}, "huge": 1e400}}}}}}]'
    )
    async with plane.pool.acquire() as connection:
        await connection.execute(
            "SELECT * FROM persistence.append_events($1, persistence.service_user(), $2::text::jsonb)", tenant.tenant_id, event
        )
    for subject in (Subject("tenant"), AGENT):
        taken = await verify(plane, await take(plane, tenant.tenant_id, subject, actor=ACTOR), actor=ACTOR)
        assert taken.status == "VERIFIED", taken.error_details
    await saved_by_sql(plane, tenant, await now(plane, run), "{}")
    await saved_by_sql(plane, tenant, await now(plane, plain), "{}")
    found = {item.run_id: item for item in (await restore(plane, taken, actor=ACTOR)).differences}
    assert "cannot be written again" in str(found[run.id].reason)
    assert found[plain.id].action == "save the state again"
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        saved = await tx.checkpoints.latest(plain)
    assert saved is not None
    assert json.loads(json.dumps(saved.state)) == {"price": 1.5}


async def test_a_state_that_nobody_could_read_is_not_accepted(plane: Plane, tenant: Tenant) -> None:
    [run] = await started(plane, tenant, 1)
    await saved_by_sql(plane, tenant, run, "[" * 199 + "]" * 199)
    with pytest.raises(asyncpg.PostgresError, match="nested deeper than 200"):
        await saved_by_sql(plane, tenant, run, "[" * 3000 + "]" * 3000)


async def test_agents_that_go_on_do_not_stop_a_restore(plane: Plane, tenant: Tenant) -> None:
    runs = await started(plane, tenant, 8, mood="fine")
    taken = await take(plane, tenant.tenant_id, AGENT, actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        for run in runs:
            tx.runs.suspend(run, "lost")
    over = asyncio.Event()

    async def work() -> None:
        while not over.is_set():
            async with plane.transaction(tenant.tenant_id, actor="agent:other") as tx:
                tx.runs.start(run_type="elsewhere")

    workers = [asyncio.create_task(work()) for _ in range(4)]
    done = await restore(plane, taken, actor=ACTOR)
    over.set()
    await asyncio.gather(*workers)
    assert done.done == 8


async def test_what_was_asked_for_since_is_said(plane: Plane, tenant: Tenant) -> None:
    [run] = await started(plane, tenant, 1, mood="fine")
    taken = await take(plane, tenant.tenant_id, AGENT, actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        effect = tx.effects.request(run, effect_type="DELETE_ALL", spec={}, idempotency_key="k")
    [item] = (await restore(plane, taken, actor=ACTOR)).differences
    assert (item.run_id, item.run_type, item.what, item.action) == (effect.id, "DELETE_ALL", "effect", "cannot")


async def test_the_latest_of_several_has_to_be_named(plane: Plane, tenant: Tenant) -> None:
    await started(plane, tenant, 1)
    mine = await take(plane, tenant.tenant_id, AGENT, actor=ACTOR)
    await take(plane, tenant.tenant_id, Subject("tenant"), actor=ACTOR)
    with pytest.raises(InvalidInput, match=f"latest: there are snapshots of agent {ACTOR}, tenant"):
        await find_snapshot(plane, tenant.tenant_id, "latest")
    assert (await find_snapshot(plane, tenant.tenant_id, "latest", of=ACTOR)).id == mine.id
    assert (await find_snapshot(plane, tenant.tenant_id, mine.folder)).id == mine.id


async def test_what_was_known_is_known_again(plane: Plane, tenant: Tenant) -> None:
    """Left aside: brought back. Superseded: remembered again, in the place of what is known now. Forgotten: stays so. A second time: nothing."""
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        kept, pruned, better, gone, back = (
            tx.memories.remember(text, agent="agent:desk", context="chat", tags=["x"], importance=0.5)
            for text in ("kept", "pruned", "better", "gone", "back again")
        )
    snapshot = await take(plane, tenant.tenant_id, Subject("tenant"), actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.memories.prune(pruned, "old")
        newer = tx.memories.remember("better known", agent="agent:desk", context="chat", supersedes=better)
        tx.memories.remember("better still", agent="agent:desk", context="chat", supersedes=newer)
        other = tx.memories.remember("elsewhere", agent="agent:desk", context="chat", supersedes=back)
        tx.memories.remember("back again", agent="agent:desk", context="chat", supersedes=other)
        tx.memories.forget(gone, "personal")
        tx.memories.remember("later", agent="agent:desk", context="chat")
    dry = await restore(plane, snapshot, actor=ACTOR, dry_run=True)
    expected = {pruned.id: "bring back", better.id: "remember again", gone.id: "cannot"}
    assert {item.run_id: item.action for item in dry.differences if item.what == "memory"} == expected
    done = await restore(plane, snapshot, actor=ACTOR)
    assert {item.run_id: item.action for item in done.differences if item.what == "memory"} == expected
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        active = await tx.memories.all(status="ACTIVE")
        assert sorted(memory.content or "" for memory in active) == ["back again", "better", "kept", "later", "pruned"]
        again = next(memory for memory in active if memory.content == "better")
        assert (again.tags, again.importance, again.agent) == (["x"], 0.5, "agent:desk")
        [event] = [one for one in await tx.events.of_aggregate(again.id) if one.event_type == "MEMORY_REMEMBERED"]
        assert event.event_data["attributes"]["restored_from"]["folder"] == snapshot.folder
    second = await restore(plane, done.snapshot, actor=ACTOR)
    assert [item.action for item in second.differences if item.what == "memory"] == ["cannot"]
    assert kept.id
