"""The local index of a tenant's data files: what is asked of it, and told."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from persistence.encoding import encode
from persistence.ingest.index import Connection
from persistence.models.base import Model

# Adds a file; the row as it is then.
_INSERT = """
INSERT INTO data_files (file_id, path, scope, collected_at, size_bytes, sha256)
VALUES (:file_id, :path, :scope, :collected_at, :size_bytes, :sha256)
RETURNING id, file_id, path, scope, collected_at, created_at, size_bytes, sha256
"""

# Adds files; a JSON array for each.
_INSERT_MANY = """
INSERT INTO data_files (path, scope, collected_at, size_bytes, sha256)
SELECT
  json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'), json_extract(value, '$[4]')
FROM json_each(?)
ORDER BY key
RETURNING id, file_id, path, scope, collected_at, created_at, size_bytes, sha256
"""

# Keeps the ids of files' signals; pairs of path and id.
_NOTE_RECORDED = """
UPDATE data_files
SET file_id = json_extract(n.value, '$[1]')
FROM json_each(?) AS n
WHERE data_files.path = json_extract(n.value, '$[0]')
"""

# One file by its path.
_BY_PATH = """
SELECT id, file_id, path, scope, collected_at, created_at, size_bytes, sha256
FROM data_files
WHERE path = ?
"""

# Files of a scope, the newest first, some left out.
_BY_SCOPE = """
SELECT id, file_id, path, scope, collected_at, created_at, size_bytes, sha256
FROM data_files
WHERE scope = ?
ORDER BY instant DESC
LIMIT ? OFFSET ?
"""

# Files of all scopes, the newest first, some left out.
_ALL = """
SELECT id, file_id, path, scope, collected_at, created_at, size_bytes, sha256
FROM data_files
ORDER BY instant DESC
LIMIT ? OFFSET ?
"""

# Files of a scope older than one, the newest first.
_OLDER = """
SELECT id, file_id, path, scope, collected_at, created_at, size_bytes, sha256
FROM data_files
WHERE scope = ? AND instant < rtrim(?, 'Z')
ORDER BY instant DESC
LIMIT ?
"""

# Files of all scopes, in the order of their rows.
_AFTER = """
SELECT id, file_id, path, scope, collected_at, created_at, size_bytes, sha256
FROM data_files
WHERE id > ?
ORDER BY id
LIMIT ?
"""

# The oldest file of a scope that has this content.
_BY_CONTENT = """
SELECT id, file_id, path, scope, collected_at, created_at, size_bytes, sha256
FROM data_files
WHERE scope = ? AND sha256 = ?
ORDER BY id
LIMIT 1
"""

# The file whose signal has an id.
_BY_FILE_ID = """
SELECT id, file_id, path, scope, collected_at, created_at, size_bytes, sha256
FROM data_files
WHERE file_id = ?
LIMIT 1
"""

# The file that a client's key stands for.
_BY_KEY = """
SELECT f.id, f.file_id, f.path, f.scope, f.collected_at, f.created_at, f.size_bytes, f.sha256
FROM idempotency_keys AS k
JOIN data_files AS f ON f.path = k.path
WHERE k.scope = ? AND k.idempotency_key = ?
"""

# How many files of each scope, how large, and how new.
_SCOPES = """
SELECT f.scope, f.files, f.size_bytes, f.latest || 'Z' AS latest, coalesce(u.files, 0) AS unrecorded
FROM (
  SELECT scope, count(*) AS files, sum(size_bytes) AS size_bytes, max(instant) AS latest
  FROM data_files INDEXED BY data_files_scope
  GROUP BY scope
) AS f
LEFT JOIN (SELECT scope, count(*) AS files FROM data_files WHERE file_id IS NULL GROUP BY scope) AS u ON u.scope = f.scope
ORDER BY f.scope
"""


class IndexEntry(Model):
    """A data file's row.

    file_id: its signal's id, once it is recorded. path: from the tenant's data folder on. collected_at, created_at: ISO 8601.
    sha256: of the data as they were sent, in hexadecimal.
    """

    id: int
    file_id: str | None
    path: str
    scope: str
    collected_at: str
    created_at: str
    size_bytes: int
    sha256: str | None

    @property
    def signal_id(self) -> UUID | None:
        """The same as file_id."""
        return UUID(self.file_id) if self.file_id else None


class ScopeSummary(Model):
    """What a scope has. latest: the newest file's time of collection. unrecorded: files that the database has not been told of yet."""

    scope: str
    files: int
    size_bytes: int
    latest: str
    unrecorded: int


class Registry:
    """One connection to an index. Threads may share it: they take turns."""

    def __init__(self, connection: Connection) -> None:
        """connection: of ``initialize_database``; closed with this."""
        self._connection = connection
        self._turn = threading.RLock()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is done inside is done together or not at all, while no other process writes."""
        with self._turn, self._connection.writing:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def insert(
        self, path: str, scope: str, collected_at: str, size_bytes: int, *, file_id: str | None = None, sha256: str | None = None
    ) -> IndexEntry:
        """Adds a file. Raises sqlite3.IntegrityError when its path is there."""
        row = {
            "file_id": file_id,
            "path": path,
            "scope": scope,
            "collected_at": collected_at,
            "size_bytes": size_bytes,
            "sha256": sha256,
        }
        return _entries(self.run(_INSERT, row))[0]

    def insert_many(self, rows: Sequence[tuple[str, str, str, int, str]]) -> list[IndexEntry]:
        """Adds files in one statement. rows: path, scope, collected_at, size_bytes, sha256. Raises sqlite3.IntegrityError."""
        entries = {entry.path: entry for entry in _entries(self.run(_INSERT_MANY, [encode(rows)]))}
        return [entries[row[0]] for row in rows]

    def find_by_path(self, path: str) -> IndexEntry | None:
        """The file at a path."""
        return _first(self.run(_BY_PATH, [path]))

    def find_by_scope(self, scope: str | None = None, *, limit: int = 100, offset: int = 0) -> list[IndexEntry]:
        """Files of a scope, or of all, the newest first."""
        if scope is None:
            return _entries(self.run(_ALL, [limit, offset]))
        return _entries(self.run(_BY_SCOPE, [scope, limit, offset]))

    def find_older(self, scope: str, collected_at: str, *, limit: int) -> list[IndexEntry]:
        """Files of a scope collected before a time, the newest first: costs the same however many are newer."""
        return _entries(self.run(_OLDER, [scope, collected_at, limit]))

    def find_latest_by_scope(self, scope: str) -> IndexEntry | None:
        """A scope's newest file."""
        return _first(self.run(_BY_SCOPE, [scope, 1, 0]))

    def find_by_content(self, scope: str, sha256: str) -> IndexEntry | None:
        """A scope's oldest file with this content."""
        return _first(self.run(_BY_CONTENT, [scope, sha256]))

    def find_by_file_id(self, file_id: str) -> IndexEntry | None:
        """The file whose signal has this id."""
        return _first(self.run(_BY_FILE_ID, [file_id]))

    def find_by_key(self, scope: str, idempotency_key: str) -> IndexEntry | None:
        """The file that a client's key stands for."""
        return _first(self.run(_BY_KEY, [scope, idempotency_key]))

    def count_by_scope(self, scope: str) -> int:
        """How many files a scope has."""
        return int(self.run("SELECT count(*) FROM data_files WHERE scope = ?", [scope])[0][0])

    def scopes(self) -> list[ScopeSummary]:
        """Every scope that has files."""
        return [ScopeSummary(**row) for row in self.run(_SCOPES)]

    def rows_after(self, last: int, limit: int) -> list[IndexEntry]:
        """Files whose row was made after another, by its id, in that order."""
        return _entries(self.run(_AFTER, [last, limit]))

    def keep_key(self, scope: str, idempotency_key: str, path: str) -> None:
        """Remembers which file a client's key stands for."""
        self.run(
            "INSERT OR IGNORE INTO idempotency_keys (scope, idempotency_key, path) VALUES (?, ?, ?)", [scope, idempotency_key, path]
        )

    def note_recorded(self, pairs: Sequence[tuple[str, UUID]]) -> None:
        """Keeps the ids of files' signals. pairs: path and id."""
        self.run(_NOTE_RECORDED, [encode(pairs)])

    def delete_by_path(self, path: str) -> bool:
        """Removes a file's row, and the keys that stood for it. False when there is none."""
        self.run("DELETE FROM idempotency_keys WHERE path = ?", [path])
        return bool(self.run("DELETE FROM data_files WHERE path = ? RETURNING id", [path]))

    def run(self, statement: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        """The rows of a statement."""
        with self._turn:
            if statement.lstrip().startswith(("SELECT", "PRAGMA")):
                return self._connection.execute(statement, values).fetchall()
            with self._connection.writing:
                return self._connection.execute(statement, values).fetchall()

    def faults(self) -> list[str]:
        """What is broken in the database itself."""
        return [row[0] for row in self.run("PRAGMA quick_check") if row[0] != "ok"]

    def close(self) -> None:
        """Waits for whoever has their turn."""
        with self._turn:
            with self._connection.writing:  # the last one checkpoints
                self._connection.close()
            self._connection.writing.close()


def _entries(rows: Sequence[sqlite3.Row]) -> list[IndexEntry]:
    return [IndexEntry.made(**row) for row in rows]


def _first(rows: Sequence[sqlite3.Row]) -> IndexEntry | None:
    return _entries(rows)[0] if rows else None
