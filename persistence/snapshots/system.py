"""Snapshots of all there is on a machine: the whole server, the vault's file, configuration, data files and log lines.

    snapshots/system/2025-06-21T201500Z/
        manifest.json     the backup's label and the digest of its own manifest; of each file its path, size and digest
        snapshot.zip      the same manifest, with the vault's file and the configuration
    snapshots/system/objects/9f/9f86d0…   the content of other files, each once however many snapshots have it

The server's part is a backup (``backups``), which goes on from the last one by itself. It is taken first: what files know beyond it they tell the
restored database again, as they do after any interruption. Restoring is into a new folder.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal
from uuid import UUID

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from persistence.backups import BackupStore, Restored
from persistence.backups import restore as restore_backup
from persistence.backups import take as take_backup
from persistence.backups import verify as verify_backup
from persistence.backups.verification import AS_SYSTEM
from persistence.canon import CANON
from persistence.database.pinned import connect_pinned
from persistence.encoding import encode
from persistence.errors import ConfigurationError, NotFound, StorageFull, Unavailable, first_problem
from persistence.models import new_id
from persistence.settings import Settings
from persistence.snapshots.archive import write_archive
from persistence.snapshots.manifest import ARCHIVE, FOLDER, LARGEST_MANIFEST, MANIFEST, Digest, Folder, SnapshotRefused
from persistence.workspaces.jail import FOLDER_MODE, make_folder, sync_folder

FORMAT: Final = "persistence.system-snapshot"
_SYSTEM: Final = "system"
_OBJECTS: Final = "objects"
_BLOCK: Final = 1024 * 1024
_SKIPPED: Final = (".db", ".db-wal", ".db-shm", ".sqlite", ".sqlite-wal", ".sqlite-shm", ".lock", ".new")

# Records a snapshot of all there is; an administrator's, as persistence_system.
_RECORD: Final = "SELECT persistence.record_system_snapshot(%s, %s, %s::jsonb, %s)"

# Where the log is, of all tenants.
# fit: allow tenant_in_statement because this is of all tenants
_POSITION: Final = """
SELECT format('%s-%s-%s', (SELECT max(l.epoch) FROM canon.log_epochs AS l), pg_snapshot_xmin(pg_current_snapshot()),
coalesce(max(e.sequence_number), 0)) FROM persistence.orchestration_events AS e
"""


def _is_inside(text: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or str(path) != text or "\\" in text or not text.isprintable():
        raise ValueError("leads elsewhere")
    return text


class SystemFile(BaseModel):
    """path: below the data directory it belongs to. modified: in nanoseconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[str, AfterValidator(_is_inside), Field(min_length=1, max_length=4096)]
    size: int = Field(ge=0)
    modified: int
    digest: Digest


class SystemManifest(BaseModel):
    """backup: the label of the server's part; backup_digest: of its manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["persistence.system-snapshot"]
    version: Literal[1]
    folder: Folder
    snapshot_id: UUID
    position: str
    taken_at: str
    package: str
    canon: str
    backup: str
    backup_digest: Digest
    files: tuple[SystemFile, ...]

    @property
    def encoded(self) -> bytes:
        return orjson.dumps(
            self.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        )


@dataclass(frozen=True)
class SystemSnapshot:
    """manifest: what it is. path: where. new_bytes: of files that no earlier one had; backup_bytes: of the server's part."""

    manifest: SystemManifest
    path: Path
    new_bytes: int
    backup_bytes: int


class SystemSnapshots:
    """The snapshots of all there is that one data directory has."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.folder = (settings.snapshot_dir or settings.data_dir / "snapshots").expanduser().resolve() / _SYSTEM
        self._backups = BackupStore.of(settings)

    def take(self, admin_dsn: str, roots: dict[str, Path], *, actor: str, full: bool = False) -> SystemSnapshot:
        """Takes one. roots: folders to copy, by the names that they have in it: ``vault``, ``config``, ``ingest``, ``logs``.

        Raises ServerError where the server's part fails, StorageFull or Unavailable where the disk does: then there is none.
        """
        backup = take_backup(self._backups, admin_dsn, self._settings, full=full)
        with connect_pinned(admin_dsn) as connection:
            connection.execute(AS_SYSTEM)
            row = connection.execute(_POSITION).fetchone()
        assert row is not None
        try:
            before = {item.path: item for item in self.newest().files} if self.all() else {}
            files, small, new_bytes = self._copied(roots, before)
            manifest = SystemManifest(
                format="persistence.system-snapshot",
                version=1,
                folder="2000-01-01T000000Z",
                snapshot_id=new_id(),
                position=row[0],
                taken_at=datetime.now(UTC).isoformat(),
                package=version("persistence-plane"),
                canon=CANON.version,
                backup=backup.label,
                backup_digest=_digest(self._backups.base(backup.label) / "backup_manifest"),
                files=tuple(files),
            )
            manifest = self._placed(manifest, small)
        except OSError as error:
            kind = StorageFull if error.errno in {28, 122, 27} else Unavailable
            raise kind(f"{self.folder}: the snapshot cannot be written: {error.strerror}") from error
        data = {
            "snapshot_kind": "system",
            "folder": manifest.folder,
            "position": manifest.position,
            "digest": sha256(manifest.encoded).hexdigest(),
            "size_bytes": new_bytes + backup.size,
            "cause": "manual",
        }
        self._record(admin_dsn, manifest.snapshot_id, "SNAPSHOT_TAKEN", data, actor)
        return SystemSnapshot(manifest, self.folder / manifest.folder, new_bytes, backup.size)

    async def verify(self, folder: str, admin_dsn: str, *, actor: str) -> str | None:
        """Proves one: every file has its digest, and the server's part can be restored and keeps the law. Why not, or None; recorded either way."""
        refusal = None
        manifest = self.get(folder)
        try:
            self._check(manifest)
            proof = await verify_backup(self._backups, manifest.backup, self._settings)
            refusal = proof.refusal
        except (SnapshotRefused, NotFound) as error:
            refusal = error.message
        if refusal is None:
            self._record(admin_dsn, manifest.snapshot_id, "SNAPSHOT_VERIFIED", {"findings": {"files": len(manifest.files)}}, actor)
        else:
            said = {"error_details": {"type": "SnapshotRefused", "message": refusal}}
            self._record(admin_dsn, manifest.snapshot_id, "SNAPSHOT_REFUSED", said, actor)
        return refusal

    def restore(self, folder: str, data_dir: Path) -> Restored:
        """Makes a new data directory of one: the server as a restored backup is, and the files. Raises SnapshotRefused before anything is written."""
        manifest = self.get(folder)
        self._check(manifest)
        if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
            raise ConfigurationError(f"restore: {data_dir} is there already, and not empty", hint="name a new folder with --into")
        done = restore_backup(self._backups, manifest.backup, data_dir, self._settings)
        for item in manifest.files:
            place = data_dir / item.path
            make_folder(place.parent)
            shutil.copyfile(self._object(item.digest), place)
            place.chmod(0o600)
            os.utime(place, ns=(item.modified, item.modified))
        return done

    def all(self) -> list[str]:
        """The folders of those that are whole, the newest last."""
        return sorted(path.name for path in self.folder.iterdir() if FOLDER.fullmatch(path.name)) if self.folder.is_dir() else []

    def newest(self) -> SystemManifest:
        """Raises NotFound where there is none."""
        if not (there := self.all()):
            raise NotFound(f"there is no snapshot in {self.folder}", hint="persistence snapshot system take")
        return self.get(there[-1])

    def get(self, folder: str) -> SystemManifest:
        """What one says of itself. Raises NotFound, SnapshotRefused."""
        if not FOLDER.fullmatch(folder):
            raise NotFound(f"{folder!r} is no name of a snapshot", hint="persistence snapshot system list")
        try:
            with os.fdopen(os.open(self.folder / folder / MANIFEST, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                raw = file.read(LARGEST_MANIFEST)
            manifest = SystemManifest.model_validate(orjson.loads(raw))
        except FileNotFoundError:
            raise NotFound(f"there is no snapshot {folder!r} in {self.folder}", hint="persistence snapshot system list") from None
        except ValidationError as error:
            field, problem = first_problem(error)
            raise SnapshotRefused(f"snapshot {folder}: manifest: {field}: {problem}") from error
        except (OSError, ValueError) as error:
            raise SnapshotRefused(f"snapshot {folder}: its manifest cannot be read: {error}") from error
        if manifest.encoded != raw or manifest.folder != folder:
            raise SnapshotRefused(f"snapshot {folder}: its manifest was changed")
        return manifest

    def _check(self, manifest: SystemManifest) -> None:
        base = self._backups.base(manifest.backup) / "backup_manifest"
        if not base.is_file() or _digest(base) != manifest.backup_digest:
            raise SnapshotRefused(f"snapshot {manifest.folder}: its backup {manifest.backup} is gone, or is another")
        for item in manifest.files:
            place = self._object(item.digest)
            if not place.is_file() or place.stat().st_size != item.size or _digest(place) != item.digest:
                raise SnapshotRefused(f"snapshot {manifest.folder}: {item.path} is gone, or was changed")

    def _copied(self, roots: dict[str, Path], before: dict[str, SystemFile]) -> tuple[list[SystemFile], dict[str, bytes], int]:
        files: list[SystemFile] = []
        small: dict[str, bytes] = {}
        new_bytes = 0
        for root, folder in sorted(roots.items()):
            for path in _plain_files(folder):
                name = f"{root}/{path.relative_to(folder).as_posix()}"
                known, found = before.get(name), path.stat()
                if (
                    known is not None
                    and (known.size, known.modified) == (found.st_size, found.st_mtime_ns)
                    and self._object(known.digest).is_file()
                ):
                    files.append(known)
                    continue
                item = self._kept(path, name)
                if known is None or known.digest != item.digest:
                    new_bytes += item.size
                files.append(item)
                if root in {"vault", "config"} and item.size < _BLOCK:
                    small[f"file_{len(small)}.json"] = self._object(item.digest).read_bytes()
        return files, small, new_bytes

    def _kept(self, path: Path, name: str) -> SystemFile:
        """A copy of a file as it is now: of one that grows, up to here."""
        scratch = self.folder / _OBJECTS / f".partial-{new_id()}"
        make_folder(scratch.parent)
        digest, size = sha256(), 0
        try:
            with path.open("rb") as source, scratch.open("xb") as target:
                found = os.fstat(source.fileno())
                while size < found.st_size and (block := source.read(min(_BLOCK, found.st_size - size))):
                    target.write(block)
                    digest.update(block)
                    size += len(block)
                target.flush()
                os.fsync(target.fileno())
            place = self._object(digest.hexdigest())
            make_folder(place.parent)
            scratch.replace(place)
        finally:
            scratch.unlink(missing_ok=True)
        return SystemFile(path=name, size=size, modified=found.st_mtime_ns, digest=digest.hexdigest())

    def _object(self, digest: str) -> Path:
        return self.folder / _OBJECTS / digest[:2] / digest

    def _placed(self, manifest: SystemManifest, small: dict[str, bytes]) -> SystemManifest:
        make_folder(self.folder)
        partial = self.folder / f".partial-{new_id()}"
        moment = datetime.now(UTC)
        try:
            while True:
                folder = moment.strftime("%Y-%m-%dT%H%M%SZ")
                if not (self.folder / folder).exists():
                    break
                moment += timedelta(seconds=1)
            placed = manifest.model_copy(update={"folder": folder})
            partial.mkdir(FOLDER_MODE)
            write_archive(partial / ARCHIVE, placed.encoded, small)
            (partial / MANIFEST).write_bytes(placed.encoded)
            for name in (ARCHIVE, MANIFEST):
                with (partial / name).open("rb") as file:
                    os.fsync(file.fileno())
            sync_folder(partial)
            partial.rename(self.folder / folder)
            sync_folder(self.folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return placed

    def _record(self, admin_dsn: str, snapshot_id: UUID, event_type: str, data: Mapping[str, object], actor: str) -> None:
        with connect_pinned(admin_dsn) as connection:
            connection.execute(AS_SYSTEM)
            connection.execute(_RECORD, (snapshot_id, event_type, encode(data), actor))


def system_roots(settings: Settings, vault_folder: Path, log_folder: Path) -> dict[str, Path]:
    """The folders of a data directory, by their names in a snapshot."""
    return {
        "vault": vault_folder,
        "config": settings.config_folder,
        "ingest": settings.ingest_dir or settings.data_dir / "ingest",
        "logs": log_folder,
    }


def _plain_files(folder: Path) -> Iterator[Path]:
    """Files below a folder, no links, none that others rebuild (indexes, locks)."""
    for place, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            if not name.startswith(".") and not name.endswith(_SKIPPED) and path.is_file() and not path.is_symlink():
                yield path


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
