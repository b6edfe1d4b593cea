"""The architectural law as data: aggregates, state machines and event types, read from the files of ``canon/``.

The migrations load the same files into schema ``canon``, so the database and this process apply one law.
"""

from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import fastjsonschema
import yaml
from pydantic import BaseModel, ConfigDict, Field

from persistence.errors import InvalidInput, InvalidTransition, UnknownEventType
from persistence.resources import resource

NEW = "new"
"""The state before there is anything."""

ACTOR_PATTERN = r"^(agent|user|system|external):."


class Aggregate(BaseModel):
    """Something with a life of its own: its table, its statuses, and those without a way out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    statuses: tuple[str, ...]
    terminal: tuple[str, ...]


class Transition(BaseModel):
    """The statuses an event may leave, and the one it leads to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[str, ...] = Field(alias="from")
    target: str = Field(alias="to")


class EventType(BaseModel):
    """One event type: see the head of ``canon/event_types.yaml`` for what each part says."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    name: str
    aggregate: str
    version: int
    writer: Literal["service", "worker", "operator"]
    stamps: str | None = None
    counts: str | None = None
    clears: tuple[str, ...] = ()
    create: tuple[str, ...] = ()
    data: dict[str, Any]

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(self.data.get("required", ()))

    @property
    def data_schema(self) -> dict[str, Any]:
        """The JSON Schema of the event's data: closed, but for ``attributes``, facts that are kept and not folded."""
        properties = {**self.data.get("properties", {}), "attributes": {"type": "object"}}
        return {"type": "object", **self.data, "properties": properties, "additionalProperties": False}

    @cached_property
    def _validate(self) -> Any:
        # Draft 7 is the newest that fastjsonschema compiles; the schemas use nothing that 2020-12 reads otherwise.
        return fastjsonschema.compile({"$schema": "http://json-schema.org/draft-07/schema#", **self.data_schema}, use_default=False)

    def check_data(self, data: Mapping[str, Any], *, creates: bool) -> None:
        """Raises InvalidInput, naming the field, when the data do not have the type's schema."""
        try:
            self._validate(data)
        except fastjsonschema.JsonSchemaValueException as error:
            field = str(error.name).replace("data", self.name, 1)
            raise InvalidInput(str(error.message).replace("data", self.name, 1), field=field) from error
        for key in self.create if creates else ():
            if key not in data:
                raise InvalidInput(f"{self.name}.{key} is missing", hint="a first event needs it", field=key)


class Canon:
    """The canon of one folder. ``CANON`` is the one this package ships."""

    def __init__(self, folder: Path) -> None:
        def read(name: str) -> dict[str, Any]:
            with (folder / name).open(encoding="utf-8") as file:
                loaded: dict[str, Any] = yaml.safe_load(file)
            return loaded

        self.aggregates = {name: Aggregate(**body) for name, body in read("aggregates.yaml").items()}
        self.transitions = {
            aggregate: {event: Transition(**body) for event, body in machine.items()}
            for aggregate, machine in read("transitions.yaml").items()
        }
        owners = {
            event: aggregate for aggregate, machine in self.transitions.items() if aggregate != "OUTBOX_ENTRY" for event in machine
        }
        self.event_types = {
            name: EventType(name=name, aggregate=owners[name], **body) for name, body in read("event_types.yaml").items()
        }

    def event_type(self, name: str) -> EventType:
        try:
            return self.event_types[name]
        except KeyError:
            raise UnknownEventType(f"{name!r} is no event type", hint="canon/event_types.yaml lists them") from None

    def next_status(self, event: str, status: str, subject: object = "") -> str:
        """The status that an event leads to. Raises InvalidTransition when the machine has no such way."""
        kind = self.event_type(event).aggregate
        transition = self.transitions[kind][event]
        if status not in transition.sources:
            raise InvalidTransition(
                f"{kind} {subject}: {event} is not allowed in status {status}".replace("  ", " "),
                hint=f"it may follow {', '.join(transition.sources)}",
            )
        return transition.target

    def events_from(self, aggregate: str, status: str) -> tuple[str, ...]:
        """The events that may follow a status."""
        return tuple(event for event, way in self.transitions[aggregate].items() if status in way.sources)

    def reference_rows(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of the tables in schema ``canon``, by table."""
        return {
            "aggregates": [
                {"aggregate_type": name, "table_name": a.table, "statuses": a.statuses, "terminal": a.terminal}
                for name, a in self.aggregates.items()
            ],
            "event_types": [
                {
                    "event_type": t.name,
                    "event_version": t.version,
                    "aggregate_type": t.aggregate,
                    "to_status": self.transitions[t.aggregate][t.name].target,
                    "writer": t.writer,
                    "stamps": t.stamps,
                    "counts": t.counts,
                    "clears": dict.fromkeys(t.clears),
                    "required_keys": () if t.create else t.required,
                    "creating_keys": self._creating_keys(t),
                    "data_schema": t.data_schema,
                }
                for t in self.event_types.values()
            ],
            "state_transitions": [
                {"aggregate_type": aggregate, "event_type": event, "from_status": source, "to_status": way.target}
                for aggregate, machine in self.transitions.items()
                for event, way in machine.items()
                for source in way.sources
            ],
        }

    def _creating_keys(self, kind: EventType) -> tuple[str, ...] | None:
        if NEW not in self.transitions[kind.aggregate][kind.name].sources:
            return None
        return kind.create or kind.required


@cache
def _shipped() -> Canon:
    return Canon(resource("canon"))


CANON = _shipped()
