"""The vault's file on disk: read whole, replaced whole. Whoever is killed meanwhile leaves the old one or the new one, never neither.

A new one is written beside the old, made durable, and put in its place in one step (rename). What a process that was killed left lying is swept by
the next that writes.
"""

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from persistence.errors import NoVault, VaultDamaged
from persistence.vault.document import LARGEST
from persistence.workspaces.jail import FILE_MODE, make_folder, sync_folder, unwritable

NAME: Final = "master-config.enc.json"
_NEW: Final = NAME + ".new"
_LOCK: Final = NAME + ".lock"
_NOT_WRITABLE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT})


class VaultFile:
    """One vault's file, in a folder that is its owner's alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME
        self._holder: int | None = None

    @property
    def is_there(self) -> bool:
        return self.path.exists()

    def read(self) -> bytes:
        """Raises NoVault, or VaultDamaged for something that is no plain file of a vault's size."""
        try:
            place = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            raise NoVault(
                "there is no vault yet", hint="persistence vault init makes one; where one was lost: docs/runbooks.md"
            ) from None
        except OSError as error:
            raise VaultDamaged(f"{self.path}: cannot be opened: {error.strerror}", hint="it has to be a plain file") from error
        if not stat.S_ISREG(os.fstat(place).st_mode):
            os.close(place)
            raise VaultDamaged(f"{self.path}: is no plain file", hint="put the file back from a copy that you trust")
        with os.fdopen(place, "rb") as file:
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise VaultDamaged(f"{self.path}: is larger than a vault", hint="put the file back from a copy that you trust")
        return raw

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else on this machine changes the file, or tries a passphrase. A folder that cannot be written needs no lock."""
        if self._holder == threading.get_ident():
            yield
            return
        try:
            make_folder(self.folder)
            place = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
        except OSError as error:
            if error.errno not in _NOT_WRITABLE:
                raise VaultDamaged(f"{self.folder / _LOCK}: {error.strerror}", hint="remove what was put there") from error
            yield
            return
        try:
            fcntl.flock(place, fcntl.LOCK_EX)
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = None
        finally:
            os.close(place)

    def replace(self, raw: bytes) -> None:
        """Puts a new content in place of the old. To be called while ``locked``. Raises StorageFull or Unavailable, and then the old one is there."""
        new = self.folder / _NEW
        try:
            new.unlink(missing_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
            sync_folder(self.folder)
        except OSError as error:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise unwritable(error, f"{self.path}: cannot be written: {error.strerror}; the vault is as it was") from error
