"""Where snapshots of all there is lie, and what each says of itself."""

import fcntl
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal
from uuid import UUID

import orjson
from pydantic import AfterValidator, Field, ValidationError

from persistence.errors import Conflict, NotFound, StorageFull, first_problem
from persistence.models import new_id
from persistence.snapshots.archive import Archive, write_archive
from persistence.snapshots.manifest import (
    ARCHIVE,
    FOLDER,
    LARGEST_MANIFEST,
    MANIFEST,
    Digest,
    Folder,
    ManifestFile,
    Part,
    SnapshotRefused,
)
from persistence.workspaces.jail import FILE_MODE, FOLDER_MODE, make_folder, open_plain, sync_folder

FORMAT: Final = "persistence.system-snapshot"
UNPLACED: Final = "2000-01-01T000000Z"
"""The folder that a manifest names before it has one."""

_OBJECTS: Final = "objects"
_LOCK: Final = ".lock"
_PARTIAL: Final = ".partial-"
_BLOCK: Final = 1024 * 1024
_LONGEST_PATH: Final = 4096


ROOTS: Final = frozenset({"vault", "config", "ingest", "logs", "snapshots"})
"""The folders of a data directory that files are copied from, and into: nothing of the server's."""


def is_inside(text: str) -> bool:
    """Whether this can be the path of a file in a snapshot: below one of the folders, and of characters that can be shown."""
    path = PurePosixPath(text)
    return (
        len(path.parts) > 1
        and path.parts[0] in ROOTS
        and ".." not in path.parts
        and str(path) == text
        and "\\" not in text
        and text.isprintable()
        and len(text) <= _LONGEST_PATH
    )


def _inside(text: str) -> str:
    if not is_inside(text):
        raise ValueError("leads elsewhere")
    return text


class SystemFile(Part):
    """path: below the data directory it belongs to. modified, changed: in nanoseconds since 1970: its content, and anything of it."""

    path: Annotated[str, AfterValidator(_inside)]
    size: int = Field(ge=0)
    modified: int
    changed: int
    digest: Digest


class SystemManifest(ManifestFile):
    """backup: the label of the server's part; backup_digest: of its manifest."""

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


class SystemStore:
    """The snapshots of all there is in one folder, and the content of their files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else takes or deletes one meanwhile. Raises Conflict where somebody does."""
        make_folder(self.folder)
        lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict("a snapshot of the system is being taken or deleted already", hint="wait for it") from None
            yield
        finally:
            os.close(lock)

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
            with open_plain(self.folder / folder / MANIFEST) as file:
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

    def check(self, manifest: SystemManifest) -> None:
        """Holds every file to its digest, and the manifest to the one in the archive. Raises SnapshotRefused."""
        with Archive(self.folder / manifest.folder / ARCHIVE, manifest.folder) as archive:
            if archive.raw_manifest() != manifest.encoded:
                raise SnapshotRefused(f"snapshot {manifest.folder}: the manifest in its archive is another")
        for item in manifest.files:
            place = self.object(item.digest)
            if not place.is_file() or place.stat().st_size != item.size or digest_of(place) != item.digest:
                raise SnapshotRefused(f"snapshot {manifest.folder}: {item.path} is gone, or was changed")

    def keep(self, path: Path, name: str) -> SystemFile:
        """A copy of a file as it is now: of one that grows, up to here."""
        scratch = self.folder / _OBJECTS / f"{_PARTIAL}{new_id()}"
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
            place = self.object(digest.hexdigest())
            make_folder(place.parent)
            scratch.replace(place)
        finally:
            scratch.unlink(missing_ok=True)
        return SystemFile(path=name, size=size, modified=found.st_mtime_ns, changed=found.st_ctime_ns, digest=digest.hexdigest())

    def object(self, digest: str) -> Path:
        """Where the content of this digest is."""
        return self.folder / _OBJECTS / digest[:2] / digest

    def place(self, manifest: SystemManifest, small: dict[str, bytes]) -> SystemManifest:
        """Puts a snapshot in its place, whole. small: members of its archive. Returns its manifest with the folder that it got."""
        make_folder(self.folder)
        partial = self.folder / f"{_PARTIAL}{new_id()}"
        moment = datetime.now(UTC)
        try:
            while True:
                folder = moment.strftime("%Y-%m-%dT%H%M%SZ")
                if not (self.folder / folder).exists():
                    break
                moment += timedelta(seconds=1)
            placed = manifest.model_copy(update={"folder": folder})
            if len(placed.encoded) >= LARGEST_MANIFEST:
                raise StorageFull(
                    f"{len(placed.files):,} files are more than a snapshot's manifest can name", hint="snapshot other folders"
                )
            partial.mkdir(FOLDER_MODE)
            write_archive(partial / ARCHIVE, placed.encoded, small)
            (partial / MANIFEST).write_bytes(placed.encoded)
            for name in (ARCHIVE, MANIFEST):
                (partial / name).chmod(FILE_MODE)
                with (partial / name).open("rb") as file:
                    os.fsync(file.fileno())
            sync_folder(partial)
            partial.rename(self.folder / folder)
            sync_folder(self.folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return placed

    def remove(self, folder: str) -> None:
        """Removes what one says of itself; the content of its files goes with ``sweep``."""
        shutil.rmtree(self.folder / folder, ignore_errors=True)

    def sweep(self, needed: Collection[str]) -> int:
        """Removes what was begun and not ended, and content that nobody needs. needed: digests. Returns how many bytes went."""
        gone = 0
        for path in self.folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self.folder / _OBJECTS).rglob("*"):
            if path.is_file() and path.name not in needed:
                gone += path.stat().st_size
                path.unlink()
        return gone


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
