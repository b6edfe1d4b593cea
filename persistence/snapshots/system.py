"""Snapshots of all there is on a machine: the whole server, the vault's file, configuration, data files and log lines.

    snapshots/system/2025-06-21T201500Z/
        manifest.json     the backup's label and the digest of its own manifest; of each file its path, size and digest
        snapshot.zip      the same manifest, with the vault's file and the configuration
    snapshots/system/objects/9f/9f86d0…   the content of other files, each once however many snapshots have it

The server's part is a backup (``backups``), which goes on from the last one by itself. It is taken first: what files know beyond it they tell the
restored database again, as they do after any interruption. Restoring is into a new folder.
"""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from persistence.backups import Backup, BackupStore, Restored, verifications
from persistence.backups import record as record_backup
from persistence.backups import restore as restore_backup
from persistence.backups import take as take_backup
from persistence.backups import verify as verify_backup
from persistence.backups.store import BackupRefused
from persistence.backups.verification import AS_SYSTEM
from persistence.canon import CANON
from persistence.database.pinned import connect_pinned
from persistence.encoding import encode
from persistence.errors import ConfigurationError, Conflict, NotFound
from persistence.models import new_id
from persistence.secrets.recorded_vault import LATER
from persistence.settings import Settings
from persistence.snapshots.manifest import SnapshotRefused
from persistence.snapshots.retention import Retention
from persistence.snapshots.system_store import FORMAT, UNPLACED, SystemFile, SystemManifest, SystemStore, digest_of, is_inside
from persistence.workspaces.jail import FILE_MODE, make_folder, sync_folder, unwritable

_log = logging.getLogger(__name__)

_SYSTEM: Final = "system"
_TRIES: Final = 3
_IN_ARCHIVE: Final = 1024 * 1024
_SKIPPED: Final = (".db", ".db-wal", ".db-shm", ".sqlite", ".sqlite-wal", ".sqlite-shm", ".lock", ".new")

# Records what became of a snapshot of all there is; an administrator's, as persistence_system.
_RECORD: Final = "SELECT persistence.record_system_snapshot(%s, %s, %s::jsonb, %s)"

_RECORDED: Final = """
SELECT s.id, s.folder, s.status, s.digest, s.verified_at
FROM persistence.snapshots AS s
WHERE s.tenant_id = persistence.system_tenant_id()
  AND s.snapshot_kind = 'system'
ORDER BY s.id DESC
"""

# Up to where the log is settled, of all tenants: nothing that is still going on comes before it.
# fit: allow tenant_in_statement because this is of all tenants
_POSITION: Final = """
SELECT format(
  '%s-%s-%s', (SELECT max(l.epoch) FROM canon.log_epochs AS l), coalesce(e.transaction_id::text, '0'), coalesce(e.sequence_number, 0)
)
FROM (VALUES (1)) AS one
LEFT JOIN LATERAL (
  SELECT e.transaction_id, e.sequence_number
  FROM persistence.orchestration_events AS e
  WHERE e.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
  ORDER BY e.sequence_number DESC
  LIMIT 1
) AS e ON true
"""


@dataclass(frozen=True)
class SystemSnapshot:
    """manifest: what it is. path: where. new_bytes: of files that no earlier one had; backup_bytes: of the server's part. left_out: files whose names
    cannot be shown.
    """

    manifest: SystemManifest
    path: Path
    new_bytes: int
    backup_bytes: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecordedSnapshot:
    """What the log says of one. digest: of its manifest."""

    id: UUID
    folder: str
    status: str
    digest: str
    verified_at: datetime | None


class SystemSnapshots:
    """The snapshots of all there is that one data directory has."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.store = SystemStore(snapshot_folder(settings) / _SYSTEM)
        self._backups = BackupStore.of(settings)

    def take(self, admin_dsn: str, audit_dsn: str, roots: dict[str, Path], *, actor: str, full: bool = False) -> SystemSnapshot:
        """Takes one, which holds all that the log had up to its position when it was begun, and what it got meanwhile.

        roots: folders to copy, by the names that they have in it: ``vault``, ``config``, ``ingest``, ``logs``. full: everything is copied again.
        Raises ServerError where the server's part fails, StorageFull or Unavailable where the disk does: then there is none; Conflict where one
        is being taken at this moment.
        """
        with self.store.alone():
            for _ in range(_TRIES):
                vault = _vault_of(roots)
                with connect_pinned(admin_dsn) as connection:
                    connection.execute(AS_SYSTEM)
                    row = connection.execute(_POSITION).fetchone()
                assert row is not None
                refused = {label for label, (status, _, _) in verifications(audit_dsn).items() if status == "REFUSED"}
                backup = take_backup(self._backups, admin_dsn, self._settings, full=full, refused=refused, of_snapshot=True)
                try:
                    taken = self._written(roots, row[0], backup, full=full)
                except OSError as error:
                    raise unwritable(error, f"{self.store.folder}: the snapshot cannot be written: {error.strerror}") from error
                if vault == _vault_of(roots):
                    self._record_taken(admin_dsn, taken.manifest, backup.size + taken.new_bytes, actor)
                    return taken
                self.store.remove(taken.manifest.folder)  # it may have a vault that does not open its own database
        raise Conflict("the vault was changed each time while this was taken", hint="try again when it is quiet")

    def _written(self, roots: dict[str, Path], position: str, backup: Backup, *, full: bool) -> SystemSnapshot:
        files, small, new_bytes, left_out = self._copied(roots, {} if full else self._known())
        manifest = SystemManifest(
            format=FORMAT,
            version=1,
            folder=UNPLACED,
            snapshot_id=new_id(),
            position=position,
            taken_at=datetime.now(UTC).isoformat(),
            package=version("persistence-plane"),
            canon=CANON.version,
            backup=backup.label,
            backup_digest=digest_of(self._backups.base(backup.label) / "backup_manifest"),
            files=tuple(files),
        )
        manifest = self.store.place(manifest, small)
        return SystemSnapshot(manifest, self.store.folder / manifest.folder, new_bytes, backup.size, tuple(left_out))

    async def verify(self, folder: str, admin_dsn: str, *, actor: str) -> str | None:
        """Proves one: it is the one that was recorded, every file has its digest, and the server's part can be restored and keeps the law.

        Why not, or None; recorded either way. Raises NotFound; SnapshotRefused for a manifest that does not even say which one it is.
        """
        manifest = self.store.get(folder)
        recorded = {item.id: item for item in self.recorded(admin_dsn)}.get(manifest.snapshot_id)
        if recorded is None:  # whoever took it ended before that
            self._record_taken(admin_dsn, manifest, sum(item.size for item in manifest.files), actor)
        refusal = None
        try:
            if recorded is not None and recorded.digest != manifest.digest:
                raise SnapshotRefused(f"snapshot {folder}: its manifest is not the one that was recorded")
            self._check(manifest)
            proof = await verify_backup(self._backups, manifest.backup, self._settings)
            record_backup(proof, admin_dsn, actor)
            refusal = proof.refusal
        except (SnapshotRefused, BackupRefused, NotFound) as error:
            refusal = error.message
        if refusal is None:
            self._record(admin_dsn, manifest.snapshot_id, "SNAPSHOT_VERIFIED", {"findings": {"files": len(manifest.files)}}, actor)
        else:
            said = {"error_details": {"type": "SnapshotRefused", "message": refusal}}
            self._record(admin_dsn, manifest.snapshot_id, "SNAPSHOT_REFUSED", said, actor)
        return refusal

    def restore(self, folder: str, data_dir: Path, *, vault: Path | None = None) -> Restored:
        """Makes a new data directory of one: the server as a restored backup is, and the files. Raises SnapshotRefused before anything is written.

        vault: the file of the vault as it is now, which knows whom to erase again: it is put beside the restored one, for ``vault check --mend``.
        """
        manifest = self.store.get(folder)
        self._check(manifest)
        if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
            raise ConfigurationError(f"restore: {data_dir} is there already, and not empty", hint="name a new folder with --into")
        partial = data_dir.with_name(f"{data_dir.name}.partial")
        if partial.exists():
            raise ConfigurationError(
                f"restore: {partial} is there: a restore that did not end", hint="remove it, and restore again"
            )
        done = restore_backup(self._backups, manifest.backup, partial, self._settings)
        try:
            for item in manifest.files:
                place = partial / item.path
                make_folder(place.parent)
                with self.store.object(item.digest).open("rb") as source, place.open("xb") as target:
                    shutil.copyfileobj(source, target)
                place.chmod(FILE_MODE)
                os.utime(place, ns=(item.modified, item.modified))
            if vault is not None and vault.is_file():
                make_folder(partial / "vault" / LATER)
                shutil.copyfile(vault, partial / "vault" / LATER / vault.name)
                (partial / "vault" / LATER / vault.name).chmod(FILE_MODE)
            if data_dir.is_dir():
                data_dir.rmdir()  # it is empty
            partial.rename(data_dir)
            sync_folder(data_dir.parent)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise unwritable(error, f"{data_dir}: the snapshot cannot be restored: {error.strerror}") from error
        return replace(done, data_dir=data_dir)

    def prune(self, retention: Retention, admin_dsn: str, *, actor: str, dry_run: bool = False) -> list[RecordedSnapshot]:
        """Deletes those that need not stay, each by an event, and then the content and the backups that only they had. Returns what goes.

        Backups that were taken by themselves (``persistence backup create``) stay. Raises Conflict while one is being taken.
        """
        with self.store.alone():
            there = [item for item in self.recorded(admin_dsn) if item.status != "DELETED"]
            kept = retention.kept(there)
            gone = [item for item in there if item.id not in kept]
            if not dry_run:
                for item in gone:
                    self._record(admin_dsn, item.id, "SNAPSHOT_DELETED", {"reason": "retention"}, actor)
                self._sweep([item.folder for item in self.recorded(admin_dsn) if item.status == "DELETED"])
            return gone

    def recorded(self, admin_dsn: str) -> list[RecordedSnapshot]:
        """What the log says of them, also of those that are gone, the newest first."""
        with connect_pinned(admin_dsn) as connection:
            connection.execute(AS_SYSTEM)
            return [RecordedSnapshot(*row) for row in connection.execute(_RECORDED)]

    def _sweep(self, deleted: list[str]) -> None:
        """Removes what deleted ones had and nobody else has. Nothing but their folders goes while another's manifest cannot be read."""
        staying: list[SystemManifest] = []
        readable = True
        for folder in self.store.all():
            if folder in deleted:
                self.store.remove(folder)
                continue
            try:
                staying.append(self.store.get(folder))
            except (SnapshotRefused, NotFound) as refusal:
                readable = False
                _log.warning("%s", refusal.message)
        if readable:
            self._drop_backups({item.backup for item in staying})
            self.store.sweep({item.digest for manifest in staying for item in manifest.files})

    def _drop_backups(self, staying: set[str]) -> None:
        """Removes backups that were taken for snapshots and that neither one of these needs, nor a backup that was taken by itself."""
        there = {backup.label: backup for backup in self._backups.all()}
        needed: set[str] = set()
        for label, backup in there.items():
            link: Backup | None = backup if label in staying or not backup.of_snapshot else None
            while link is not None and link.label not in needed:
                needed.add(link.label)
                link = there.get(link.parent or "")
        for label in there.keys() - needed:
            shutil.rmtree(self._backups.place(label), ignore_errors=True)

    def _check(self, manifest: SystemManifest) -> None:
        base = self._backups.base(manifest.backup) / "backup_manifest"
        if not base.is_file() or digest_of(base) != manifest.backup_digest:
            raise SnapshotRefused(f"snapshot {manifest.folder}: its backup {manifest.backup} is gone, or is another")
        self.store.check(manifest)

    def _known(self) -> dict[str, SystemFile]:
        """The files of the newest one, by their paths: what is as it was need not be copied."""
        for folder in reversed(self.store.all()):
            try:
                return {item.path: item for item in self.store.get(folder).files}
            except (SnapshotRefused, NotFound) as refusal:
                _log.warning("%s", refusal.message)
        return {}

    def _copied(
        self, roots: dict[str, Path], known: dict[str, SystemFile]
    ) -> tuple[list[SystemFile], dict[str, bytes], int, list[str]]:
        files: list[SystemFile] = []
        left_out: list[str] = []
        small: dict[str, bytes] = {}
        new_bytes = 0
        for root, folder in sorted(roots.items()):
            for path in _plain_files(folder, but=self.store.folder):
                name = f"{root}/{path.relative_to(folder).as_posix()}"
                if not is_inside(name):
                    left_out.append(ascii(name))
                    continue
                try:
                    item, is_new = self._file(path, name, known.get(name))
                except FileNotFoundError:
                    continue  # it went meanwhile: rotated away, or ended
                new_bytes += item.size * is_new
                files.append(item)
                if root in {"vault", "config"} and item.size < _IN_ARCHIVE:
                    small[f"file_{len(small)}.json"] = self.store.object(item.digest).read_bytes()
        return files, small, new_bytes, left_out

    def _file(self, path: Path, name: str, known: SystemFile | None) -> tuple[SystemFile, bool]:
        """A file as the store has it now, and whether it had to be copied."""
        found = path.stat()
        if (
            known is not None
            and (known.size, known.modified, known.changed) == (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            and self.store.object(known.digest).is_file()
        ):
            return known, False
        item = self.store.keep(path, name)
        return item, known is None or known.digest != item.digest

    def _record_taken(self, admin_dsn: str, manifest: SystemManifest, size: int, actor: str) -> None:
        data: dict[str, Any] = {
            "snapshot_kind": _SYSTEM,
            "folder": manifest.folder,
            "position": manifest.position,
            "digest": manifest.digest,
            "size_bytes": size,
            "cause": "manual",
        }
        self._record(admin_dsn, manifest.snapshot_id, "SNAPSHOT_TAKEN", data, actor)

    def _record(self, admin_dsn: str, snapshot_id: UUID, event_type: str, data: Mapping[str, object], actor: str) -> None:
        with connect_pinned(admin_dsn) as connection:
            connection.execute(AS_SYSTEM)
            connection.execute(_RECORD, (snapshot_id, event_type, encode(data), actor))


def snapshot_folder(settings: Settings) -> Path:
    """Where all snapshots are."""
    return (settings.snapshot_dir or settings.data_dir / "snapshots").expanduser().resolve()


def system_roots(settings: Settings, vault_folder: Path, log_folder: Path) -> dict[str, Path]:
    """The folders of a data directory, by their names in a snapshot."""
    return {
        "vault": vault_folder,
        "config": settings.config_folder,
        "ingest": settings.ingest_dir or settings.data_dir / "ingest",
        "logs": log_folder,
        "snapshots": snapshot_folder(settings),
    }


def _vault_of(roots: dict[str, Path]) -> dict[str, str]:
    """The digests of the vault's files."""
    return {str(path): digest_of(path) for path in _plain_files(roots["vault"])} if "vault" in roots else {}


def _plain_files(folder: Path, but: Path | None = None) -> Iterator[Path]:
    """Files below a folder, no links, none that others rebuild (indexes, locks), nothing half-made. but: a folder below it that is left out."""
    for place, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and Path(place) / name != but)
        for name in sorted(names):
            path = Path(place) / name
            if not name.startswith(".") and not name.endswith(_SKIPPED) and path.is_file() and not path.is_symlink():
                yield path
