"""A folder that no name leads out of."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from persistence.errors import InvalidInput, StorageFull, Unavailable

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a disk without room says."""


class Jail:
    """Folders below one that is ours, opened step by step from it: neither ``..`` nor a symlink, nor one that is put there meanwhile, leads out."""

    def __init__(self, root: Path) -> None:
        """root: made if it is not there. What it is itself, a symlink too, is up to whoever names it."""
        make_folder(root)
        self.root = root

    @contextmanager
    def folder(self, *segments: str, make: bool = False) -> Iterator[int]:
        """The descriptor of a folder below. make: make what is missing, durably.

        Raises FileNotFoundError; NotADirectoryError or another OSError where a symlink is in the way; InvalidInput for a segment that is no name.
        """
        here = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for segment in segments:
                there = _step(here, segment, make=make)
                os.close(here)
                here = there
            yield here
        finally:
            os.close(here)


def unwritable(error: OSError, words: str) -> StorageFull | Unavailable:
    """What to raise where something cannot be written: StorageFull for want of room, Unavailable for anything else. words: of the message."""
    return StorageFull(words) if error.errno in FULL else Unavailable(words)


def check_name(name: str) -> str:
    """The same, if it can name something in a folder. Raises InvalidInput."""
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise InvalidInput(f"{name!r} cannot name a file or folder")
    return name


def open_plain(path: Path) -> BinaryIO:
    """Opens a plain file to be read: no link, and nothing that one waits for. Raises OSError."""
    place = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(place).st_mode):
        os.close(place)
        raise OSError(errno.EINVAL, "no plain file", str(path))
    return os.fdopen(place, "rb")


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it that are missing, durably and for their owner alone."""
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(FOLDER_MODE, exist_ok=True)
            sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Makes the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _step(folder: int, name: str, *, make: bool) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        return os.open(check_name(name), flags, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):  # somebody else was faster, and may not have come to the next line
        os.mkdir(name, FOLDER_MODE, dir_fd=folder)
    os.fsync(folder)
    return os.open(name, flags, dir_fd=folder)
