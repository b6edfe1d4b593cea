"""The tree of data files: drafts, publishing, reading, listing, deleting."""

import contextlib
import fcntl
import json
import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from persistence.errors import Conflict, MalformedData, PersistenceError
from persistence.ingest.envelope import TAIL, DataFileEnvelope, head
from persistence.ingest.paths import SUFFIX, Stamps, filename_to_timestamp, relative_path, timestamp_to_filename
from persistence.ingest.scopes import scope_to_path_segments
from persistence.ingest.text import check_object, written
from persistence.workspaces.jail import FILE_MODE, Jail

_DRAFT_PREFIX: Final = "."
_DRAFT_SUFFIX: Final = ".tmp"
_TRIES: Final = 1000


@dataclass(frozen=True)
class WriteResult:
    """A file that was written. relative_path: from the tenant's data folder on. sha256: of the data as they were sent, in hexadecimal."""

    path: Path
    relative_path: str
    size_bytes: int
    sha256: str


class Draft:
    """A data file that nobody sees yet. ``close`` removes it unless it was published."""

    def __init__(self, scope: str, collected_at: str, folder: int, file: int, held: ExitStack) -> None:
        """folder, file: open descriptors, closed with ``held``."""
        self.scope = scope
        self.collected_at = collected_at
        self.path = relative_path(scope, collected_at)
        self._name = timestamp_to_filename(collected_at) + SUFFIX
        self._folder = folder
        self._file = file
        self.is_published = False
        self._held = held
        self._digest = sha256()
        self._head = head(scope, collected_at)
        self._pending = self._head
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """Of the data so far, in hexadecimal."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Appends to the data."""
        self._digest.update(data)
        self._put(self._pending + data)
        self._pending = b""

    def check(self) -> None:
        """Raises MalformedData when the data so far are no JSON object. Reads them off the disk, so it takes no memory."""
        check_object(mapped(self._file)[len(self._head) :])

    def fill(self, data: bytes) -> None:
        """All of the data at once, and the end of the file."""
        self._digest.update(data)
        self._put(self._pending + data + TAIL)

    def end(self) -> None:
        """Ends a file whose data were written."""
        self._put(TAIL)

    def sync(self) -> None:
        """Makes the content durable."""
        os.fsync(self._file)

    def publish(self) -> None:
        """Gives the file its name. Durable once ``sync_folder`` is done."""
        os.rename(_draft_name(self._name), self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self.is_published = True

    def sync_folder(self) -> None:
        """Makes the names in its folder durable."""
        os.fsync(self._folder)

    def withdraw(self) -> None:
        """Takes a published file back."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._folder)
        self.is_published = False

    def close(self) -> None:
        """Removes the draft, if it was not published, and lets go of what it holds."""
        if not self.is_published:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_draft_name(self._name), dir_fd=self._folder)
        self._held.close()

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = os.write(self._file, rest)
            self.size_bytes += written
            rest = rest[written:]


class HierarchyManager:
    """The data files of one tenant."""

    def __init__(self, data_dir: Path, stamps: Stamps | None = None) -> None:
        """data_dir: made if it is not there."""
        self.jail = Jail(data_dir)
        self._stamps = stamps or Stamps()

    def draft(self, scope: str, collected_at: str | None = None) -> Draft:
        """A new file of a scope. collected_at: none: this moment, or the next that is free.

        Raises MalformedData for a bad scope or time, Conflict for a time that is taken, OSError.
        """
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError), self._made_folder(scope) as folder:
                return self._draft(folder, scope, collected_at)
        raise PersistenceError(f"{scope}: its folder is removed again and again", hint="look for what does that")

    def drafts(self, scope: str, count: int) -> Iterator[Draft]:
        """So many new files of a scope. Errors as of ``draft``."""
        with self._made_folder(scope) as folder:
            for _ in range(count):
                yield self._draft(folder, scope, None)

    @contextmanager
    def _made_folder(self, scope: str) -> Iterator[int]:
        segments = scope_to_path_segments(scope)
        try:
            with self.jail.folder(*segments, make=True) as folder:
                yield folder
        except OSError:
            self._prune(segments)
            raise

    def _draft(self, folder: int, scope: str, collected_at: str | None) -> Draft:
        if collected_at is not None:
            return self._claimed(folder, scope, collected_at)
        for _ in range(_TRIES):
            with contextlib.suppress(Conflict):
                return self._claimed(folder, scope, self._stamps.next((self.jail.root, scope)))
        raise PersistenceError(f"{scope}: no time of collection is free", hint="look for what writes into its folder")

    def discard(self, draft: Draft) -> None:
        """Ends a draft; one that was not published leaves nothing behind."""
        draft.close()
        if not draft.is_published:
            self._prune(scope_to_path_segments(draft.scope))

    def write_data_file(self, envelope: DataFileEnvelope) -> WriteResult:
        """Writes a data file, durably and whole or not at all. Raises Conflict when it is there; OSError."""
        draft = self.draft(envelope.scope, envelope.collected_at)
        try:
            draft.fill(written(envelope.data))
            draft.sync()
            draft.publish()
            draft.sync_folder()
            return WriteResult(self.jail.root / draft.path, draft.path, draft.size_bytes, draft.sha256)
        finally:
            self.discard(draft)

    def read_data_file(self, scope: str, collected_at: str) -> DataFileEnvelope:
        """A data file's envelope. Raises FileNotFoundError, MalformedData, or ValueError for a file that is no envelope."""
        with self.opened(scope, collected_at) as file, os.fdopen(os.dup(file), "rb") as stream:
            # The standard library's: integers keep all their digits.
            return DataFileEnvelope(**json.load(stream))

    @contextmanager
    def opened(self, scope: str, collected_at: str) -> Iterator[int]:
        """The descriptor of a data file, to read. Raises FileNotFoundError, MalformedData."""
        name = timestamp_to_filename(collected_at) + SUFFIX
        with self.jail.folder(*scope_to_path_segments(scope)) as folder:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
        try:
            yield file
        finally:
            os.close(file)

    def list_versions(self, scope: str) -> list[str]:
        """The names of a scope's data files, the newest first; none where there is no such folder."""
        try:
            with self.jail.folder(*scope_to_path_segments(scope)) as folder:
                return sorted(data_file_names(folder), key=lambda name: name.removesuffix("Z" + SUFFIX), reverse=True)
        except FileNotFoundError:
            return []

    def delete_data_file(self, scope: str, collected_at: str) -> None:
        """Deletes a data file, durably. Raises FileNotFoundError, MalformedData."""
        with self.jail.folder(*scope_to_path_segments(scope)) as folder:
            os.unlink(timestamp_to_filename(collected_at) + SUFFIX, dir_fd=folder)
            os.fsync(folder)

    def _claimed(self, folder: int, scope: str, collected_at: str) -> Draft:
        name = timestamp_to_filename(collected_at) + SUFFIX
        with ExitStack() as stack:
            file = _exclusive(folder, name, stack)
            # Holding the draft's name, nobody else can publish this one: what is not there now will not be.
            if _is_there(folder, name):
                os.unlink(_draft_name(name), dir_fd=folder)
                raise Conflict(
                    f"{relative_path(scope, collected_at)} is there already", hint="leave the time out, or delete that file first"
                )
            own = os.dup(folder)
            stack.callback(os.close, own)
            return Draft(scope, collected_at, own, file, stack.pop_all())

    def _prune(self, segments: list[str]) -> None:
        """Removes the folders of a scope that are empty."""
        with contextlib.suppress(OSError):
            for depth in range(len(segments) - 1, -1, -1):
                with self.jail.folder(*segments[:depth]) as above:
                    os.rmdir(segments[depth], dir_fd=above)


def data_file_names(folder: int) -> Iterator[str]:
    """The names in a folder that data files have."""
    for name in os.listdir(folder):
        if name.endswith(SUFFIX) and is_data_file_name(name):
            yield name


def is_data_file_name(name: str) -> bool:
    try:
        filename_to_timestamp(name.removesuffix(SUFFIX))
    except PersistenceError:
        return False
    return name.endswith(SUFFIX)


def is_draft_name(name: str) -> bool:
    """Whether a draft has such a name."""
    return (
        name.startswith(_DRAFT_PREFIX)
        and name.endswith(_DRAFT_SUFFIX)
        and is_data_file_name(name.removeprefix(_DRAFT_PREFIX).removesuffix(_DRAFT_SUFFIX))
    )


def dead_draft(folder: int, draft: str, *, remove: bool = False) -> bool:
    """Whether the writer of a draft does not live any more. remove: then remove it."""
    try:
        file = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if remove:
            os.unlink(draft, dir_fd=folder)
        return True
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(file)


def mapped(file: int) -> memoryview:
    """An open file's content, without reading it into memory; valid for as long as somebody holds it. Raises MalformedData for an empty one."""
    if os.fstat(file).st_size == 0:
        raise MalformedData("file: is empty")
    return memoryview(mmap.mmap(file, 0, prot=mmap.PROT_READ))


def _draft_name(name: str) -> str:
    return f"{_DRAFT_PREFIX}{name}{_DRAFT_SUFFIX}"


def _is_there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _exclusive(folder: int, name: str, stack: ExitStack) -> int:
    """Makes a draft that is this writer's alone. Raises Conflict when the name is taken."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        file = os.open(_draft_name(name), flags, FILE_MODE, dir_fd=folder)
    except FileExistsError:
        raise Conflict(f"{name} is being written") from None
    stack.callback(os.close, file)
    fcntl.flock(file, fcntl.LOCK_EX)  # others hold it for the moment in which they look whether its writer lives
    if os.fstat(file).st_nlink == 0:  # taken for a dead writer's before it was locked
        raise Conflict(f"{name} was taken away")
    return file
