"""The SQLite database of a tenant's tree: the index of its files, and the journal of what the database has not been told.

SQLite from 3.7.0 to 3.51.2 can corrupt a database in WAL mode when two connections write and checkpoint at the same moment. So whoever writes,
which is when checkpoints happen, holds a lock beside the file: of all connections and processes one at a time.
"""

import fcntl
import os
import sqlite3
import stat
from pathlib import Path
from typing import Final

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random

from persistence.errors import ConfigurationError
from persistence.workspaces.jail import FILE_MODE

_BUSY_SECONDS: Final = 60

SQLITE_VERSION: Final = sqlite3.sqlite_version

# Each step leads from the version before it to its own; what landed is never changed. (PRAGMA user_version holds the version.)
_STEPS: Final = (
    """
    CREATE TABLE data_files (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      file_id TEXT,
      path TEXT NOT NULL UNIQUE,
      scope TEXT NOT NULL,
      collected_at TEXT NOT NULL,
      created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
      size_bytes INTEGER NOT NULL DEFAULT 0,
      sha256 TEXT,
      instant TEXT GENERATED ALWAYS AS (rtrim(collected_at, 'Z')) VIRTUAL
    );
    CREATE INDEX data_files_scope ON data_files (scope, instant, size_bytes);
    CREATE INDEX data_files_unrecorded ON data_files (scope) WHERE file_id IS NULL;
    CREATE INDEX data_files_collected_at ON data_files (instant);
    CREATE INDEX data_files_file_id ON data_files (file_id);
    CREATE INDEX data_files_content ON data_files (scope, sha256);
    CREATE TABLE idempotency_keys (
      scope TEXT NOT NULL,
      idempotency_key TEXT NOT NULL,
      path TEXT NOT NULL,
      PRIMARY KEY (scope, idempotency_key)
    ) WITHOUT ROWID;
    CREATE INDEX idempotency_keys_path ON idempotency_keys (path);
    CREATE TABLE journal (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      path TEXT NOT NULL,
      actor TEXT NOT NULL,
      user_id TEXT NOT NULL,
      source TEXT NOT NULL,
      entry TEXT NOT NULL,
      error TEXT
    );
    CREATE INDEX journal_path ON journal (path);
    """,
)


class WriteLock:
    """The right to write to an index, among all its connections. Taken again by the same holder it is held on. None of its own for ``:memory:``."""

    def __init__(self, path: str | Path) -> None:
        self._file = None if str(path) == ":memory:" else _opened(f"{path}.lock")
        self._depth = 0

    def __enter__(self) -> None:
        if self._depth == 0 and self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Connection(sqlite3.Connection):
    """A connection to an index, with its right to write."""

    writing: WriteLock


def _opened(path: str | Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)


def _make(path: str | Path) -> None:
    """Makes the file where there is none. One that is there is not opened: to close it would end the locks that SQLite has on it in this process."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE))
    except FileExistsError:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise


def initialize_database(path: str | Path) -> Connection:
    """Opens an index and brings it up to date; makes it where there is none. Safe to call by several processes at once.

    path: or ``:memory:``. Raises ConfigurationError for an index of a newer release, sqlite3.DatabaseError for a file that is none.
    """
    if str(path) != ":memory:":
        _make(path)
    writing = WriteLock(path)
    try:
        with writing:
            connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, factory=Connection
            )
            try:
                connection.row_factory = sqlite3.Row
                _enter_wal_mode(connection)
                connection.execute("PRAGMA synchronous = FULL")
                _migrate(connection, path)
            except BaseException:
                connection.close()
                raise
    except BaseException:
        writing.close()
        raise
    connection.writing = writing
    return connection


@retry(
    retry=retry_if_exception_type(sqlite3.OperationalError),
    wait=wait_random(0.001, 0.02),
    stop=stop_after_delay(_BUSY_SECONDS),
    reraise=True,
)
def _enter_wal_mode(connection: sqlite3.Connection) -> None:
    """Where several do that at once, SQLite refuses instead of waiting."""
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL")


def _migrate(connection: sqlite3.Connection, path: str | Path) -> None:
    if _version(connection) == len(_STEPS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        if version > len(_STEPS):
            raise ConfigurationError(
                f"{path}: is of version {version}, and this release knows {len(_STEPS)}",
                hint="use the newer release; or move the file away and run: persistence data reindex",
            )
        for step in _STEPS[version:]:
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(_STEPS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
