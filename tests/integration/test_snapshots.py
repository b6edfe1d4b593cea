"""Snapshots: of one position, whole or not there, refused when they were changed, brought back by events."""

import asyncio
import json
import os
import re
import shutil
import stat
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.encoding import encode
from persistence.errors import ConfigurationError, InvalidTransition, StorageFull, VaultLocked
from persistence.models import NewSignal, Position, Role, Run, Snapshot, Tenant, new_id
from persistence.snapshots import Retention, SnapshotStore, Subject, prune, restore, take, verify
from persistence.snapshots.loading import load
from persistence.snapshots.manifest import SnapshotRefused
from persistence.snapshots.retention import delete, sweep
from persistence.snapshots.scheduling import Scheduler, SnapshotConfig, read_snapshot_config
from persistence.snapshots.taking import snapshots_of
from persistence.transaction import Transaction
from persistence.vault import Opener
from tests.helpers import ACTOR, start_run
from tests.serving import serving

WHO = {"actor": ACTOR, "user_id": None, "source": "service"}


def taken(tx: Transaction, number: int) -> Snapshot:
    return tx.snapshots.take(
        f"2026-01-04T00000{number}Z",
        snapshot_kind="tenant",
        subject=None,
        position=Position(epoch=0, transaction_id=1, sequence_number=number),
        digest="0" * 64,
        size_bytes=1,
        cause="manual",
    )


async def test_the_last_one_that_is_good_stays(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        first, second, third = (taken(tx, number) for number in (1, 2, 3))
    await prove(plane, tenant, first, second)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.snapshots.delete(await tx.snapshots.get(third.id), "never verified")
        tx.snapshots.delete(await tx.snapshots.get(first.id), "there is a later one")
    with pytest.raises(InvalidTransition, match="last one of its kind"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.snapshots.delete(await tx.snapshots.get(second.id), "by mistake")


async def prove(plane: Plane, tenant: Tenant, *snapshots: Snapshot, event_type: str = "SNAPSHOT_VERIFIED") -> None:
    said = {"SNAPSHOT_VERIFIED": {"findings": {}}, "SNAPSHOT_REFUSED": {"error_details": {"message": "gone"}}}[event_type]
    auditor = await asyncpg.connect(plane.server.audit_dsn)
    for snapshot in snapshots:
        await auditor.execute(
            "SELECT persistence.record_snapshot_proof($1, $2, $3, $4::text::jsonb, 'user:ada')",
            tenant.tenant_id, snapshot.id, event_type, encode(said),
        )  # fmt: skip
    await auditor.close()


async def test_one_that_was_refused_keeps_no_other_from_being_the_last(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        first, second = (taken(tx, number) for number in (1, 2))
    await prove(plane, tenant, first, second)
    await prove(plane, tenant, second, event_type="SNAPSHOT_REFUSED")
    with pytest.raises(InvalidTransition, match="last one of its kind"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.snapshots.delete(await tx.snapshots.get(first.id), "the other was good once")


@pytest.mark.parametrize("event_type", ["SNAPSHOT_VERIFIED", "SNAPSHOT_REFUSED"])
async def test_a_service_does_not_say_what_came_of_a_proof(plane: Plane, tenant: Tenant, event_type: str) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        first = taken(tx, 1)
    data = {"SNAPSHOT_VERIFIED": {"findings": {}}, "SNAPSHOT_REFUSED": {"error_details": {}}}[event_type]
    async with plane.pool.acquire() as connection:
        event = {
            "id": str(new_id()), "event_type": event_type, "event_version": 1, "aggregate_type": "SNAPSHOT", "aggregate_id": str(first.id),
            "aggregate_version": 2, "event_data": data, "correlation_id": str(first.correlation_id), "causation_id": str(first.last_event_id),
            "actor": ACTOR, "source": "service",
        }  # fmt: skip
        with pytest.raises(asyncpg.PostgresError, match="is written by the plane only"):
            await connection.execute(
                "SELECT * FROM persistence.append_events($1, persistence.service_user(), $2::text::jsonb)",
                tenant.tenant_id,
                encode([event]),
            )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(
                "SELECT persistence.record_snapshot_proof($1, $2, $3, $4::text::jsonb, 'user:ada')",
                tenant.tenant_id, first.id, event_type, encode(data),
            )  # fmt: skip


@pytest.mark.parametrize("folder", ["../../etc", "..", "2026-13-04T000001Z", "2026-01-04T000001Z/x", ""])
@pytest.mark.parametrize("position", [None, "0-99999999999999999999-1", "9999999999-1-1", "1-2"])
async def test_a_folder_and_a_position_are_what_they_can_be(
    plane: Plane, tenant: Tenant, folder: str, position: str | None
) -> None:
    data = {
        "snapshot_kind": "tenant",
        "folder": folder,
        "position": "0-0-0",
        "digest": "0" * 64,
        "size_bytes": 1,
        "cause": "manual",
    }
    if position is not None:
        data |= {"folder": "2026-01-04T000001Z", "position": position}
    event = {
        "id": str(new_id()), "event_type": "SNAPSHOT_TAKEN", "event_version": 1, "aggregate_type": "SNAPSHOT", "aggregate_id": str(new_id()),
        "aggregate_version": 1, "event_data": data, "correlation_id": str(new_id()), "actor": ACTOR, "source": "service",
    }  # fmt: skip
    async with plane.pool.acquire() as connection:
        with pytest.raises(asyncpg.PostgresError, match="is not what its schema says"):
            await connection.execute(
                "SELECT * FROM persistence.append_events($1, persistence.service_user(), $2::text::jsonb)",
                tenant.tenant_id,
                encode([event]),
            )


# Taking


async def history(plane: Plane, tenant: Tenant, agent: str = ACTOR, runs: int = 3) -> list[Run]:
    """Runs of an agent: one that waits with a saved state, one that is at work, one that has ended."""
    made = []
    async with plane.transaction(tenant.tenant_id, actor=agent) as tx:
        for number in range(runs):
            signal = tx.signals.record(
                NewSignal(
                    source_channel="chat", source_id=f"{agent}-{number}", signal_type="said", payload={"text": f"hello {number}"}
                )
            )
            run = tx.runs.start(signal, run_type="talk", input={"n": number})
            step = tx.steps.start(run, step_type="think")
            tx.steps.complete(step, output={"thought": number})
            tx.checkpoints.save(run, {"mood": "fine", "n": number})
            if number % 3 == 0:
                run = tx.runs.suspend(run, "an answer")
            elif number % 3 == 2:
                run = tx.runs.complete(run, output="bye")
            made.append(run)
    return made


async def test_a_snapshot_is_what_its_manifest_says(plane: Plane, tenant: Tenant) -> None:
    await history(plane, tenant)
    taken = await take(plane, tenant.tenant_id, Subject("tenant"), actor=ACTOR)
    store = SnapshotStore.of(plane.settings, tenant.tenant_id)
    place = store.place(taken.folder)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d{6}Z", place.name)
    assert sorted(path.name for path in place.iterdir()) == ["manifest.json", "snapshot.zip"]
    manifest = json.loads((place / "manifest.json").read_text())
    assert (manifest["kind"], manifest["position"]) == ("tenant", taken.position)
    with zipfile.ZipFile(place / "snapshot.zip") as archive:
        assert archive.read("manifest.json") == (place / "manifest.json").read_bytes()
        assert {"events.jsonl", "runs.jsonl", "run_checkpoints.jsonl"} <= set(archive.namelist())
    verified = await verify(plane, taken, actor=ACTOR)
    assert verified.status == "VERIFIED"
    assert verified.findings["rows"]["runs"] == 3


@pytest.mark.parametrize("kind", ["agent", "conversation"])
async def test_of_an_agent_and_of_a_conversation_there_is_their_part_alone(
    plane: Plane, tenant: Tenant, kind: Literal["agent", "conversation"]
) -> None:
    mine = await history(plane, tenant, "agent:mine")
    await history(plane, tenant, "agent:other")
    subject = "agent:mine" if kind == "agent" else str(mine[0].correlation_id)
    taken = await take(plane, tenant.tenant_id, Subject(kind, subject), actor=ACTOR)
    state = await load(plane, taken, WHO)
    wanted = mine if kind == "agent" else mine[:1]
    assert set(state.rows["runs"]) == {str(run.id) for run in wanted}
    assert state.documents["memory_window"][0]["content"] == {"signal_type": "said", "payload": {"text": "hello 0"}}
    numbers = (0, 1, 2) if kind == "agent" else (0,)
    assert [json.loads(entry)["state"] for entry in state.rows["context"].values()] == [{"mood": "fine", "n": n} for n in numbers]
    assert (await verify(plane, taken, actor=ACTOR)).status == "VERIFIED"


async def test_the_next_one_holds_what_changed_and_is_whole_all_the_same(plane: Plane, tenant: Tenant) -> None:
    runs = await history(plane, tenant, runs=200)
    first = await take(plane, tenant.tenant_id, Subject("agent", ACTOR), actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.runs.resume(runs[0])
    second = await take(plane, tenant.tenant_id, Subject("agent", ACTOR), actor=ACTOR)
    third = await take(plane, tenant.tenant_id, Subject("agent", ACTOR), actor=ACTOR)
    store = SnapshotStore.of(plane.settings, tenant.tenant_id)
    chain = store.chain(third)
    assert [manifest.folder for manifest in chain] == [first.folder, second.folder, third.folder]
    [events] = [member for member in chain[1].members if member.name == "events.jsonl"]
    assert events.rows <= 3
    assert second.size_bytes < first.size_bytes
    unchanged = [member.held_by for member in chain[2].members if member.name == "memory_window.json"]
    assert third.folder not in unchanged
    state = await load(plane, third, WHO)
    assert json.loads(state.rows["runs"][str(runs[0].id)])["status"] == "RUNNING"
    assert len(state.rows["runs"]) == 200
    assert (await verify(plane, third, actor=ACTOR)).status == "VERIFIED"


async def test_an_agent_that_joins_a_story_later_brings_all_of_it(plane: Plane, tenant: Tenant) -> None:
    await history(plane, tenant, "agent:mine")
    [theirs, *_] = await history(plane, tenant, "agent:other")
    await take(plane, tenant.tenant_id, Subject("agent", "agent:mine"), actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor="agent:mine") as tx:
        tx.runs.resume(theirs)
    second = await take(plane, tenant.tenant_id, Subject("agent", "agent:mine"), actor=ACTOR)
    state = await load(plane, second, WHO)
    assert str(theirs.id) in state.rows["runs"]
    assert (await verify(plane, second, actor=ACTOR)).status == "VERIFIED"


async def test_it_is_of_one_position_while_others_write(plane: Plane, tenant: Tenant) -> None:
    over = asyncio.Event()

    async def write() -> None:
        while not over.is_set():
            await start_run(plane, tenant.tenant_id)

    writers = [asyncio.create_task(write()) for _ in range(4)]
    taken = [await take(plane, tenant.tenant_id, Subject("tenant"), actor=ACTOR) for _ in range(4)]
    over.set()
    await asyncio.gather(*writers)
    for item in taken:
        assert (await verify(plane, item, actor=ACTOR)).status == "VERIFIED"
    counts = [len((await load(plane, item, WHO)).rows["runs"]) for item in taken]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


async def test_an_encrypted_one_tells_nothing_without_the_vault(plane: Plane, tenant: Tenant) -> None:
    plane.vault.vault.create([Opener("environment", bytearray(range(32)))])
    await plane.vault.changed("created")
    await history(plane, tenant)
    taken = await take(plane, tenant.tenant_id, Subject("agent", ACTOR), actor=ACTOR, encrypt=True)
    place = SnapshotStore.of(plane.settings, tenant.tenant_id).place(taken.folder)
    with zipfile.ZipFile(place / "snapshot.zip") as archive:
        assert not any(b"hello" in archive.read(name) or b"mood" in archive.read(name) for name in archive.namelist())
    assert (await verify(plane, taken, actor=ACTOR)).status == "VERIFIED"
    plane.vault.vault.lock()
    with pytest.raises(VaultLocked):
        await verify(plane, taken, actor=ACTOR)


# Tampered with


def rewritten(place: Path, change: Callable[[dict[str, bytes]], None], **entry: Any) -> None:
    with zipfile.ZipFile(place / "snapshot.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(place / "snapshot.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = entry.get("compress_type", zipfile.ZIP_DEFLATED)
            info.external_attr = entry.get("external_attr", 0)
            archive.writestr(info, content)


def _edit(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        rewritten(place, lambda members: members.update({name: members[name].replace(old, new)}))

    return change


def _bomb(place: Path) -> None:
    rewritten(place, lambda members: members.update({"events.jsonl": b"\0" * 50_000_000}))


def _twice(place: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(place / "snapshot.zip", "a") as archive:
            archive.writestr("runs.jsonl", b"{}")


def _cut(place: Path) -> None:
    raw = (place / "snapshot.zip").read_bytes()
    (place / "snapshot.zip").write_bytes(raw[: len(raw) // 2])


def _flip(place: Path) -> None:
    raw = bytearray((place / "snapshot.zip").read_bytes())
    raw[len(raw) // 3] ^= 0x10
    (place / "snapshot.zip").write_bytes(bytes(raw))


def _elsewhere(place: Path) -> None:
    (place.parent / "moved").mkdir()
    target = place.parent / "moved" / place.name
    place.rename(target)
    place.symlink_to(target)


CHANGES: dict[str, Callable[[Path], None]] = {
    "a row": _edit("runs.jsonl", b'"n": 1', b'"n": 7'),
    "an event": _edit("events.jsonl", b"hello 1", b"hello 7"),
    "the manifest": lambda place: (place / "manifest.json").write_text((place / "manifest.json").read_text().replace('"tenant"', '"agent"')) and None,
    "the version": lambda place: (place / "manifest.json").write_text((place / "manifest.json").read_text().replace('"version": 1', '"version": 2')) and None,
    "a bomb": _bomb,
    "a member twice": _twice,
    "a path": lambda place: rewritten(place, lambda members: members.update({"../../etc/cron.d/x": b"x"})),
    "a link": lambda place: rewritten(place, lambda members: None, external_attr=(stat.S_IFLNK | 0o777) << 16),
    "another compression": lambda place: rewritten(place, lambda members: None, compress_type=zipfile.ZIP_LZMA),
    "cut off": _cut,
    "one bit": _flip,
    "gone": lambda place: (place / "snapshot.zip").unlink(),
    "a symlink": _elsewhere,
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
async def test_what_was_tampered_with_is_refused_with_the_reason(plane: Plane, tenant: Tenant, change: str) -> None:
    await history(plane, tenant)
    taken = await take(plane, tenant.tenant_id, Subject("tenant"), actor=ACTOR)
    CHANGES[change](SnapshotStore.of(plane.settings, tenant.tenant_id).place(taken.folder))
    refused = await verify(plane, taken, actor=ACTOR)
    assert refused.status == "REFUSED"
    assert taken.folder in refused.error_details["message"]
    with pytest.raises(SnapshotRefused):
        await restore(plane, taken, actor=ACTOR)
    after = await take(plane, tenant.tenant_id, Subject("tenant"), actor=ACTOR)  # and nobody goes on from it
    assert (await verify(plane, after, actor=ACTOR)).status == "VERIFIED"


async def test_rows_that_are_not_what_the_events_make_are_refused(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    """Somebody changed the database past the events before it was taken: every digest is right, and it is refused."""
    await history(plane, tenant)
    admin.execute("UPDATE runs SET input_data = '{\"n\": 7}'")
    taken = await take(plane, tenant.tenant_id, Subject("tenant"), actor=ACTOR)
    refused = await verify(plane, taken, actor=ACTOR)
    assert "3 rows of runs are not what its events make" in refused.error_details["message"]


# Restoring


async def test_an_agents_state_comes_back_by_events(plane: Plane, tenant: Tenant) -> None:
    waiting, working, ended = await history(plane, tenant)
    taken = await take(plane, tenant.tenant_id, Subject("agent", ACTOR), actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        resumed = tx.runs.resume(waiting)
        tx.checkpoints.save(resumed, {"mood": "bad"})
        tx.runs.fail(working, {"message": "crashed"})
    planned = await restore(plane, taken, actor=ACTOR, dry_run=True)
    assert [(item.what, item.then, item.now, item.action) for item in planned.differences if item.what == "status"] == [
        ("status", "WAITING", "RUNNING", "suspend"),
        ("status", "RUNNING", "FAILED", "retry"),
    ]
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert (await tx.runs.get(waiting.id)).status == "RUNNING"  # nothing was changed
        before, _ = await tx.events.read()
    done = await restore(plane, taken, actor="user:ada")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        again = await tx.runs.get(waiting.id)
        assert (again.status, again.wait_reason) == ("WAITING", "an answer")
        assert (await tx.runs.get(working.id)).status == "RUNNING"
        assert (await tx.runs.get(ended.id)).version == ended.version
        saved = await tx.checkpoints.latest(again)
        assert saved is not None
        assert saved.state == {"mood": "fine", "n": 0}
        events, _ = await tx.events.read()
    assert [event.id for event in events[: len(before)]] == [event.id for event in before]  # the log is only added to
    new = {event.event_type: event for event in events[len(before) :]}
    assert next(iter(new)) == "SNAPSHOT_VERIFIED"  # proven before anything was brought back
    assert set(new) == {
        "SNAPSHOT_VERIFIED",
        "SNAPSHOT_TAKEN",
        "RUN_SUSPENDED",
        "RUN_RETRIED",
        "CHECKPOINT_SAVED",
        "SNAPSHOT_RESTORED",
    }
    assert new["RUN_SUSPENDED"].actor == "user:ada"
    assert new["RUN_SUSPENDED"].event_data["attributes"]["restored_from"]["folder"] == taken.folder
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        recorded = await tx.snapshots.get(taken.id)
    assert recorded.restored_at is not None
    assert recorded.verified_at is not None
    assert done.before is not None
    assert done.before.cause == "restore"
    assert (await restore(plane, taken, actor=ACTOR, dry_run=True)).differences == ()
    back = await restore(plane, done.before, actor=ACTOR, dry_run=True)  # and back again
    assert {item.action for item in back.differences} >= {"resume"}


async def test_what_has_ended_stays_ended_and_is_said(plane: Plane, tenant: Tenant) -> None:
    [waiting, *_] = await history(plane, tenant)
    taken = await take(plane, tenant.tenant_id, Subject("conversation", str(waiting.correlation_id)), actor=ACTOR)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.runs.cancel(waiting)
    [item] = (await restore(plane, taken, actor=ACTOR)).differences
    assert (item.action, item.reason) == ("cannot", "it has ended since")


# Staying and going


def test_retention_keeps_the_last_of_each_period_and_the_last_good_one() -> None:
    def item(folder: str, status: str = "TAKEN") -> Snapshot:
        return Snapshot.model_construct(id=new_id(), folder=folder, status=status)

    days = [item(f"2026-{month:02}-{day:02}T120000Z") for month in (3, 2, 1) for day in range(28, 0, -1)]
    good = item("2025-12-01T120000Z", "VERIFIED")
    kept = Retention(last=2, daily=3, weekly=2, monthly=2).kept([*days, good])
    folders = sorted(day.folder[:10] for day in days if day.id in kept)
    assert folders == ["2026-02-28", "2026-03-22", "2026-03-26", "2026-03-27", "2026-03-28"]
    assert good.id in kept


async def test_what_others_go_on_from_stays_on_disk_until_nobody_does(plane: Plane, tenant: Tenant) -> None:
    await history(plane, tenant)
    subject = Subject("agent", ACTOR)
    first, second = [await take(plane, tenant.tenant_id, subject, actor=ACTOR) for _ in range(2)]
    await delete(plane, first, "not needed", actor=ACTOR)
    store = SnapshotStore.of(plane.settings, tenant.tenant_id)
    assert [item.folder for item in await snapshots_of(plane, tenant.tenant_id, subject, actor=ACTOR)] == [second.folder]
    assert (await verify(plane, second, actor=ACTOR)).status == "VERIFIED"
    third = await take(plane, tenant.tenant_id, subject, actor=ACTOR, full=True)
    await verify(plane, third, actor=ACTOR)
    gone = await prune(plane, tenant.tenant_id, Retention(1, 0, 0, 0), actor=ACTOR)
    assert [item.folder for item in gone] == [second.folder]
    assert [path.name for path in store.folder.iterdir()] == [third.folder]
    with pytest.raises(InvalidTransition, match="last one of its kind"):
        await delete(plane, third, "x", actor=ACTOR)


async def test_another_tenants_snapshots_are_not_there(plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    await history(plane, tenant)
    taken = await take(plane, tenant.tenant_id, Subject("tenant"), actor=ACTOR)
    assert await snapshots_of(plane, other.tenant_id, None, actor=ACTOR) == []
    mine, theirs = (SnapshotStore.of(plane.settings, item.tenant_id) for item in (tenant, other))
    theirs.folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(mine.place(taken.folder), theirs.folder / taken.folder)
    with pytest.raises(SnapshotRefused, match="another snapshot's"):
        theirs.manifest(taken)
    with pytest.raises(SnapshotRefused):
        theirs.place("../" + str(tenant.tenant_id))


@pytest.mark.parametrize("step", ["write_archive", "_sync", "sync_folder"])
async def test_ended_at_any_step_no_half_snapshot_is_listed(
    plane: Plane, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await history(plane, tenant)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"persistence.snapshots.store.{step}", full)
        with pytest.raises(StorageFull):
            await take(plane, tenant.tenant_id, Subject("tenant"), actor=ACTOR)
    assert await snapshots_of(plane, tenant.tenant_id, None, actor=ACTOR) == []
    taken = await take(plane, tenant.tenant_id, Subject("tenant"), actor=ACTOR)
    assert (await verify(plane, taken, actor=ACTOR)).status == "VERIFIED"
    store = SnapshotStore.of(plane.settings, tenant.tenant_id)
    for path in store.folder.iterdir():
        os.utime(path, (0, 0))
    await sweep(plane, tenant.tenant_id, actor=ACTOR)
    assert [path.name for path in store.folder.iterdir()] == [taken.folder]


# Taken by themselves


def rules(*found: dict[str, Any], **more: Any) -> SnapshotConfig:
    return SnapshotConfig.model_validate({"rules": [{"tenant": "acme", **rule} for rule in found], **more})


async def test_one_is_taken_every_so_often(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    scheduler = Scheduler(plane, rules({"every": "1h"}, keep={"last": 1, "daily": 0, "weekly": 0, "monthly": 0}))
    [first] = await scheduler.round()
    assert (first.cause, first.status) == ("schedule", "VERIFIED")
    assert await scheduler.round() == []
    admin.execute("SET session_replication_role = replica")
    admin.execute("UPDATE snapshots SET created_at = created_at - interval '2 hours'")
    [second] = await scheduler.round()
    assert [item.id for item in await snapshots_of(plane, tenant.tenant_id, None, actor=ACTOR)] == [second.id]  # the other one went


async def test_one_is_taken_when_code_is_pushed_or_merged(plane: Plane, tenant: Tenant, shared_data: Path) -> None:
    """The rules of a service, and what a code host really sends."""
    bodies = {path: json.loads(path.read_text()) for path in sorted((shared_data / "github-webhooks").rglob("*.json"))}
    pushes = [body for path, body in bodies.items() if path.parent.name == "push"]
    merged = [body for path, body in bodies.items() if path.parent.name == "pull_request" and body["pull_request"]["merged"]]
    others = [body for path, body in bodies.items() if path.parent.name == "pull_request" and not body["pull_request"]["merged"]]
    assert pushes
    assert others
    scheduler = Scheduler(
        plane,
        rules(
            {
                "events": [
                    {"event_type": "SIGNAL_RECEIVED", "where": {"signal_type": "push"}},
                    {
                        "event_type": "SIGNAL_RECEIVED",
                        "where": {"signal_type": "pull_request", "payload.pull_request.merged": True},
                    },
                ]
            }
        ),
    )

    async def post(kind: str, body: Any) -> None:
        signal = NewSignal(source_channel="github", source_id=str(new_id()), signal_type=kind, payload=body)
        await plane.receive(tenant.tenant_id, [signal], actor="external:github")

    assert await scheduler.round() == []
    for body in others:
        await post("pull_request", body)
    assert await scheduler.round() == []
    for kind, body in (("push", pushes[0]), ("pull_request", merged[0] if merged else {"pull_request": {"merged": True}})):
        await post(kind, body)
        [taken] = await scheduler.round()
        assert taken.cause == "change"
        assert await scheduler.round() == []


async def test_one_is_taken_when_enough_has_changed_whichever_process_looks(plane: Plane, tenant: Tenant) -> None:
    await take(plane, tenant.tenant_id, Subject("tenant"), actor=ACTOR)
    scheduler = Scheduler(plane, rules({"changed": 10}))
    for _ in range(9):
        await start_run(plane, tenant.tenant_id)
    assert await scheduler.round() == []
    await start_run(plane, tenant.tenant_id)
    [taken] = await Scheduler(plane, rules({"changed": 10})).round()  # another process, with no memory of its own
    assert taken.cause == "size"
    assert await scheduler.round() == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("snapshots:\n  rules: [{tenant: acme}]\n", "every, events or changed"),
        (
            "snapshots:\n  rules: [{tenant: acme, kind: agent, every: 1h}]\n",
            r"snapshots.yaml: snapshots.rules.0: of: which agent is missing",
        ),
        ("snapshots:\n  rules: [{tenant: acme, evry: 1h}]\n", "snapshots.rules.0.evry: is not known"),
        ("snapshots:\n  rules: [{tenant: acme, every: often}]\n", "no duration"),
        ("snapshots:\n  keep: {last: -1}\n", "keep.last"),
    ],
)
def test_a_wrong_rule_is_said_by_its_place(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "snapshots.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=problem) as refused:
        read_snapshot_config(tmp_path)
    assert "evry" not in text or "every" in str(refused.value.hint)


async def test_over_http(plane: Plane, tenant: Tenant) -> None:
    await history(plane, tenant)
    async with serving(plane) as service:
        async with service.client(tenant, Role.OPERATOR) as operator:
            taken = (await operator.post("/v1/snapshots", json={"kind": "agent", "of": ACTOR})).json()
            assert (await operator.post(f"/v1/snapshots/{taken['id']}/verify")).json()["status"] == "VERIFIED"
            assert [item["id"] for item in (await operator.get("/v1/snapshots")).json()] == [taken["id"]]
            assert (await operator.post("/v1/snapshots", json={"kind": "agent", "of": "agent:nobody"})).status_code == 404
            place = SnapshotStore.of(plane.settings, tenant.tenant_id).place(taken["folder"])
            away = place.rename(place.with_name("away"))
            assert (await operator.post(f"/v1/snapshots/{taken['id']}/verify")).status_code == 503
            away.rename(place)
            assert (await operator.post(f"/v1/snapshots/{taken['id']}/restore", json={})).status_code == 403
            assert (await operator.post("/v1/snapshots", json={"kind": "agent"})).status_code == 422
            assert (await operator.post(f"/v1/snapshots/{new_id()}/verify")).status_code == 404
        async with service.client(tenant, Role.ADMIN) as boss:
            planned = (await boss.post(f"/v1/snapshots/{taken['id']}/restore", json={})).json()
            assert (planned["differences"], planned["before"]) == ([], None)
            assert (await boss.post(f"/v1/snapshots/{taken['id']}/restore", json={"dry_run": False})).json()["before"][
                "cause"
            ] == "restore"
        async with service.client(tenant, Role.READER) as reader:
            assert (await reader.post("/v1/snapshots", json={})).status_code == 403
            assert len((await reader.get("/v1/snapshots")).json()) == 2


KILLED = """
import asyncio, os, sys
from pathlib import Path
from uuid import UUID
from persistence import Plane
from persistence.snapshots import Subject, store, take
from persistence.repositories.snapshots import SnapshotRepository
dsn, folder, tenant, step = sys.argv[1:]
def die(*_, **__): os._exit(137)
if step == "archive": store.write_archive = die
if step == "half": store._sync = die
if step == "rename": Path.rename = die
if step == "recorded": SnapshotRepository.take = die
async def main():
    async with Plane(dsn=dsn, data_dir=folder) as plane:
        await take(plane, UUID(tenant), Subject("tenant"), actor="agent:x")
asyncio.run(main())
"""


@pytest.mark.parametrize("step", ["archive", "half", "recorded", "rename"])
async def test_killed_at_any_step_no_half_snapshot_is_listed(plane: Plane, tenant: Tenant, dsn: str, step: str) -> None:
    await history(plane, tenant)
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, dsn, str(plane.settings.data_dir), str(tenant.tenant_id), step
    )
    assert await killed.wait() == 137
    there = await snapshots_of(plane, tenant.tenant_id, None, actor=ACTOR)
    assert len(there) == (step == "rename")  # what was recorded is whole, and is put in its place by whoever reads it first
    for item in there:
        assert (await verify(plane, item, actor=ACTOR)).status == "VERIFIED"
    taken = await take(plane, tenant.tenant_id, Subject("tenant"), actor=ACTOR)
    assert (await verify(plane, taken, actor=ACTOR)).status == "VERIFIED"
    store = SnapshotStore.of(plane.settings, tenant.tenant_id)
    for path in store.folder.iterdir():
        os.utime(path, (0, 0))
    await sweep(plane, tenant.tenant_id, actor=ACTOR)
    assert {path.name for path in store.folder.iterdir()} == {taken.folder, *(item.folder for item in there)}
