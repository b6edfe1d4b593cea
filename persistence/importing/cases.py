"""From a XES trace to the events of an orchestration.

The case becomes a signal and a run. SCHEDULE, START and COMPLETE of an activity become the life of a step; each event of the log becomes
exactly one event here, at its time and by its resource. Where a log leaves out a beginning, the state machine is kept by an event marked
``{"xes:implied": true}``; a completion of which nothing else was seen is a step on its own (STEP_RECORDED).
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from persistence.importing.identity import stable_id
from persistence.importing.xes import XesEvent, XesTrace
from persistence.models import NewEvent
from persistence.xes import IMPLIED, TRANSITIONS

_IMPORTER: Final = "system:importer"
_UNATTRIBUTED: Final = "external:unattributed"

# Of the standard transactional life-cycle model: what a transition is to a step, by the status it must be in.
_FOLLOWS: Final = {
    "start": (("PENDING", "STEP_STARTED"),),
    "complete": (("RUNNING", "STEP_COMPLETED"),),
    "suspend": (("RUNNING", "STEP_SUSPENDED"),),
    "resume": (("WAITING", "STEP_RESUMED"),),
    "autoskip": (("PENDING", "STEP_SKIPPED"),),
    "manualskip": (("PENDING", "STEP_SKIPPED"),),
    "withdraw": (("PENDING", "STEP_CANCELLED"),),
    "ate_abort": (("RUNNING", "STEP_CANCELLED"), ("WAITING", "STEP_CANCELLED")),
    "pi_abort": (("RUNNING", "STEP_CANCELLED"), ("WAITING", "STEP_CANCELLED"), ("PENDING", "STEP_CANCELLED")),
}
_BEGINS: Final = {"schedule": ("STEP_SCHEDULED", "PENDING"), "start": ("STEP_STARTED", "RUNNING")}
_STATUS_AFTER: Final = {
    "STEP_STARTED": "RUNNING",
    "STEP_SUSPENDED": "WAITING",
    "STEP_RESUMED": "RUNNING",
}


class CaseBuilder:
    """Turns one trace into the events of one signal, one run and its steps."""

    def __init__(self, log_name: str, trace: XesTrace) -> None:
        self._log = log_name
        self._trace = trace
        self._begin = min(event.time for event in trace.events)
        self._correlation = self._id(self._begin, "correlation")
        self._run = self._id(self._begin, "run")
        self._open: dict[tuple[str, str], deque[UUID]] = defaultdict(deque)
        self._versions: dict[UUID, int] = {}
        self._last: dict[UUID, UUID] = {}
        self._run_event: UUID | None = None
        self._steps = 0
        self.log_events = len(trace.events)

    def events(self) -> Iterator[NewEvent]:
        signal = self._id(self._begin, "signal")
        received = self._event(
            "SIGNAL_RECEIVED",
            signal,
            {
                "source_channel": f"xes:{self._log}",
                "source_id": self._trace.name,
                "signal_type": "xes.case",
                "payload": self._trace.attributes,
            },
            self._begin,
            _IMPORTER,
            None,
        )
        yield received
        started = self._event(
            "RUN_STARTED", self._run, {"signal_id": str(signal), "run_type": self._log}, self._begin, _IMPORTER, received.id
        )
        yield started
        yield self._event("SIGNAL_PROCESSED", signal, {}, self._begin, _IMPORTER, started.id)
        self._run_event = started.id
        for number, entry in enumerate(self._trace.events):
            yield from self._step(number, entry)
        if not any(waiting for waiting in self._open.values()):
            end = max(event.time for event in self._trace.events)
            last = self._last[self._latest_step]
            yield self._event("RUN_COMPLETED", self._run, {}, end, _IMPORTER, last)

    def _step(self, number: int, entry: XesEvent) -> Iterator[NewEvent]:
        actor = _actor(entry)
        for status, event_type in _FOLLOWS.get(entry.transition, ()):
            if self._open[entry.activity, status]:
                step = self._open[entry.activity, status].popleft()
                yield self._next(event_type, step, entry, actor, number)
                if event_type in _STATUS_AFTER:
                    self._open[entry.activity, _STATUS_AFTER[event_type]].append(step)
                return
        if entry.transition == "complete" and self._open[entry.activity, "PENDING"]:
            step = self._open[entry.activity, "PENDING"].popleft()
            yield self._next("STEP_STARTED", step, entry, actor, number, implied=True)
            yield self._next("STEP_COMPLETED", step, entry, actor, number)
            return
        event_type, status = _BEGINS.get(entry.transition, ("STEP_RECORDED", ""))
        step = self._id(entry.time, "step", str(number))
        data = {"run_id": str(self._run), "step_type": entry.activity, "step_index": self._steps}
        self._steps += 1
        attributes = _attributes(entry, event_type)
        if attributes:
            data["attributes"] = attributes
        yield self._event(event_type, step, data, entry.time, actor, self._run_event)
        self._latest_step = step
        if status:
            self._open[entry.activity, status].append(step)

    def _next(self, event_type: str, step: UUID, entry: XesEvent, actor: str, number: int, *, implied: bool = False) -> NewEvent:
        attributes = {IMPLIED: True} if implied else _attributes(entry, event_type)
        self._latest_step = step
        return self._event(event_type, step, {"attributes": attributes} if attributes else {}, entry.time, actor, self._last[step])

    def _event(
        self, event_type: str, subject: UUID, data: dict[str, Any], moment: datetime, actor: str, cause: UUID | None
    ) -> NewEvent:
        version = self._versions.get(subject, 0) + 1
        self._versions[subject] = version
        event_id = self._id(moment, event_type, str(subject), str(version))
        self._last[subject] = event_id
        return NewEvent.made(
            id=event_id,
            event_type=event_type,
            aggregate_id=subject,
            aggregate_version=version,
            event_data=data,
            correlation_id=self._correlation,
            causation_id=cause,
            actor=actor,
            occurred_at=moment,
            attachment=None,
        )

    def _id(self, moment: datetime, *parts: str) -> UUID:
        return stable_id(moment, self._log, self._trace.name, *parts)


def _actor(entry: XesEvent) -> str:
    return f"user:{entry.resource}"[:100] if isinstance(entry.resource, str) and entry.resource else _UNATTRIBUTED


def _attributes(entry: XesEvent, event_type: str) -> dict[str, Any]:
    """What the event has to say besides its type, time and actor, so that it can be written again as it was."""
    attributes = dict(entry.attributes)
    if entry.lifecycle != TRANSITIONS[event_type]:
        attributes["lifecycle:transition"] = entry.lifecycle
    if entry.resource is not None and f"user:{entry.resource}" != _actor(entry):
        attributes["org:resource"] = entry.resource
    return attributes
