"""What OCEL knows of the log: kinds of objects, attributes of events and objects."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from persistence.canon import CANON
from persistence.encoding import encode
from persistence.models import Event

KINDS: Final = ("SIGNAL", "RUN", "STEP", "TOOL_CALL", "EFFECT", "CHECKPOINT", "MEMORY", "MEMORY_RECALL")
ACTOR: Final = "ACTOR"
EVENT_TYPES: Final = tuple(name for name, kind in CANON.event_types.items() if kind.aggregate in KINDS)
EVENT_ATTRIBUTES: Final = ("actor", "source", "data")
OBJECT_ATTRIBUTES: Final = ("name", "status")
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The time of what was always so."""


@dataclass
class OcelObject:
    """An object with what it is called, the statuses that it went through, and what it belongs to (id and qualifier)."""

    id: str
    kind: str
    name: str
    statuses: list[tuple[datetime, str]] = field(default_factory=list)
    related: list[tuple[str, str]] = field(default_factory=list)


class OcelFile(Protocol):
    """Takes events and objects as they come. related: ids of objects, each with what it is to the event."""

    def add_event(self, event: Event, related: list[tuple[str, str]]) -> None: ...

    def add_object(self, item: OcelObject) -> None: ...

    def close(self) -> None: ...


def event_values(event: Event) -> dict[str, str]:
    """The values of EVENT_ATTRIBUTES."""
    return {"actor": event.actor, "source": event.source, "data": encode(event.event_data)}


def time_text(moment: datetime) -> str:
    """ISO 8601 in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
