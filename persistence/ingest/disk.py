"""What files and SQLite fail with, in this package's words."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from persistence.errors import StorageFull, Unavailable
from persistence.workspaces.jail import FULL

LOCAL_ERRORS: Final = (OSError, sqlite3.Error)


def is_broken_index(error: BaseException) -> bool:
    """Whether SQLite says that a file is no database, or a damaged one."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)


@contextmanager
def disk_errors(place: str) -> Iterator[None]:
    """Says what a full disk means. Raises StorageFull."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        number = getattr(error, "errno", None)
        if number in FULL or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            reason = os.strerror(number) if number is not None else str(error)
            raise StorageFull(f"{place}: nothing was stored: {reason}", hint="make room on its disk, then send it again") from error
        if isinstance(error, sqlite3.OperationalError):
            raise Unavailable(
                f"{place}: the index does not answer: {error}", hint="try again; look for a process that keeps it busy"
            ) from error
        raise
