"""Where snapshots lie: a folder for each tenant, in it one for each snapshot."""

import os
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from persistence.errors import NotFound, StorageFull, Unavailable
from persistence.models import Snapshot, new_id
from persistence.settings import Settings
from persistence.snapshots.archive import Archive, write_archive
from persistence.snapshots.manifest import ARCHIVE, FOLDER, LARGEST_MANIFEST, MANIFEST, Manifest, SnapshotRefused, decode
from persistence.workspaces.jail import FOLDER_MODE, Jail, make_folder, sync_folder

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
        """The folder of one snapshot. Raises NotFound for what cannot be its name, or leads elsewhere."""
        if not FOLDER.fullmatch(folder):
            raise NotFound(f"{folder!r} is no name of a snapshot", hint="persistence snapshot list", field="folder")
        try:
            with self.jail.folder(str(self.tenant_id), folder):
                return self.folder / folder
        except FileNotFoundError:
            raise SnapshotRefused(f"snapshot {folder}: its folder is gone", hint="take it from a copy") from None
        except OSError as error:
            raise SnapshotRefused(f"snapshot {folder}: its folder cannot be opened: {error.strerror}") from error

    def write(self, manifest: Manifest, members: dict[str, bytes]) -> Manifest:
        """Puts a snapshot in its place, whole. Returns its manifest with the folder that it got. Raises StorageFull, Unavailable: then nothing
        is there.
        """
        make_folder(self.folder)
        partial = self.folder / f"{_PARTIAL}{new_id()}"
        try:
            partial.mkdir(FOLDER_MODE)
            moment = datetime.now(UTC)
            while True:
                folder = moment.strftime("%Y-%m-%dT%H%M%SZ")
                if (self.folder / folder).exists():
                    moment += timedelta(seconds=1)
                    continue
                placed = _placed(manifest, folder)
                for old in (ARCHIVE, MANIFEST):
                    (partial / old).unlink(missing_ok=True)
                write_archive(partial / ARCHIVE, placed.encoded, members)
                (partial / MANIFEST).write_bytes(placed.encoded)
                for name in (ARCHIVE, MANIFEST):
                    _sync(partial / name)
                sync_folder(partial)
                try:
                    partial.rename(self.folder / folder)
                except OSError:
                    if (self.folder / folder).exists():
                        continue  # somebody took one in this very second
                    raise
                sync_folder(self.folder)
                return placed
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            kind = StorageFull if error.errno in {28, 122, 27} else Unavailable
            raise kind(f"{self.folder}: the snapshot cannot be written: {error.strerror}") from error

    def manifest(self, snapshot: Snapshot) -> Manifest:
        """The manifest of a snapshot, as it was recorded. Raises SnapshotRefused."""
        raw = self._read_manifest(snapshot.folder)
        manifest = decode(raw, snapshot.folder)
        if manifest.encoded != raw or manifest.digest != snapshot.digest:
            raise SnapshotRefused(
                f"snapshot {snapshot.folder}: its manifest is not the one that was recorded",
                hint="somebody changed it; take it from a copy",
            )
        if manifest.tenant_id != self.tenant_id or manifest.folder != snapshot.folder or manifest.snapshot_id != snapshot.id:
            raise SnapshotRefused(f"snapshot {snapshot.folder}: its manifest is another snapshot's")
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

    def archive(self, folder: str) -> Archive:
        """Opens the archive of a snapshot. Raises SnapshotRefused."""
        return Archive(self.place(folder) / ARCHIVE, folder)

    def content(self, manifest: Manifest, name: str) -> bytes | None:
        """The bytes of a member, wherever they are held; None where there is none of this name."""
        member = manifest.member(name)
        if member is None:
            return None
        with self.archive(member.held_by) as archive:
            return archive.member(member)

    def size(self, folder: str) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.place(folder).iterdir())

    def remove(self, folder: str) -> None:
        """Removes a snapshot's folder."""
        shutil.rmtree(self.place(folder), ignore_errors=True)

    def sweep(self, known: Sequence[str]) -> list[str]:
        """Removes what was begun and never recorded, and is older than an hour. known: folders that are recorded. Returns what went."""
        gone = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            is_ours = path.name.startswith(_PARTIAL) or (FOLDER.fullmatch(path.name) and path.name not in known)
            if is_ours and not path.is_symlink() and time.time() - path.stat().st_mtime > _FORGOTTEN:
                shutil.rmtree(path, ignore_errors=True)
                gone.append(path.name)
        return gone

    def _read_manifest(self, folder: str) -> bytes:
        path = self.place(folder) / MANIFEST
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                raw = file.read(LARGEST_MANIFEST + 1)
        except FileNotFoundError:
            raise SnapshotRefused(f"snapshot {folder}: its manifest is gone", hint="take it from a copy") from None
        except OSError as error:
            raise SnapshotRefused(f"snapshot {folder}: its manifest cannot be read: {error.strerror}") from error
        if len(raw) > LARGEST_MANIFEST:
            raise SnapshotRefused(f"snapshot {folder}: its manifest is too large")
        return raw


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
