"""Letting one user through folders that are closed to others, without opening them to everybody: an entry in their access control list.

The list is written as Linux keeps it (acl(5), ``struct posix_acl_xattr_header``), so that nothing has to be installed for it.
"""

import errno
import os
import stat
import struct
from pathlib import Path
from typing import Final

from persistence.errors import ServerError

_LIST: Final = "system.posix_acl_access"
_VERSION: Final = struct.pack("<I", 2)
_ENTRY: Final = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NOBODY: Final = 0xFFFFFFFF
_EXECUTE: Final = 1

Entries = dict[tuple[int, int], int]


def let_through(folder: Path, uid: int) -> None:
    """Lets a user reach what is in a folder, if he knows its name. Raises ServerError where the file system keeps no such lists."""
    mode = folder.stat().st_mode
    try:
        entries = _entries(folder, mode)
        if mode & stat.S_IXOTH and (_USER, uid) not in entries:
            return
        mask = entries.get((_MASK, _NOBODY), entries[_GROUP_OBJ, _NOBODY])
        for tag, whose in entries:
            if tag in {_USER, _GROUP_OBJ, _GROUP}:
                entries[tag, whose] &= mask  # what they could not do before they cannot do under a wider mask
        entries[_USER, uid] = entries.get((_USER, uid), 0) | _EXECUTE
        entries[_MASK, _NOBODY] = mask | _EXECUTE
        packed = b"".join(_ENTRY.pack(tag, entries[tag, whose], whose) for tag, whose in sorted(entries))
        os.setxattr(folder, _LIST, _VERSION + packed)
    except OSError as error:
        raise ServerError(
            f"{folder} is closed to the user that servers run as: {error.strerror}",
            hint=f"choose a --data-dir elsewhere, or open the folder: chmod o+x {folder}",
        ) from error


def _entries(folder: Path, mode: int) -> Entries:
    """Who may do what in a folder: permissions by kind of entry and user or group."""
    try:
        found = os.getxattr(folder, _LIST)
    except OSError as error:
        if error.errno not in {errno.ENODATA, errno.ENOTSUP}:
            raise
        return {
            (_USER_OBJ, _NOBODY): mode >> 6 & 7,
            (_GROUP_OBJ, _NOBODY): mode >> 3 & 7,
            (_OTHER, _NOBODY): mode & 7,
        }
    return {(tag, whose): may for tag, may, whose in _ENTRY.iter_unpack(found[len(_VERSION) :])}
