"""OCEL 2.0 as SQLite."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from persistence.exporting.ocel_parts import (
    ACTOR,
    BEGINNING,
    EVENT_ATTRIBUTES,
    EVENT_TYPES,
    KINDS,
    OBJECT_ATTRIBUTES,
    OcelObject,
    event_values,
    time_text,
)
from persistence.models import Event

_TABLES: Final = """
CREATE TABLE event_map_type (ocel_type TEXT PRIMARY KEY, ocel_type_map TEXT NOT NULL);
CREATE TABLE object_map_type (ocel_type TEXT PRIMARY KEY, ocel_type_map TEXT NOT NULL);
CREATE TABLE event (ocel_id TEXT PRIMARY KEY, ocel_type TEXT NOT NULL REFERENCES event_map_type (ocel_type));
CREATE TABLE object (ocel_id TEXT PRIMARY KEY, ocel_type TEXT NOT NULL REFERENCES object_map_type (ocel_type));
CREATE TABLE event_object (
  ocel_event_id TEXT REFERENCES event (ocel_id), ocel_object_id TEXT REFERENCES object (ocel_id), ocel_qualifier TEXT,
  PRIMARY KEY (ocel_event_id, ocel_object_id, ocel_qualifier)
);
CREATE TABLE object_object (
  ocel_source_id TEXT REFERENCES object (ocel_id), ocel_target_id TEXT REFERENCES object (ocel_id), ocel_qualifier TEXT,
  PRIMARY KEY (ocel_source_id, ocel_target_id, ocel_qualifier)
);
"""


class SqliteFile:
    """One table a type of event and of object; names of types are the canon's, letters and underscores, so they are safe as names of tables."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._connection = sqlite3.connect(path)
        self._connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)
        for name in EVENT_TYPES:
            self._type("event", name, EVENT_ATTRIBUTES)
        for name in (*KINDS, ACTOR):
            self._type("object", name, OBJECT_ATTRIBUTES)

    def _type(self, side: str, name: str, attributes: tuple[str, ...]) -> None:
        columns = ", ".join(f"{attribute} TEXT" for attribute in attributes)
        changed = "ocel_changed_field TEXT, " if side == "object" else ""
        self._connection.execute(f"INSERT INTO {side}_map_type VALUES (?, ?)", (name, name))  # noqa: S608
        self._connection.execute(
            f"CREATE TABLE {side}_{name} (ocel_id TEXT REFERENCES {side} (ocel_id), ocel_time TIMESTAMP, {changed}{columns})"
        )

    def add_event(self, event: Event, related: list[tuple[str, str]]) -> None:
        values: Mapping[str, str] = event_values(event)
        self._connection.execute("INSERT INTO event VALUES (?, ?)", (str(event.id), event.event_type))
        self._connection.execute(
            f"INSERT INTO event_{event.event_type} VALUES (?, ?, ?, ?, ?)",  # noqa: S608
            (str(event.id), time_text(event.occurred_at), *(values[name] for name in EVENT_ATTRIBUTES)),
        )
        self._connection.executemany(
            "INSERT INTO event_object VALUES (?, ?, ?)", [(str(event.id), item, qualifier) for item, qualifier in related]
        )

    def add_object(self, item: OcelObject) -> None:
        """The first row says all that is known then; each later one what changed."""
        self._connection.execute("INSERT INTO object VALUES (?, ?)", (item.id, item.kind))
        first, status = item.statuses[0] if item.statuses else (BEGINNING, None)
        insert = f"INSERT INTO object_{item.kind} VALUES (?, ?, ?, ?, ?)"  # noqa: S608
        self._connection.execute(insert, (item.id, time_text(first), None, item.name, status))
        self._connection.executemany(
            insert, [(item.id, time_text(moment), "status", None, new) for moment, new in item.statuses[1:]]
        )
        self._connection.executemany(
            "INSERT INTO object_object VALUES (?, ?, ?)", [(item.id, other, qualifier) for other, qualifier in item.related]
        )

    def close(self) -> None:
        self._connection.commit()
        self._connection.close()
