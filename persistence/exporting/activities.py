"""What an event is in the words of process mining: an activity, and a transition of its life cycle."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from persistence.models import Event
from persistence.xes import IMPLIED, TRANSITIONS, original_key

_NAMES: Final = ("step_type", "tool_name", "effect_type")
_UNATTRIBUTED: Final = "external:unattributed"


@dataclass(frozen=True, slots=True)
class Activity:
    """One entry of a trace. resource: who did it, None where nobody knows. attributes: what the log keeps besides. All but the time are JSON, as
    ``persistence.xes`` has attributes.
    """

    name: Any
    transition: Any
    resource: Any
    time: datetime
    event: Event
    attributes: dict[str, Any]


class Activities:
    """Goes through the events of a story, remembering what the parts are called."""

    def __init__(self) -> None:
        self._names: dict[object, str] = {}

    def of(self, event: Event) -> Activity | None:
        """The activity that an event is of; None for one of a signal, run or checkpoint, and for one that an import made up."""
        name = next((event.event_data[key] for key in _NAMES if key in event.event_data), None)
        if name is not None:
            self._names[event.aggregate_id] = name
        transition = TRANSITIONS.get(event.event_type)
        attributes = dict(event.event_data.get("attributes") or {})
        if transition is None or attributes.pop(IMPLIED, False):
            return None
        return Activity(
            name=attributes.pop("concept:name", self._names[event.aggregate_id]),
            transition=attributes.pop("lifecycle:transition", transition),
            resource=attributes.pop("org:resource", resource_of(event.actor)),
            time=event.occurred_at,
            event=event,
            attributes={original_key(key): value for key, value in attributes.items()},
        )


def resource_of(actor: str) -> str | None:
    """A user by name, others with their kind; None for nobody known."""
    return None if actor == _UNATTRIBUTED else actor.removeprefix("user:")
