"""What the database has not been told yet."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import Field

from persistence.encoding import encode
from persistence.ingest.registry import Registry
from persistence.models.base import Model

CHANNEL_PREFIX: Final = "data:"
"""Before the scope, in the ``source_channel`` of signals."""

STORED: Final = "data.stored"
DELETED: Final = "data.deleted"

# Keeps entries; a JSON array for each.
_ADD = """
INSERT INTO journal (path, actor, user_id, source, entry)
SELECT
  json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'), json_extract(value, '$[4]')
FROM json_each(?)
ORDER BY key
"""

# The oldest entries that can be told in one transaction: one actor, user and source, and nothing refused.
_NEXT = """
WITH oldest AS (SELECT actor, user_id, source FROM journal WHERE error IS NULL ORDER BY id LIMIT 1)
SELECT j.id, j.entry
FROM (SELECT id, actor, user_id, source, entry FROM journal WHERE error IS NULL ORDER BY id LIMIT ?) AS j
JOIN oldest AS o ON o.actor = j.actor AND o.user_id = j.user_id AND o.source = j.source
ORDER BY j.id
"""

# Removes entries by their numbers.
_REMOVE = "DELETE FROM journal WHERE id IN (SELECT value FROM json_each(?))"

# How many wait, and how many were refused.
_COUNTS = "SELECT count(*) FILTER (WHERE error IS NULL), count(error) FROM journal"


class JournalEntry(Model):
    """A file that was stored or deleted, as the database is to be told.

    source_id: none: it is not known how the signal is called, so it has to be looked for. deduplicates: a signal of that name may be there
    already, from another store of the tenant. user_id: none: the one that services work for. attributes: facts for the log. path, size_bytes,
    sha256: as in the registry.
    """

    kind: Literal["data.stored", "data.deleted"]
    scope: str
    collected_at: str
    path: str
    size_bytes: int
    sha256: str
    source_id: str | None
    deduplicates: bool = False
    correlation_id: UUID | None
    actor: str
    user_id: UUID | None
    source: str
    occurred_at: datetime
    attributes: dict[str, Any] = Field(default={})

    @property
    def channel(self) -> str:
        return CHANNEL_PREFIX + self.scope

    @property
    def payload(self) -> dict[str, Any]:
        """Of the signal."""
        return {
            "scope": self.scope,
            "collected_at": self.collected_at,
            "path": self.path,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
        }


def id_of_file(collected_at: str, sha256: str, store_id: str) -> str:
    """The name of a file's signal in its channel: it can be made of the file and its store alone."""
    return f"{collected_at} {sha256} {store_id}"


def id_of_content(sha256: str) -> str:
    """The name of a signal that is meant to come once for each content."""
    return f"sha256:{sha256}"


def id_of_deletion(collected_at: str, sha256: str, store_id: str) -> str:
    """The name of the signal that says that a file was deleted."""
    return f"{id_of_file(collected_at, sha256, store_id)} deleted"


class Journal:
    """The journal of one tenant."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def add(self, entries: Sequence[JournalEntry]) -> None:
        """To be called in the transaction that changes the files' rows."""
        self._registry.run(
            _ADD,
            [encode([(entry.path, entry.actor, entry.user_id or "", entry.source, encode(entry.__dict__)) for entry in entries])],
        )

    def next(self, most: int) -> list[tuple[int, JournalEntry]]:
        """The oldest entries that can be told together, with their numbers."""
        return [(row[0], JournalEntry.model_validate_json(row[1])) for row in self._registry.run(_NEXT, [most])]

    def entries_of(self, path: str) -> list[JournalEntry]:
        """What the database is still to be told of a file, the oldest first."""
        rows = self._registry.run("SELECT entry FROM journal WHERE path = ? ORDER BY id", [path])
        return [JournalEntry.model_validate_json(row[0]) for row in rows]

    def told(self, done: Sequence[tuple[int, JournalEntry, UUID]]) -> None:
        """Removes entries of which the database knows. done: number, entry, id of its signal."""
        with self._registry.transaction():
            self._registry.note_recorded([(entry.path, signal_id) for _, entry, signal_id in done if entry.kind == STORED])
            self._registry.run(_REMOVE, [encode([number for number, _, _ in done])])

    def refused(self, number: int, error: str) -> None:
        """Sets an entry aside that the database does not take."""
        self._registry.run("UPDATE journal SET error = ? WHERE id = ?", [error, number])

    def take_up(self) -> None:
        """Lets everything that was refused be tried again."""
        self._registry.run("UPDATE journal SET error = NULL WHERE error IS NOT NULL")

    def errors(self) -> list[tuple[str, str]]:
        """What was refused: path and why."""
        return [
            (row[0], row[1]) for row in self._registry.run("SELECT path, error FROM journal WHERE error IS NOT NULL ORDER BY id")
        ]

    def counts(self) -> tuple[int, int]:
        """How many entries wait, and how many were refused."""
        row = self._registry.run(_COUNTS)[0]
        return int(row[0]), int(row[1])
