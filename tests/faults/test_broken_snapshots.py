"""Snapshots whose folders, keys, clocks and neighbours are not what they should be: nothing good is lost, and nobody else is stopped."""

import asyncio
import json
import os
import shutil
import threading
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest

from persistence import Plane
from persistence.errors import Conflict, InvalidInput, NotFound
from persistence.models import Position, Snapshot, Tenant, new_id
from persistence.repositories.snapshots import SnapshotRepository
from persistence.secrets.checking import rewrap_all
from persistence.snapshots import Retention, SnapshotStore, Subject, places, prune, scheduling, take, verify
from persistence.snapshots.archive import write_archive
from persistence.snapshots.manifest import SnapshotAway, SnapshotRefused, decode
from persistence.snapshots.retention import delete, sweep
from persistence.snapshots.scheduling import Keep, Rule, Scheduler, SnapshotConfig
from persistence.snapshots.taking import adopt, snapshots_of
from persistence.vault import Opener
from tests.helpers import ACTOR, start_run

TENANT = Subject("tenant")


async def taken(plane: Plane, tenant: Tenant, **more: Any) -> Snapshot:
    await start_run(plane, tenant.tenant_id)
    return await take(plane, tenant.tenant_id, TENANT, actor=ACTOR, **more)


def folder_of(plane: Plane, snapshot: Snapshot) -> Path:
    return SnapshotStore.of(plane.settings, snapshot.tenant_id).place(snapshot.folder)


async def status(plane: Plane, snapshot: Snapshot) -> str:
    return (await verify(plane, snapshot, actor=ACTOR)).status


async def test_sealed_ones_can_be_read_after_the_vaults_terms_have_ended(plane: Plane, tenant: Tenant) -> None:
    plane.vault.vault.create([Opener("environment", bytearray(range(32)))])
    await plane.vault.changed("created")
    first = await taken(plane, tenant, encrypt=True)
    await plane.vault.changed("rotated", step=lambda keys: keys.rotated())
    await rewrap_all(plane.server.audit_dsn, plane.settings, plane.vault, plane.transaction, actor=ACTOR)
    await plane.vault.changed("terms_ended", step=lambda keys: keys.without_terms_before(keys.document.last_term))
    assert await status(plane, first) == "VERIFIED"
    second = await taken(plane, tenant, encrypt=True)
    assert SnapshotStore.of(plane.settings, tenant.tenant_id).manifest(second).parent == first.folder
    assert await status(plane, second) == "VERIFIED"


async def test_one_whose_key_is_destroyed_is_refused_and_the_next_is_whole(plane: Plane, tenant: Tenant) -> None:
    plane.vault.vault.create([Opener("environment", bytearray(range(32)))])
    await plane.vault.changed("created")
    first = await taken(plane, tenant, encrypt=True)
    await plane.subjects.erase(tenant.tenant_id, "persistence:snapshots", "no longer", actor=ACTOR)
    refused = await verify(plane, first, actor=ACTOR)
    assert refused.status == "REFUSED"
    assert "its key cannot be had" in refused.error_details["message"]
    assert await status(plane, await taken(plane, tenant, encrypt=True)) == "VERIFIED"


async def test_nobody_goes_on_from_one_whose_archive_is_gone(plane: Plane, tenant: Tenant) -> None:
    first = await taken(plane, tenant)
    assert await status(plane, first) == "VERIFIED"
    (folder_of(plane, first) / "snapshot.zip").unlink()
    assert await status(plane, await taken(plane, tenant)) == "VERIFIED"


async def test_one_that_is_gone_on_from_is_not_deleted_meanwhile(
    plane: Plane, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await taken(plane, tenant)
    await start_run(plane, tenant.tenant_id)
    begun, go_on = threading.Event(), threading.Event()
    really = SnapshotStore.write

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return really(*arguments)

    monkeypatch.setattr(SnapshotStore, "write", slow)
    monkeypatch.setattr(places, "_PATIENCE", 0.2)
    taking = asyncio.create_task(take(plane, tenant.tenant_id, TENANT, actor=ACTOR))
    assert await asyncio.to_thread(begun.wait, 30)
    with pytest.raises(Conflict, match="are being taken, read or deleted"):
        await delete(plane, first, "by mistake", actor=ACTOR)
    go_on.set()
    second = await taking
    await delete(plane, first, "there is a later one", actor=ACTOR)
    assert await status(plane, second) == "VERIFIED"


async def test_many_that_are_asked_for_at_once_stop_nobody(dsn: str, plane: Plane, tenant: Tenant) -> None:
    """More at once than the pool has connections."""
    agents = [f"agent:{number}" for number in range(12)]
    for agent in agents:
        async with plane.transaction(tenant.tenant_id, actor=agent) as tx:
            tx.runs.start(run_type="talk")
    async with Plane(settings=plane.settings.model_copy(update={"pool_min": 1, "pool_max": 2})) as narrow, asyncio.timeout(60):
        found = await asyncio.gather(*(take(narrow, tenant.tenant_id, Subject("agent", agent), actor=ACTOR) for agent in agents))
    assert len({item.folder for item in found}) == len(agents)


async def test_what_the_database_does_not_know_stays_and_can_be_adopted(
    plane: Plane, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after it was restored from a backup that is older."""
    recorded: dict[str, Any] = {}

    def killed(_: object, folder: str, **more: Any) -> None:
        recorded.update(more, folder=folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SnapshotRepository, "take", killed)
        with pytest.raises(KeyboardInterrupt):
            await taken(plane, tenant)
    store = SnapshotStore.of(plane.settings, tenant.tenant_id)
    store.finish(recorded["snapshot_id"], recorded["folder"])
    os.utime(store.folder / recorded["folder"], (0, 0))
    assert await sweep(plane, tenant.tenant_id, actor=ACTOR) == []
    found = await adopt(plane, tenant.tenant_id, recorded["folder"], actor=ACTOR)
    assert await status(plane, found) == "VERIFIED"
    with pytest.raises(Conflict, match="recorded already"):
        await adopt(plane, tenant.tenant_id, recorded["folder"], actor=ACTOR)


async def test_one_that_is_gone_keeps_nobody_elses_folder(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:a") as tx:
        tx.runs.start(run_type="talk")
    lost = await take(plane, tenant.tenant_id, Subject("agent", "agent:a"), actor=ACTOR)
    shutil.rmtree(folder_of(plane, lost))
    first = await taken(plane, tenant, full=True)
    place = folder_of(plane, first)
    await taken(plane, tenant, full=True)
    gone = await prune(plane, tenant.tenant_id, Retention(1, 0, 0, 0), actor=ACTOR)
    assert [item.id for item in gone] == [first.id]
    assert not place.exists()


async def test_a_forged_record_is_not_the_newest_for_its_id(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.snapshots.take(
            "2099-01-01T000000Z", snapshot_kind="tenant", subject=None, position=Position(), digest="0" * 64, size_bytes=1, cause="manual",
            snapshot_id=new_id().__class__("ffffffff-ffff-7fff-bfff-ffffffffffff"),
        )  # fmt: skip
    first = await taken(plane, tenant)
    assert (await snapshots_of(plane, tenant.tenant_id, None, actor=ACTOR))[0].id == first.id


async def test_a_record_of_another_kind_than_its_manifest_is_refused(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    first = await taken(plane, tenant)
    store = SnapshotStore.of(plane.settings, tenant.tenant_id)
    with pytest.raises(SnapshotRefused, match="another snapshot's"):
        store.manifest(first.model_copy(update={"snapshot_kind": "agent", "subject": ACTOR}))


@pytest.mark.parametrize("planted", ["fifo", "symlink", "folder"])
async def test_a_manifest_that_is_no_plain_file_is_refused_at_once(plane: Plane, tenant: Tenant, planted: str) -> None:
    first = await taken(plane, tenant)
    path = folder_of(plane, first) / "manifest.json"
    raw = path.read_bytes()
    path.unlink()
    if planted == "fifo":
        os.mkfifo(path)
    elif planted == "symlink":
        (path.parent / "other.json").write_bytes(raw)
        path.symlink_to("other.json")
    else:
        path.mkdir()
    async with asyncio.timeout(20):
        assert await status(plane, first) == "REFUSED"


async def test_a_tenants_folder_that_leads_elsewhere_is_not_written_into(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    store = SnapshotStore.of(plane.settings, tenant.tenant_id)
    store.folder.parent.mkdir(parents=True, exist_ok=True)
    store.folder.symlink_to(elsewhere)
    with pytest.raises(Exception, match="cannot be written"):
        await taken(plane, tenant)
    (elsewhere / f".partial-{new_id()}").mkdir()
    os.utime(next(elsewhere.iterdir()), (0, 0))
    assert await sweep(plane, tenant.tenant_id, actor=ACTOR) == []


@pytest.mark.parametrize("subject", ["agent:\x00", "agent:\x1b[31m", "x" * 201])
def test_a_subject_can_be_shown(subject: str) -> None:
    with pytest.raises(InvalidInput, match="1 to 200 printable"):
        Subject("agent", subject)


async def test_a_conversation_has_one_name(plane: Plane, tenant: Tenant) -> None:
    run = await start_run(plane, tenant.tenant_id)
    names = {Subject("conversation", text).subject for text in (str(run.correlation_id).upper(), f"{{{run.correlation_id}}}")}
    assert names == {str(run.correlation_id)}
    with pytest.raises(NotFound, match="nothing of"):
        await take(plane, tenant.tenant_id, Subject("conversation", str(new_id())), actor=ACTOR)
    with pytest.raises(NotFound, match="nothing of agent agent:dessk"):
        await take(plane, tenant.tenant_id, Subject("agent", "agent:dessk"), actor=ACTOR)


async def test_one_tenants_trouble_is_no_other_tenants(plane: Plane, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    await start_run(plane, tenant.tenant_id)
    await start_run(plane, other.tenant_id)
    really = scheduling.take

    async def broken(plane: Plane, tenant_id: Any, *rest: Any, **more: Any) -> Snapshot:
        if tenant_id == tenant.tenant_id:
            raise ValueError("something nobody thought of")
        return await really(plane, tenant_id, *rest, **more)

    monkeypatch.setattr(scheduling, "take", broken)
    rules = tuple(Rule.model_validate({"tenant": name, "every": "1h"}) for name in (tenant.name, "other"))
    keeping = asyncio.create_task(Scheduler(plane, SnapshotConfig(rules=rules, look="50ms")).keep())  # type: ignore[arg-type]
    async with asyncio.timeout(30):
        while not await snapshots_of(plane, other.tenant_id, None, actor=ACTOR):
            await asyncio.sleep(0.02)
    assert not keeping.done()
    keeping.cancel()


async def test_what_others_do_is_no_change_of_an_agent(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:quiet") as tx:
        tx.runs.start(run_type="talk")
    await take(plane, tenant.tenant_id, Subject("agent", "agent:quiet"), actor=ACTOR)
    rule = Rule.model_validate({"tenant": tenant.name, "kind": "agent", "of": "agent:quiet", "changed": 5})
    scheduler = Scheduler(plane, SnapshotConfig(rules=(rule,)))
    for _ in range(10):
        await start_run(plane, tenant.tenant_id)
    assert await scheduler.round() == []
    async with plane.transaction(tenant.tenant_id, actor="agent:quiet") as tx:
        for _ in range(5):
            tx.runs.start(run_type="talk")
    [due] = await scheduler.round()
    assert due.cause == "size"


async def test_rules_delete_only_what_rules_took(plane: Plane, tenant: Tenant) -> None:
    mine = await taken(plane, tenant)
    before = await taken(plane, tenant, cause="restore")
    rule = Rule.model_validate({"tenant": tenant.name, "changed": 1})
    scheduler = Scheduler(plane, SnapshotConfig(rules=(rule,), keep=Keep(last=1, daily=0, weekly=0, monthly=0)))
    for _ in range(3):
        await start_run(plane, tenant.tenant_id)
        assert len(await scheduler.round()) == 1
    there = await snapshots_of(plane, tenant.tenant_id, None, actor=ACTOR)
    assert {item.id for item in there} >= {mine.id, before.id}
    assert [item.cause for item in there].count("size") == 1


async def test_a_folder_that_is_not_there_for_a_while_refuses_nothing(plane: Plane, tenant: Tenant) -> None:
    first = await taken(plane, tenant)
    assert await status(plane, first) == "VERIFIED"
    place = folder_of(plane, first)
    away = place.rename(place.with_name("away"))
    with pytest.raises(SnapshotAway, match="mount it"):
        await verify(plane, first, actor=ACTOR)
    away.rename(place)
    await taken(plane, tenant)
    await taken(plane, tenant)
    assert first.id not in {item.id for item in await prune(plane, tenant.tenant_id, Retention(1, 0, 0, 0), actor=ACTOR)}


@pytest.mark.parametrize("how", ["a made-up event", "a key twice", "an event left out", "a key besides"])
async def test_what_is_made_up_is_refused_though_every_digest_is_right(plane: Plane, tenant: Tenant, how: str) -> None:
    """As somebody could who writes the folder and may record what lies there."""
    first = await taken(plane, tenant)
    store = SnapshotStore.of(plane.settings, tenant.tenant_id)
    forged = forge(folder_of(plane, first), how)
    found = await adopt(plane, tenant.tenant_id, forged, actor=ACTOR)
    assert store.manifest(found).folder == forged
    assert (await verify(plane, found, actor=ACTOR)).status == "REFUSED"


def forge(place: Path, how: str) -> str:
    """Another snapshot of the same, with right digests throughout. Returns its folder."""
    with zipfile.ZipFile(place / "snapshot.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name != "manifest.json"}
    events = members["events.jsonl"].splitlines()
    match how:
        case "a made-up event":
            event = json.loads(events[-1])
            events[-1] = events[-1].replace(event["id"].encode(), str(new_id()).encode())
        case "a key twice":
            events[-1] = events[-1][:-1] + b', "id": "' + str(new_id()).encode() + b'"}'
        case "an event left out":
            events.pop()
        case "a key besides":
            events[-1] = events[-1][:-1] + b', "zzz": 1}'
    members["events.jsonl"] = b"".join(line + b"\n" for line in events)
    manifest = decode((place / "manifest.json").read_bytes(), place.name)
    folder = "2026-01-01T000000Z"
    made = [
        item.model_copy(
            update={"digest": sha256(members[item.name]).hexdigest(), "size": len(members[item.name]), "held_by": folder}
        )
        for item in manifest.members
    ]
    forged = manifest.model_copy(update={"folder": folder, "snapshot_id": new_id(), "members": tuple(made)})
    target = place.with_name(folder)
    target.mkdir()
    (target / "manifest.json").write_bytes(forged.encoded)
    write_archive(target / "snapshot.zip", forged.encoded, members)
    return folder


async def test_who_gives_up_waiting_is_in_nobodys_way(plane: Plane, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await taken(plane, tenant)
    monkeypatch.setattr(places, "_PATIENCE", 0.3)
    async with places.reading(plane, tenant.tenant_id):
        with pytest.raises(Conflict):
            await delete(plane, first, "in vain", actor=ACTOR)
        deleting = asyncio.create_task(delete(plane, first, "in vain", actor=ACTOR))
        await asyncio.sleep(0)
        deleting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await deleting
        await taken(plane, tenant)  # what reads goes on
    assert await status(plane, first) == "VERIFIED"


async def test_a_take_whose_lock_was_lost_records_nothing(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start_run(plane, tenant.tenant_id)
    really = SnapshotStore.write

    def cut(*arguments: Any) -> Any:
        admin.execute(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database"
            " WHERE l.locktype = 'advisory' AND d.datname = current_database() AND l.mode = 'ShareLock'"
        )
        return really(*arguments)

    monkeypatch.setattr(SnapshotStore, "write", cut)
    with pytest.raises(Conflict, match="was lost"):
        await take(plane, tenant.tenant_id, TENANT, actor=ACTOR)
    assert await snapshots_of(plane, tenant.tenant_id, None, actor=ACTOR) == []
