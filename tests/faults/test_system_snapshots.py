"""Snapshots of all there is: server, vault, configuration, data files, logs; restored into a new folder, refused when a byte is another."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from persistence import Plane
from persistence.database.server import open_server
from persistence.errors import ConfigurationError, StorageFull
from persistence.settings import Settings
from persistence.snapshots.manifest import SnapshotRefused
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
        return SystemSnapshots(settings).take(server.for_administration, roots, actor="user:ada", **more)


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


CHANGES: dict[str, Callable[[Settings], object]] = {
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
        patch.setattr("persistence.snapshots.system.write_archive", full)
        with pytest.raises(StorageFull):
            await taken(machine)
    assert SystemSnapshots(machine).all() == []
    assert await refusal_of(machine, (await taken(machine)).manifest.folder) is None
