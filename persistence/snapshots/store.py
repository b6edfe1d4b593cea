"""Where snapshots lie: a folder for each tenant, in it one for each snapshot."""

import errno
import os
import shutil
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from persistence.models import Snapshot
from persistence.settings import Settings
from persistence.snapshots.archive import Archive, write_archive
from persistence.snapshots.manifest import (
    ARCHIVE,
    FOLDER,
    LARGEST_MANIFEST,
    MANIFEST,
    Manifest,
    SnapshotAway,
    SnapshotRefused,
    decode,
)
from persistence.workspaces.jail import FILE_MODE, FOLDER_MODE, Jail, open_plain, sync_folder, unwritable

MOST_LINKS: Final = 50
"""So many snapshots may go on from each other; then a whole one is taken."""

_PARTIAL: Final = ".partial-"
_FORGOTTEN: Final = 3600.0


class SnapshotStore:
    """The snapshots of one tenant."""

    def __init__(self, root: Path, tenant_id: UUID) -> None:
        """root: of all tenants' snapshots."""
        self.jail = Jail(root)
        self.folder = root / str(tenant_id)
        self.tenant_id = tenant_id

    @classmethod
    def of(cls, settings: Settings, tenant_id: UUID) -> "SnapshotStore":
        """Where the settings say."""
        return cls((settings.snapshot_dir or settings.data_dir / "snapshots").expanduser().resolve(), tenant_id)

    def place(self, folder: str) -> Path:
        """The folder of one snapshot. Raises SnapshotRefused for what cannot be its name, is gone or leads elsewhere."""
        if not FOLDER.fullmatch(folder):
            raise SnapshotRefused(f"{folder!r} is no name of a snapshot", hint="persistence snapshot list")
        try:
            with self.jail.folder(str(self.tenant_id), folder):
                return self.folder / folder
        except FileNotFoundError:
            raise SnapshotAway(
                f"snapshot {folder}: its folder is not in {self.folder}", hint="mount it, or take it from a copy"
            ) from None
        except OSError as error:
            raise _unopened(f"snapshot {folder}: its folder", error) from error

    def write(self, manifest: Manifest, members: dict[str, bytes], taken: Collection[str], later: int = 0) -> Manifest:
        """Writes a snapshot beside its place, whole and durably; ``finish`` puts it there. taken: names of folders that others have. later:
        so many seconds, where somebody else was faster.

        Returns its manifest with the folder that it is to get. Raises StorageFull, Unavailable: then nothing is there.
        """
        partial = self._partial(manifest.snapshot_id)
        try:
            with self.jail.folder(str(self.tenant_id), make=True):
                pass
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(FOLDER_MODE)
            moment = datetime.now(UTC) + timedelta(seconds=later)
            while (folder := moment.strftime("%Y-%m-%dT%H%M%SZ")) in taken or (self.folder / folder).exists():
                moment += timedelta(seconds=1)
            placed = _placed(manifest, folder)
            write_archive(partial / ARCHIVE, placed.encoded, members)
            (partial / MANIFEST).write_bytes(placed.encoded)
            for name in (ARCHIVE, MANIFEST):
                (partial / name).chmod(FILE_MODE)
                _sync(partial / name)
            sync_folder(partial)
            sync_folder(self.folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise unwritable(error, f"{self.folder}: the snapshot cannot be written: {error.strerror}") from error
        return placed

    def finish(self, snapshot_id: UUID, folder: str) -> None:
        """Puts in its place what was recorded. It may be called again, also where whoever took the snapshot ended before."""
        partial, place = self._partial(snapshot_id), self.folder / folder
        if partial.is_dir() and not partial.is_symlink() and FOLDER.fullmatch(folder) and not place.exists():
            partial.rename(place)
            sync_folder(self.folder)

    def forget(self, snapshot_id: UUID) -> None:
        """Removes what was written and will not be recorded."""
        shutil.rmtree(self._partial(snapshot_id), ignore_errors=True)

    def manifest(self, snapshot: Snapshot) -> Manifest:
        """The manifest of a snapshot, as it was recorded. Raises SnapshotRefused."""
        self.finish(snapshot.id, snapshot.folder)
        raw = self._read_manifest(snapshot.folder)
        manifest = decode(raw, snapshot.folder)
        if manifest.encoded != raw or manifest.digest != snapshot.digest:
            raise SnapshotRefused(
                f"snapshot {snapshot.folder}: its manifest is not the one that was recorded",
                hint="somebody changed it; take it from a copy",
            )
        said = (manifest.tenant_id, manifest.folder, manifest.snapshot_id, manifest.kind, manifest.subject, manifest.position)
        recorded = (self.tenant_id, snapshot.folder, snapshot.id, snapshot.snapshot_kind, snapshot.subject, snapshot.position)
        if said != recorded:
            raise SnapshotRefused(f"snapshot {snapshot.folder}: its manifest is another snapshot's")
        return manifest

    def unrecorded(self, folder: str) -> Manifest:
        """The manifest of a snapshot that the database does not know. Raises SnapshotRefused, also where its archive has another one."""
        raw = self._read_manifest(folder)
        manifest = decode(raw, folder)
        if manifest.encoded != raw or manifest.tenant_id != self.tenant_id or manifest.folder != folder:
            raise SnapshotRefused(f"snapshot {folder}: its manifest was changed, or is another snapshot's")
        with self.archive(folder) as archive:
            if archive.manifest() != manifest:
                raise SnapshotRefused(f"snapshot {folder}: the manifest in its archive is another")
        return manifest

    def chain(self, snapshot: Snapshot) -> list[Manifest]:
        """A snapshot's manifest and those that it goes on from, the whole one first. Raises SnapshotRefused."""
        manifest = self.manifest(snapshot)
        chain = [manifest]
        while manifest.parent is not None:
            if len(chain) > MOST_LINKS:
                raise SnapshotRefused(f"snapshot {snapshot.folder}: goes on from more than {MOST_LINKS} others")
            parent = decode(self._read_manifest(manifest.parent), manifest.parent)
            if parent.digest != manifest.parent_digest:
                raise SnapshotRefused(f"snapshot {snapshot.folder}: what it goes on from, {manifest.parent}, was changed")
            manifest = parent
            chain.append(manifest)
        return chain[::-1]

    def check_chain(self, snapshot: Snapshot) -> list[Manifest]:
        """The same, and each has its archive."""
        chain = self.chain(snapshot)
        for manifest in chain:
            with self.archive(manifest.folder) as archive:
                if archive.manifest() != manifest:
                    raise SnapshotRefused(f"snapshot {manifest.folder}: the manifest in its archive is another")
        return chain

    def archive(self, folder: str) -> Archive:
        """Opens the archive of a snapshot. Raises SnapshotRefused."""
        return Archive(self.place(folder) / ARCHIVE, folder)

    def size(self, snapshot_id: UUID) -> int:
        """Bytes on disk of one that is written, and not in its place yet."""
        return sum(path.stat().st_size for path in self._partial(snapshot_id).iterdir())

    def remove(self, folder: str) -> bool:
        """Removes a snapshot's folder. False where there is none."""
        try:
            shutil.rmtree(self.place(folder), ignore_errors=True)
        except SnapshotRefused:
            return False
        return True

    def sweep(self, recorded: Collection[UUID]) -> list[str]:
        """Removes what was begun more than an hour ago and never recorded. What lies in its place stays: a database that was restored may not know
        it. Returns what went.
        """
        gone, names = [], {str(item) for item in recorded}
        for path in self.folder.iterdir() if self.folder.is_dir() and not self.folder.is_symlink() else ():
            snapshot_id = path.name.removeprefix(_PARTIAL)
            is_ours = path.name.startswith(_PARTIAL) and snapshot_id not in names
            if is_ours and not path.is_symlink() and time.time() - path.stat().st_mtime > _FORGOTTEN:
                shutil.rmtree(path, ignore_errors=True)
                gone.append(path.name)
        return gone

    def _partial(self, snapshot_id: UUID) -> Path:
        return self.folder / f"{_PARTIAL}{snapshot_id}"

    def _read_manifest(self, folder: str) -> bytes:
        path = self.place(folder) / MANIFEST
        try:
            with open_plain(path) as file:
                raw = file.read(LARGEST_MANIFEST + 1)
        except FileNotFoundError:
            raise SnapshotRefused(f"snapshot {folder}: its manifest is gone", hint="take it from a copy") from None
        except OSError as error:
            raise _unopened(f"snapshot {folder}: its manifest", error) from error
        if len(raw) > LARGEST_MANIFEST:
            raise SnapshotRefused(f"snapshot {folder}: its manifest is too large")
        return raw


def _unopened(what: str, error: OSError) -> SnapshotRefused:
    """A link or a pipe in the place of a file is somebody's doing; that the disk does not answer, or one may not, is not the snapshot's."""
    kind = SnapshotRefused if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENXIO} else SnapshotAway
    return kind(f"{what} cannot be opened: {error.strerror}")


def _placed(manifest: Manifest, folder: str) -> Manifest:
    """The same in this folder: what it holds itself it holds there."""
    members = tuple(
        member if member.held_by != manifest.folder else member.model_copy(update={"held_by": folder})
        for member in manifest.members
    )
    return manifest.model_copy(update={"folder": folder, "members": members})


def _sync(path: Path) -> None:
    place = os.open(path, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
