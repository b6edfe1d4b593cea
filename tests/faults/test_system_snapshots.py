"""Snapshots of all there is: server, vault, configuration, data files, logs; restored into a new folder, refused when a byte is another."""

import asyncio
import base64
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from persistence import Plane
from persistence.backups import BackupStore
from persistence.backups import take as take_backup
from persistence.database.server import open_server
from persistence.errors import ConfigurationError, Conflict, StorageFull
from persistence.settings import Settings
from persistence.snapshots import Subject, take, verify
from persistence.snapshots.manifest import SnapshotRefused
from persistence.snapshots.retention import Retention
from persistence.snapshots.system import SystemSnapshot, SystemSnapshots, system_roots
from persistence.vault import Opener


@pytest.fixture
async def machine(tmp_path: Path) -> Settings:
    """A data directory with something of everything."""
    settings = Settings(data_dir=tmp_path / "data")
    async with Plane(settings=settings) as plane:
        tenant = await plane.tenants.create("acme", actor="system:test")
        plane.vault.vault.create([Opener("environment", bytearray(range(32)))])
        await plane.vault.changed("created")
        await plane.secrets.set(tenant.tenant_id, "stripe", "sk_live_1", actor="user:ada")
    for name in ("config/logging.yaml", "ingest/acme/scope/one.json", "logs/kai.log.jsonl"):
        path = settings.data_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"logging:\n# {name}\n")
    (settings.data_dir / "ingest" / "acme" / "index.db").write_text("rebuilt from the files")
    (settings.data_dir / "ingest" / "acme" / "link.json").symlink_to("/etc/passwd")
    return settings


async def taken(settings: Settings, **more: bool) -> SystemSnapshot:
    async with open_server(settings) as server:
        roots = system_roots(settings, settings.data_dir / "vault", settings.data_dir / "logs")
        return SystemSnapshots(settings).take(server.for_administration, server.audit_dsn, roots, actor="user:ada", **more)


async def refusal_of(settings: Settings, folder: str) -> str | None:
    async with open_server(settings) as server:
        return await SystemSnapshots(settings).verify(folder, server.for_administration, actor="user:ada")


async def test_all_there_is_comes_back_in_a_new_folder(machine: Settings, tmp_path: Path) -> None:
    first = await taken(machine)
    assert {item.path for item in first.manifest.files} == {
        "config/logging.yaml", "ingest/acme/scope/one.json", "logs/kai.log.jsonl", "vault/master-config.enc.json",
    }  # fmt: skip
    (machine.data_dir / "logs" / "kai.log.jsonl").write_text("another\n")
    second = await taken(machine)
    assert second.new_bytes == len("another\n")  # what is as it was is not copied again
    assert second.backup_bytes < first.backup_bytes
    assert await refusal_of(machine, second.manifest.folder) is None
    into = tmp_path / "restored"
    done = SystemSnapshots(machine).restore(second.manifest.folder, into)
    assert done.epoch == 2
    assert (into / "logs" / "kai.log.jsonl").read_text() == "another\n"
    with pytest.raises(ConfigurationError, match="not empty"):
        SystemSnapshots(machine).restore(second.manifest.folder, into)
    async with Plane(data_dir=into) as plane:
        [tenant] = await plane.tenants.list()
        plane.vault.vault.unlock(Opener("environment", bytearray(range(32))))
        with await plane.secrets.read(tenant.tenant_id, "stripe", purpose="a test", actor="user:ada") as value:
            assert value.text == "sk_live_1"


def _objects(settings: Settings) -> Iterator[Path]:
    yield from (path for path in (settings.data_dir / "snapshots" / "system" / "objects").rglob("*") if path.is_file())


def _manifest(settings: Settings) -> Path:
    [found] = (settings.data_dir / "snapshots" / "system").glob("*Z/manifest.json")
    return found


def _plant(settings: Settings) -> None:
    """One more file, of the server's own, in a manifest that is otherwise as it was."""
    store = SystemSnapshots(settings).store
    [folder] = store.all()
    (settings.data_dir / "evil").write_text("archive_command = 'id'")
    planted = store.keep(settings.data_dir / "evil", "config/evil.yaml").model_copy(
        update={"path": "postgresql/postgresql.auto.conf"}
    )
    manifest = store.get(folder)
    _manifest(settings).write_bytes(manifest.model_copy(update={"files": (*manifest.files, planted)}).encoded)


def _add(settings: Settings) -> None:
    """The same with a file that may be in one."""
    store = SystemSnapshots(settings).store
    [folder] = store.all()
    (settings.data_dir / "more").write_text("snapshots: {}")
    added = store.keep(settings.data_dir / "more", "config/snapshots.yaml")
    manifest = store.get(folder)
    _manifest(settings).write_bytes(manifest.model_copy(update={"files": (*manifest.files, added)}).encoded)


CHANGES: dict[str, Callable[[Settings], object]] = {
    "a file of the server": _plant,
    "one file more": _add,
    "a file": lambda settings: next(_objects(settings)).write_text("changed"),
    "a file that is gone": lambda settings: next(_objects(settings)).unlink(),
    "the backup": lambda settings: next((settings.data_dir / "backups").rglob("backup_manifest")).write_text("{}"),
    "a path": lambda settings: _manifest(settings).write_text(_manifest(settings).read_text().replace('"config/', '"../config/')),
    "the manifest": lambda settings: _manifest(settings).write_text(_manifest(settings).read_text() + " "),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_was_changed_is_refused_before_anything_is_written(machine: Settings, tmp_path: Path, change: str) -> None:
    first = await taken(machine)
    CHANGES[change](machine)
    with pytest.raises(SnapshotRefused):
        SystemSnapshots(machine).restore(first.manifest.folder, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


async def test_a_full_disk_leaves_none_behind(machine: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("persistence.snapshots.system_store.write_archive", full)
        with pytest.raises(StorageFull):
            await taken(machine)
    assert SystemSnapshots(machine).store.all() == []
    assert await refusal_of(machine, (await taken(machine)).manifest.folder) is None


async def pruned(settings: Settings, last: int, **more: bool) -> list[str]:
    async with open_server(settings) as server:
        gone = SystemSnapshots(settings).prune(Retention(last, 0, 0, 0), server.for_administration, actor="user:ada", **more)
    return [item.folder for item in gone]


async def test_what_need_not_stay_goes_with_what_only_it_had(machine: Settings) -> None:
    async with open_server(machine) as server:
        by_itself = take_backup(BackupStore.of(machine), server.for_administration, machine)
    log = machine.data_dir / "logs" / "kai.log.jsonl"
    folders = []
    for text in ("one\n", "two\n", "three\n"):
        log.write_text(text)
        folders.append((await taken(machine, full=True)).manifest.folder)
    assert await refusal_of(machine, folders[1]) is None
    assert await pruned(machine, 1, dry_run=True) == [folders[0]]
    assert await pruned(machine, 1) == [folders[0]]  # the second is the last one that was proven
    assert SystemSnapshots(machine).store.all() == folders[1:]
    assert sorted(path.read_text() for path in _objects(machine) if path.read_text() in {"one\n", "two\n", "three\n"}) == [
        "three\n",
        "two\n",
    ]
    labels = [backup.label for backup in BackupStore.of(machine).all()]
    assert by_itself.label in labels
    assert len(labels) == 3
    assert await refusal_of(machine, folders[1]) is None
    assert await refusal_of(machine, folders[2]) is None
    assert await pruned(machine, 1) == [folders[1]]


async def test_nothing_goes_that_another_one_may_need(machine: Settings) -> None:
    first = await taken(machine)
    (machine.data_dir / "logs" / "kai.log.jsonl").write_text("another\n")
    second = await taken(machine)
    (SystemSnapshots(machine).store.folder / second.manifest.folder / "manifest.json").write_text("{")
    before = sorted(path.name for path in _objects(machine))
    third = await taken(machine)  # also one whose newest cannot be read is gone on from
    assert await pruned(machine, 2) == [first.manifest.folder]
    assert sorted(path.name for path in _objects(machine)) == before  # nobody can tell what the second one needs
    assert await pruned(machine, 1) == [second.manifest.folder]
    assert len(list(_objects(machine))) == len(before) - 1
    assert await refusal_of(machine, third.manifest.folder) is None


async def test_one_at_a_time(machine: Settings) -> None:
    with SystemSnapshots(machine).store.alone(), pytest.raises(Conflict):
        await taken(machine)


async def test_one_that_was_not_recorded_is_when_it_is_proven(machine: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SystemSnapshots, "_record_taken", killed)
        with pytest.raises(KeyboardInterrupt):
            await taken(machine)
    [folder] = SystemSnapshots(machine).store.all()
    assert await refusal_of(machine, folder) is None
    async with open_server(machine) as server:
        [item] = SystemSnapshots(machine).recorded(server.for_administration)
    assert (item.folder, item.status) == (folder, "VERIFIED")


async def test_another_manifest_of_the_same_name_is_refused(machine: Settings) -> None:
    first = await taken(machine)
    raw = first.manifest.encoded
    forged = first.manifest.model_copy(update={"position": "1-0-0"})
    assert forged.encoded != raw
    _manifest(machine).write_bytes(forged.encoded)
    assert "not the one that was recorded" in str(await refusal_of(machine, first.manifest.folder))


async def test_files_whose_names_cannot_be_shown_are_left_out_and_said(machine: Settings) -> None:
    (machine.data_dir / "logs" / "a\tb.log.jsonl").write_text("odd\n")
    first = await taken(machine)
    assert first.left_out == (r"'logs/a\\tb.log.jsonl'".replace("\\\\", "\\"),)
    assert await refusal_of(machine, first.manifest.folder) is None


async def test_a_vault_that_changes_meanwhile_is_taken_again(machine: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    file = machine.data_dir / "vault" / "master-config.enc.json"
    really, times = SystemSnapshots._written, []

    def changing(self: SystemSnapshots, *arguments: object, **more: object) -> SystemSnapshot:
        done = really(self, *arguments, **more)  # type: ignore[arg-type]
        if not times:
            file.write_text(file.read_text() + " ")
        times.append(done.manifest.folder)
        return done

    monkeypatch.setattr(SystemSnapshots, "_written", changing)
    first = await taken(machine)
    assert len(times) == 2
    assert SystemSnapshots(machine).store.all() == [first.manifest.folder]


async def test_a_restore_that_was_cut_off_is_no_data_directory(
    machine: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await taken(machine)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("persistence.snapshots.system.shutil.copyfileobj", full)
        with pytest.raises(StorageFull):
            SystemSnapshots(machine).restore(first.manifest.folder, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
    SystemSnapshots(machine).restore(first.manifest.folder, tmp_path / "restored")
    (tmp_path / "again.partial").mkdir()
    with pytest.raises(ConfigurationError, match="did not end"):
        SystemSnapshots(machine).restore(first.manifest.folder, tmp_path / "again")


async def test_who_was_erased_since_is_erased_again(machine: Settings, tmp_path: Path) -> None:
    """The restored vault's file does not know of it, and the one of now does."""
    key = bytes(range(32))
    async with Plane(settings=machine) as plane:
        [tenant] = await plane.tenants.list()
        plane.vault.vault.unlock(Opener("environment", bytearray(key)))
        with await plane.subjects.key(tenant.tenant_id, "customer:1", purpose="a test", actor="user:ada") as subject:
            sealed = subject.seal({"name": "Ada"})
    first = await taken(machine)
    async with Plane(settings=machine) as plane:
        plane.vault.vault.unlock(Opener("environment", bytearray(key)))
        await plane.subjects.erase(tenant.tenant_id, "customer:1", "asked for it", actor="user:ada")
    into = tmp_path / "restored"
    vault = machine.data_dir / "vault" / "master-config.enc.json"
    SystemSnapshots(machine).restore(first.manifest.folder, into, vault=vault)
    command = [sys.executable, "-m", "persistence.cli", "vault", "check", "--mend", "--data-dir", str(into)]
    environment = {**os.environ, "PERSISTENCE_VAULT_KEY": base64.b64encode(key).decode()}
    said = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True, check=True)
    assert "1 keys that had been erased are destroyed again" in said.stdout
    assert not (into / "vault" / "later").exists()
    async with Plane(data_dir=into) as plane:
        plane.vault.vault.unlock(Opener("environment", bytearray(key)))
        shown = await plane.subjects.reveal(tenant.tenant_id, sealed, purpose="a test", actor="user:ada")
    assert shown == {"erased": True}


async def test_tenants_snapshots_are_in_it(machine: Settings, tmp_path: Path) -> None:
    async with Plane(settings=machine) as plane:
        [tenant] = await plane.tenants.list()
        mine = await take(plane, tenant.tenant_id, Subject("tenant"), actor="user:ada")
    first = await taken(machine)
    assert {item.path.split("/")[0] for item in first.manifest.files} >= {"snapshots"}
    assert not any("snapshots/system" in item.path for item in first.manifest.files)
    SystemSnapshots(machine).restore(first.manifest.folder, tmp_path / "restored")
    async with Plane(data_dir=tmp_path / "restored") as plane:
        assert (await verify(plane, mine, actor="user:ada")).status == "VERIFIED"


async def test_links_of_backups_go_when_nobody_needs_them_any_more(machine: Settings) -> None:
    for _ in range(3):
        await taken(machine)
    await pruned(machine, 1)  # the last one needs the two before it
    assert len(BackupStore.of(machine).all()) == 3
    last = await taken(machine, full=True)
    await pruned(machine, 1)
    assert [backup.label for backup in BackupStore.of(machine).all()] == [last.manifest.backup]
    assert await refusal_of(machine, last.manifest.folder) is None
