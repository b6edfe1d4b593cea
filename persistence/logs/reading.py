"""Reading lines back: those of a while ago, and those to come. What is no whole line is left out: a disk was full, or somebody wrote past this
package.
"""

import heapq
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from persistence.logs.configuration import LEVELS, SUFFIX
from persistence.logs.files import rotated

_BLOCK: Final = 256 * 1024
_LOOK: Final = 0.1
_LOOKS: Final = 5


@dataclass(frozen=True)
class LineFilter:
    """What lines must be, each field if it is given. level: or graver. agent: or below, where it ends with a dot. text: anywhere in the line."""

    since: datetime | None = None
    until: datetime | None = None
    agent: str | None = None
    event: str | None = None
    level: str | None = None
    tenant_id: str | None = None
    correlation_id: str | None = None
    text: str | None = None

    def takes(self, line: dict[str, Any]) -> bool:
        moment = line.get("timestamp", "")
        agent = str(line.get("agent", ""))
        return (
            (self.since is None or moment >= _stamp(self.since))
            and (self.until is None or moment < _stamp(self.until))
            and (self.agent is None or agent == self.agent or (self.agent.endswith(".") and agent.startswith(self.agent)))
            and (self.event is None or line.get("event") == self.event)
            and (self.level is None or LEVELS.get(str(line.get("level")), 0) >= LEVELS.get(self.level, 0))
            and (self.tenant_id is None or line.get("tenant_id") == self.tenant_id)
            and (self.correlation_id is None or line.get("correlation_id") == self.correlation_id)
            and (self.text is None or self.text in orjson.dumps(line).decode())
        )


def log_files(folder: Path, stream: str | None = None) -> list[Path]:
    """The files that are written to now, one a stream. stream: of that one alone."""
    aside = {path for current in folder.glob(f"*{SUFFIX}") for path in rotated(current)}
    return sorted(
        path for path in folder.glob(f"*{SUFFIX}") if path not in aside and (stream is None or path.name == f"{stream}{SUFFIX}")
    )


def read_lines(files: list[Path], wanted: LineFilter) -> Iterator[dict[str, Any]]:
    """Lines of these files and of those that were put aside, in the order of their times."""
    yield from heapq.merge(*(_of_one(path, wanted) for path in files), key=lambda line: str(line.get("timestamp", "")))


def follow_lines(
    folder: Path, stream: str | None, wanted: LineFilter, is_over: Callable[[], bool] = lambda: False
) -> Iterator[dict[str, Any]]:
    """Lines as they are written, from now on, whichever files they go to."""
    followed: dict[Path, Followed] = {path: Followed(path, from_end=True) for path in log_files(folder, stream)}
    while not is_over():
        for path in log_files(folder, stream):
            if path not in followed:
                followed[path] = Followed(path, from_end=False)
        found = [line for one in followed.values() for line in one.lines() if wanted.takes(line)]
        yield from sorted(found, key=lambda line: str(line.get("timestamp", "")))
        if not found:
            time.sleep(_LOOK)


class Followed:
    """One file, read as it grows; what was put aside meanwhile is read to its end first."""

    def __init__(self, path: Path, *, from_end: bool = False, inode: int | None = None, offset: int = 0) -> None:
        """inode, offset: where somebody stopped before."""
        self.path = path
        self.inode, self.offset = inode, offset
        if from_end:
            try:
                found = path.stat()
                self.inode, self.offset = found.st_ino, found.st_size
            except OSError:
                pass

    def lines(self) -> Iterator[dict[str, Any]]:
        while block := self.read():
            yield from _parsed(block)

    def read(self, most: int = _BLOCK) -> bytes:
        """The next whole lines, as they stand there; nothing where there are none yet."""
        for path in self._remaining():
            try:
                with path.open("rb") as file:
                    found = os.fstat(file.fileno())
                    if found.st_ino != self.inode or found.st_size < self.offset:
                        self.inode, self.offset = found.st_ino, 0
                    file.seek(self.offset)
                    block = file.read(most)
                    end = block.rfind(b"\n") + 1
                    if not end and len(block) == most:
                        block += file.readline()
                        end = len(block)
            except OSError:
                continue
            if end:
                self.offset += end
                return block[:end]
            if path == self.path:
                break
        return b""

    @property
    def is_lost(self) -> bool:
        """Whether the file in which somebody stopped is gone, and what stood there after that place with it."""
        if self.inode is None:
            return False
        files = self._remaining_from()
        return files is None or _size(files[0]) < self.offset  # gone, or cut off

    def _remaining(self) -> list[Path]:
        """The file in which somebody stopped, and those after it; all where it is gone: then they are later than it."""
        found = None if self.inode is None else self._remaining_from()
        return [*rotated(self.path), self.path] if found is None else found

    def _remaining_from(self) -> list[Path] | None:
        for _ in range(_LOOKS):  # a file may be put aside between the two looks: it is at neither place then
            files = [*rotated(self.path), self.path]
            inodes = [_inode(path) for path in files]
            if self.inode in inodes:
                return files[inodes.index(self.inode) :]
        return None


def _of_one(path: Path, wanted: LineFilter) -> Iterator[dict[str, Any]]:
    for file in [*rotated(path), path]:
        try:
            if wanted.since is not None and file != path and file.stat().st_mtime < wanted.since.timestamp():
                continue
            with file.open("rb") as lines:
                for raw in lines:
                    for line in _parsed(raw):
                        if wanted.takes(line):
                            yield line
        except OSError:
            continue


def _parsed(block: bytes) -> Iterator[dict[str, Any]]:
    for raw in block.splitlines():
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError:
            continue
        if isinstance(line, dict):
            yield line


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
