"""Holding files, index and drafts against each other: what is wrong, what is mended at each start, and building the index anew."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final

import msgspec

from persistence.errors import MalformedData, PersistenceError
from persistence.ingest.envelope import TAIL, head
from persistence.ingest.hierarchy import dead_draft, is_data_file_name, is_draft_name, mapped
from persistence.ingest.paths import SUFFIX, filename_to_timestamp
from persistence.ingest.registry import IndexEntry
from persistence.ingest.scopes import parse_scope
from persistence.ingest.store import Sender, TenantStore
from persistence.ingest.text import Text, check_object, part_of
from persistence.models.base import Model
from persistence.workspaces.jail import FILE_MODE, FOLDER_MODE

_DEEPEST: Final = 3
_ROWS_AT_ONCE: Final = 1000


class Trouble(StrEnum):
    """What can be wrong with a tree."""

    FILE_WITHOUT_ROW = "file without row"
    ROW_WITHOUT_FILE = "row without file"
    TORN = "torn file"
    CHANGED = "changed file"
    FOREIGN = "foreign file"
    DEAD_DRAFT = "dead draft"
    MODE = "open to others"
    INDEX = "broken index"
    REFUSED = "refused by the database"


class Finding(Model):
    """Something that is wrong. path: from the tenant's data folder on. what: in words."""

    trouble: Trouble
    path: str
    what: str


class Mended(Model):
    """What was put right. added: rows of files that had none. changed: rows that said something else than their files. removed: rows without files.
    drafts: removed, of writers that died. torn: files that are no data files, left as they are.
    """

    added: int = 0
    changed: int = 0
    removed: int = 0
    drafts: int = 0
    torn: int = 0


@dataclass(frozen=True)
class _Entry:
    """Something in the tree. collected_at: of a data file; None: it is something else. draft: its name, if it is one."""

    segments: tuple[str, ...]
    name: str
    folder: int
    mode: int
    collected_at: str | None = None
    is_draft: bool = False

    @property
    def scope(self) -> str:
        return ".".join(self.segments)

    @property
    def path(self) -> str:
        return "/".join((*self.segments, self.name))

    @property
    def is_open_to_others(self) -> bool:
        return stat.S_IMODE(self.mode) & ~(FOLDER_MODE if stat.S_ISDIR(self.mode) else FILE_MODE) != 0


def check(store: TenantStore) -> Iterator[Finding]:
    """Everything that is wrong with a tenant's tree. Others may go on working in it."""
    for fault in store.registry.faults():
        yield Finding(trouble=Trouble.INDEX, path="index.db", what=fault)
    for entry in _walk(store):
        yield from _wrong(store, entry)
    for missing in _rows_without_files(store):
        yield Finding(trouble=Trouble.ROW_WITHOUT_FILE, path=missing.path, what="the index has it, the tree does not")
    for path, error in store.journal.errors():
        yield Finding(trouble=Trouble.REFUSED, path=path, what=error)


def reconcile(store: TenantStore, sender: Sender, *, thoroughly: bool = False) -> Mended:
    """Mends what a process leaves behind that was killed, and what people did to the tree by hand; puts it on the record.

    sender: in whose name. thoroughly: read every file, not only those without a row.
    """
    counts: Counter[str] = Counter()
    for entry in _walk(store):
        if entry.is_draft:
            counts["drafts"] += dead_draft(entry.folder, entry.name, remove=True)
        elif entry.collected_at is not None and (thoroughly or store.registry.find_by_path(entry.path) is None):
            counts[_mend(store, entry, sender)] += 1
    for row in _rows_without_files(store):
        with store.registry.transaction():
            if store.registry.find_by_path(row.path) is not None:
                store.forget(row, sender, was_found=True)
                counts["removed"] += 1
    return Mended(**{name: counts[name] for name in Mended.model_fields})


def _mend(store: TenantStore, entry: _Entry, sender: Sender) -> str:
    """Gives a file the row it should have. Returns what that was: added, changed, torn, or nothing."""
    collected_at = entry.collected_at
    assert collected_at is not None
    try:
        size, digest = _facts(entry)
    except FileNotFoundError:
        return ""
    except MalformedData:
        return "torn"
    with store.registry.transaction():
        row = store.registry.find_by_path(entry.path)
        if row is not None and (row.size_bytes, row.sha256) == (size, digest):
            return ""
        if not _is_there(store, entry.scope, collected_at):
            return ""
        if row is not None:
            store.registry.delete_by_path(entry.path)
        store.adopt(entry.scope, collected_at, size, digest, sender)
    return "added" if row is None else "changed"


def _wrong(store: TenantStore, entry: _Entry) -> Iterator[Finding]:
    def found(trouble: Trouble, what: str) -> Finding:
        return Finding(trouble=trouble, path=entry.path, what=what)

    if entry.is_draft:
        if dead_draft(entry.folder, entry.name):
            yield found(Trouble.DEAD_DRAFT, "its writer does not live any more; the next service to start removes it")
        return
    is_folder = stat.S_ISDIR(entry.mode)
    if entry.collected_at is None and not is_folder:
        yield found(Trouble.FOREIGN, f"no data file has such a name or place{' (a symlink)' if stat.S_ISLNK(entry.mode) else ''}")
        return
    if entry.is_open_to_others:
        yield found(Trouble.MODE, f"its mode is {stat.S_IMODE(entry.mode):04o}")
    if entry.collected_at is None:
        return
    try:
        size, digest = _facts(entry)
    except FileNotFoundError:
        return  # deleted meanwhile
    except MalformedData as error:
        yield found(Trouble.TORN, str(error))
        return
    with store.registry.transaction():
        row = store.registry.find_by_path(entry.path)
        is_there = _is_there(store, entry.scope, entry.collected_at)
    if row is None and is_there:
        yield found(Trouble.FILE_WITHOUT_ROW, "the tree has it, the index does not")
    elif row is not None and is_there and (row.size_bytes, row.sha256) != (size, digest):
        yield found(
            Trouble.CHANGED, f"{row.size_bytes} bytes were stored, with digest {row.sha256}; these are {size}, with digest {digest}"
        )


def _walk(store: TenantStore, *segments: str) -> Iterator[_Entry]:
    """Everything below a folder, folders before what is in them."""
    inner = []
    with suppress(FileNotFoundError), store.hierarchy.jail.folder(*segments) as folder, os.scandir(folder) as listing:
        for item in listing:
            try:
                mode = item.stat(follow_symlinks=False).st_mode
            except FileNotFoundError:
                continue  # removed meanwhile
            is_regular, is_deep = stat.S_ISREG(mode), len(segments) >= 2
            is_folder = stat.S_ISDIR(mode) and len(segments) < _DEEPEST and _is_segment(item.name)
            is_file = is_regular and is_deep and is_data_file_name(item.name)
            if is_folder:
                inner.append(item.name)
            if stat.S_ISDIR(mode) and not is_folder:
                mode = stat.S_IFREG  # to be told as foreign
            yield _Entry(
                segments,
                item.name,
                folder,
                mode,
                filename_to_timestamp(item.name.removesuffix(SUFFIX)) if is_file else None,
                is_regular and is_deep and is_draft_name(item.name),
            )
    for name in inner:
        yield from _walk(store, *segments, name)


def _is_segment(name: str) -> bool:
    try:
        parse_scope(f"{name}.any")
    except PersistenceError:
        return False
    return "." not in name


def _facts(entry: _Entry) -> tuple[int, str]:
    """Size of a data file and digest of its data. Raises MalformedData for what is no data file of its place, FileNotFoundError."""
    file = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=entry.folder)
    try:
        text = mapped(file)
        return len(text), _digest(text, entry.scope, entry.collected_at or "")
    finally:
        os.close(file)


def _digest(text: memoryview, scope: str, collected_at: str) -> str:
    begin = head(scope, collected_at)
    if text[: len(begin)] == begin and text[-len(TAIL) :] == TAIL:
        with suppress(MalformedData):
            data = text[len(begin) : -len(TAIL)]
            check_object(data)
            return sha256(data).hexdigest()
    return sha256(_data_of_another_writer(text, scope, collected_at)).hexdigest()


def _data_of_another_writer(text: Text, scope: str, collected_at: str) -> bytes:
    check_object(text, "file")
    envelope = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    told = {name: part_of(bytes(envelope[name]), "") for name in ("version", "scope", "collectedAt") if name in envelope}
    if told != {"version": "1.0", "scope": scope, "collectedAt": collected_at}:
        raise MalformedData(f"file: is no envelope of {scope} collected at {collected_at}")
    if "data" not in envelope:
        raise MalformedData("file: has no data")
    data = bytes(envelope["data"])
    check_object(data, "data")
    return data


def _rows_without_files(store: TenantStore) -> Iterator[IndexEntry]:
    last = 0
    while rows := store.registry.rows_after(last, _ROWS_AT_ONCE):
        for row in rows:
            if not _is_there(store, row.scope, row.collected_at):
                # Published and deleted under the lock: what is missing under it too is missing.
                with store.registry.transaction():
                    is_row = store.registry.find_by_path(row.path) is not None
                    is_there = _is_there(store, row.scope, row.collected_at)
                if is_row and not is_there:
                    yield row
        last = rows[-1].id


def _is_there(store: TenantStore, scope: str, collected_at: str) -> bool:
    try:
        with store.hierarchy.opened(scope, collected_at):
            return True
    except OSError:
        return False
