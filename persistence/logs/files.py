"""Files that several processes append to, and put aside when they are full or of an earlier day, without losing a line.

Whoever writes holds a shared lock, whoever puts a file aside an exclusive one (flock on ``.lock`` beside it): so nobody is in the middle of a
write then, and whoever comes next finds the new file by its inode. A process that was frozen with the lock in its hand holds up nobody: after a
second lines are written without it, and stand in the old file or the new.
"""

import errno
import fcntl
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from persistence.logs.configuration import SUFFIX
from persistence.workspaces.jail import FILE_MODE, make_folder

_PATIENCE: Final = 1.0
_LOOK: Final = 0.005
_LOOKS: Final = 10
_TRIES: Final = 50
_MOMENT: Final = 0.0002
_DAY: Final = 86_400


class LogFile:
    """One file of lines. For one thread."""

    def __init__(self, path: Path, *, rotate_bytes: int, max_days: int) -> None:
        """path: ends with ``.log.jsonl``; its folder is made. rotate_bytes: of a file, roughly. max_days: files that are older are removed."""
        self.path = path
        self.rotate_bytes = rotate_bytes
        self.max_days = max_days
        self._place = -1
        self._inode = 0
        self._lock = -1
        self._swept_on = 0
        self._begun_on = 0

    def append(self, lines: bytes) -> int:
        """Appends whole lines, each with its end. Returns how many bytes of them are there: all, or whole lines up to where the disk was full.

        Raises OSError where nothing could be written.
        """
        self._enter()
        try:
            self._open()
            if self._is_due(len(lines)):
                self._rotate()
            return self._write(lines)
        finally:
            self._leave()

    def close(self) -> None:
        for place in (self._place, self._lock):
            if place >= 0:
                os.close(place)
        self._place = self._lock = -1

    def _write(self, lines: bytes) -> int:
        head = b"\n" if self._ends_torn() else b""
        text = head + lines
        written = 0
        while written < len(text):
            try:
                written += os.write(self._place, text[written:] if written else text)
            except OSError as error:
                if error.errno == errno.EINTR:
                    continue
                if written <= len(head):
                    raise
                break
        written -= len(head)
        if written == len(lines):
            return written
        return lines.rfind(b"\n", 0, written) + 1  # the rest of a line readers leave out, and the line comes again whole

    def _ends_torn(self) -> bool:
        """Whether the file ends in the middle of a line: a disk was full, a process was killed. What somebody is writing right now looks so,
        too, but goes on: for one whom a busy machine lets wait for longer than this there is an empty line too many.
        """
        seen, looks = -1, 0
        while looks < _LOOKS:
            size = os.fstat(self._place).st_size
            if size == 0 or os.pread(self._place, 1, size - 1) == b"\n":
                return False
            looks = looks + 1 if size == seen else 0
            seen = size
            time.sleep(_LOOK)
        return True

    def _enter(self) -> None:
        if self._lock < 0:
            make_folder(self.path.parent)
            self._lock = os.open(self.path.parent / f".{self.path.name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
        deadline = 0.0
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                now = time.monotonic()
                deadline = deadline or now + _PATIENCE
                if now >= deadline:
                    return
                time.sleep(_LOOK)
            else:
                return

    def _leave(self) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _open(self) -> None:
        if self._place >= 0:
            try:
                if os.stat(self.path, follow_symlinks=False).st_ino == self._inode:
                    return
            except FileNotFoundError:
                pass
            os.close(self._place)
            self._place = -1
        self._place = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        found = os.fstat(self._place)
        self._inode = found.st_ino
        self._begun_on = _begun_on(self.path) if found.st_size else int(time.time()) // _DAY

    def _is_due(self, coming: int) -> bool:
        size = os.fstat(self._place).st_size
        return size > 0 and (size + coming > self.rotate_bytes or int(time.time()) // _DAY > self._begun_on)

    def _rotate(self) -> None:
        """Puts the file aside, unless somebody else has, or too many are writing at this moment: then it is done the next time."""
        full = self._inode
        if not self._alone():
            fcntl.flock(self._lock, fcntl.LOCK_SH)  # asking for the one gave up the other
            self._open()
            return
        self._open()
        if self._inode == full:
            moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
            self.path.rename(self.path.with_name(f"{self.path.name.removesuffix(SUFFIX)}-{moment}Z{SUFFIX}"))
            self._open()
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        self._sweep()

    def _alone(self) -> bool:
        for _ in range(_TRIES):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_MOMENT)
            else:
                return True
        return False

    def _sweep(self) -> None:
        """Removes files that are too old."""
        today = int(time.time()) // _DAY
        if self._swept_on == today:
            return
        self._swept_on = today
        for path in rotated(self.path):
            with suppress(OSError):
                if today - int(path.stat().st_mtime) // _DAY > self.max_days:
                    path.unlink()


def rotated(path: Path) -> list[Path]:
    """Files that were put aside, the oldest first."""
    stem = path.name.removesuffix(SUFFIX)
    return sorted(found for found in path.parent.glob(f"{stem}-*Z{SUFFIX}") if len(found.name) == len(stem) + len(SUFFIX) + 24)


def stream_path(output: Path, stream: str | None) -> Path:
    """The file of a stream: beside the others', and named after it."""
    return output if stream is None else output.with_name(f"{stream}{SUFFIX}")


def _begun_on(path: Path) -> int:
    """The day of a file's first line, in days since 1970; today where there is none yet."""
    try:
        with path.open("rb") as file:
            head = file.readline(200)
        text = head.split(b'"timestamp":"', 1)[1][:10].decode()
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) // _DAY
    except (OSError, IndexError, ValueError):
        return int(time.time()) // _DAY
