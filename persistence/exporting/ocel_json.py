"""OCEL 2.0 as JSON."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from persistence.encoding import encode
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


class JsonFile:
    """Objects wait in a file of their own until the events are written: neither list has to fit into memory."""

    def __init__(self, path: Path) -> None:
        self._stack = ExitStack()
        self._file: IO[str] = self._stack.enter_context(path.open("w", encoding="utf-8"))
        self._objects: IO[str] = self._stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))  # noqa: SIM115
        kinds = [{"name": kind, "attributes": _attributes(OBJECT_ATTRIBUTES)} for kind in (*KINDS, ACTOR)]
        types = [{"name": name, "attributes": _attributes(EVENT_ATTRIBUTES)} for name in EVENT_TYPES]
        self._file.write(f'{{"objectTypes": {encode(kinds)},\n"eventTypes": {encode(types)},\n"events": [')
        self._first_event = self._first_object = True

    def add_event(self, event: Event, related: list[tuple[str, str]]) -> None:
        document = {
            "id": str(event.id),
            "type": event.event_type,
            "time": time_text(event.occurred_at),
            "attributes": [{"name": name, "value": value} for name, value in event_values(event).items()],
            "relationships": _relationships(related),
        }
        self._file.write(f"{'' if self._first_event else ','}\n{encode(document)}")
        self._first_event = False

    def add_object(self, item: OcelObject) -> None:
        changes = item.statuses
        first = changes[0][0] if changes else BEGINNING
        document = {
            "id": item.id,
            "type": item.kind,
            "attributes": [
                {"name": "name", "time": time_text(first), "value": item.name},
                *({"name": "status", "time": time_text(moment), "value": status} for moment, status in changes),
            ],
            "relationships": _relationships(item.related),
        }
        self._objects.write(f"{'' if self._first_object else ','}\n{encode(document)}")
        self._first_object = False

    def close(self) -> None:
        self._file.write('\n],\n"objects": [')
        self._objects.seek(0)
        for line in self._objects:
            self._file.write(line)
        self._file.write("\n]}\n")
        self._stack.close()


def _attributes(names: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"name": name, "type": "string"} for name in names]


def _relationships(related: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"objectId": item, "qualifier": qualifier} for item, qualifier in related]
