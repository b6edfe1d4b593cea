"""What an event is in the words of process mining: an activity, and a transition of its life cycle."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from persistence.models import Event

# The standard transactional life-cycle model of IEEE 1849.
_TRANSITIONS: Final = {
    "STEP_SCHEDULED": "schedule",
    "STEP_STARTED": "start",
    "STEP_RECORDED": "complete",
    "STEP_COMPLETED": "complete",
    "STEP_SUSPENDED": "suspend",
    "STEP_RESUMED": "resume",
    "STEP_SKIPPED": "manualskip",
    "STEP_CANCELLED": "ate_abort",
    "STEP_FAILED": "ate_abort",
    "STEP_RETRIED": "resume",
    "TOOL_CALL_REQUESTED": "schedule",
    "TOOL_CALL_STARTED": "start",
    "TOOL_CALL_COMPLETED": "complete",
    "TOOL_CALL_FAILED": "ate_abort",
    "TOOL_CALL_CANCELLED": "ate_abort",
    "EFFECT_REQUESTED": "schedule",
    "EFFECT_ATTEMPT_FAILED": "suspend",
    "EFFECT_EXECUTED": "complete",
    "EFFECT_DEAD_LETTERED": "ate_abort",
    "EFFECT_REQUEUED": "resume",
    "EFFECT_CANCELLED": "withdraw",
    "EFFECT_DISCARDED": "pi_abort",
}
_NAMES: Final = ("step_type", "tool_name", "effect_type")
_UNATTRIBUTED: Final = "external:unattributed"


@dataclass(frozen=True, slots=True)
class Activity:
    """One entry of a trace. resource: who did it, None where nobody knows. attributes: what the log keeps besides."""

    name: str
    transition: str
    resource: str | None
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
        transition = _TRANSITIONS.get(event.event_type)
        attributes = dict(event.event_data.get("attributes") or {})
        if transition is None or attributes.pop("implied", False):
            return None
        transition = attributes.pop("lifecycle:transition", transition)
        return Activity(self._names[event.aggregate_id], transition, resource_of(event.actor), event.occurred_at, event, attributes)


def resource_of(actor: str) -> str | None:
    """A user by name, others with their kind; None for nobody known."""
    return None if actor == _UNATTRIBUTED else actor.removeprefix("user:")
