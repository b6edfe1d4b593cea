"""Memory for keys: pages that are not swapped out, not in core dumps and not in forked processes, and are emptied when the key is done with.

How far Python allows that: the keys themselves live here, and what is derived from them for one message is emptied after it. Copies that OpenSSL
makes while it works are its own to empty, and now and then one is found in memory that it has given back. A passphrase that came as ``str`` (from
a prompt or the environment) stays where Python put it until that memory is used again, and so does a secret that was asked for as text.
"""

import ctypes
import mmap
import os
import sys
from typing import Final, Self

from persistence.errors import VaultLocked

Bytes = bytes | bytearray | memoryview

_MADV_DONTDUMP: Final = 16
_MADV_WIPEONFORK: Final = 18
_PR_SET_DUMPABLE: Final = 4
_HEAD_OF_BYTES: Final = bytes.__basicsize__ - 1


def _libc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):
        return None


_LIBC: Final = _libc()


class Key:
    """32 bytes in a page of their own. Use ``view`` while it is needed; ``wipe`` ends it."""

    __slots__ = ("_is_wiped", "_page", "_process", "_view", "is_locked")

    def __init__(self, material: Bytes) -> None:
        """material: copied; wiping that is the caller's."""
        self._page = mmap.mmap(
            -1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )  # a child gets zeros, and has no part in it
        self.is_locked = _lock(self._page)
        """Whether the page is kept from being swapped out (RLIMIT_MEMLOCK may forbid it)."""
        self._page[: len(material)] = bytes(material) if isinstance(material, memoryview) else material
        self._view = memoryview(self._page)[: len(material)]
        self._process = os.getpid()
        self._is_wiped = False

    @classmethod
    def taking(cls, material: bytearray) -> Self:
        """The same, and what it came in is emptied."""
        key = cls(material)
        wipe(material)
        return key

    @property
    def view(self) -> memoryview:
        """The bytes. Raises VaultLocked once it is wiped, or in a process that was forked: nothing is sealed with zeros."""
        if self._is_wiped or self._process != os.getpid():
            raise VaultLocked("this key is wiped", hint="ask for it again")
        return self._view

    def wipe(self) -> None:
        """Empties it. Whoever still holds the view sees zeros."""
        self._is_wiped = True
        self._page[:] = bytes(len(self._page))

    def __repr__(self) -> str:
        return "Key(…)"


def wipe(material: bytes | bytearray) -> None:
    """Fills bytes with zeros. A ``bytes`` object must be this caller's alone: one that came from a library just now, and from nowhere else."""
    if isinstance(material, bytearray):
        for place in range(0, len(material), mmap.PAGESIZE):
            part = min(mmap.PAGESIZE, len(material) - place)
            material[place : place + part] = bytes(part)
    elif len(material) > 1 and sys.implementation.name == "cpython":  # Python shares those of one byte and none
        ctypes.memset(id(material) + _HEAD_OF_BYTES, 0, len(material))


def keep_out_of_dumps() -> bool:
    """Keeps this whole process out of core dumps, and from being read by other processes of its user. Whether that could be done."""
    return _LIBC is not None and hasattr(_LIBC, "prctl") and _LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0


def _lock(page: mmap.mmap) -> bool:
    for advice in (_MADV_DONTDUMP, _MADV_WIPEONFORK):
        try:
            page.madvise(advice)
        except (OSError, ValueError, AttributeError):
            continue
    if _LIBC is None or not hasattr(_LIBC, "mlock"):
        return False
    place = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return bool(_LIBC.mlock(ctypes.c_void_p(place), ctypes.c_size_t(len(page))) == 0)
