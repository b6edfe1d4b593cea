"""A canon: its data read from a folder, its prose beside it, its version and its seal."""

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from persistence.canon.jsonpath import field_rules
from persistence.canon.parts import Aggregate, EventType, Rules, TableContract, Transition, closed
from persistence.encoding import encode
from persistence.errors import ConfigurationError, InvalidTransition, UnknownEventType

NEW: Final = "new"
"""The state before there is anything."""

DATA: Final = ("aggregates", "transitions", "event_types", "tables", "rules")
PROSE: Final = (
    "CANON-PERSISTENCE-001",
    "CANON-ORCH-STATE-001",
    "CANON-EVENTS-001",
    "CANON-TRACE-001",
    "CANON-VAULT-001",
    "CANON-FLOWS-001",
    "CANON-MEMORY-001",
)


class Canon:
    """The canon that some texts say. documents: the data, by file; prose: the laws, by file."""

    def __init__(self, texts: Callable[[str], str]) -> None:
        """texts: gives the text of a file of the canon by its name. Raises ConfigurationError for one that is missing or wrong."""
        self.version = texts("VERSION").strip()
        self.stated_seal = texts("SEAL").strip()
        self.prose = {name: texts(f"{name}.md") for name in PROSE}
        self.documents: dict[str, dict[str, Any]] = {name: _parsed(name, texts(f"{name}.yaml")) for name in DATA}
        try:
            self._understand()
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(str(part) for part in problem["loc"])
            raise ConfigurationError(f"canon: {error.title} {place}: {problem['msg']}") from error

    @classmethod
    def read(cls, folder: Path) -> "Canon":
        """The canon of a folder."""

        def text(name: str) -> str:
            try:
                return (folder / name).read_text(encoding="utf-8")
            except FileNotFoundError:
                raise ConfigurationError(f"canon: {folder / name} is missing") from None

        return cls(text)

    @property
    def seal(self) -> str:
        """SHA-256 over the data, whatever their layout and comments."""
        return sha256(encode(_sorted(self.documents)).encode()).hexdigest()

    def _understand(self) -> None:
        documents = self.documents
        self.aggregates = {name: Aggregate(**body) for name, body in documents["aggregates"].items()}
        self.transitions = {
            aggregate: {event: Transition(**body) for event, body in machine.items()}
            for aggregate, machine in documents["transitions"].items()
        }
        owners = {
            event: aggregate for aggregate, machine in self.transitions.items() if aggregate != "OUTBOX_ENTRY" for event in machine
        }
        self.event_types = {
            name: EventType(name=name, aggregate=owners.get(name, "(none)"), **body)
            for name, body in documents["event_types"].items()
        }
        self.tables = {name: TableContract(**body) for name, body in documents["tables"].items()}
        self.rules = Rules(**documents["rules"])

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
        """The rows of the tables in schema ``canon``, by table, in the order in which one may need the other."""
        return {
            "release": [{"version": self.version, "seal": self.seal}],
            "rules": [{"name": name, "value": value} for name, value in self.documents["rules"].items()],
            "aggregates": [
                {"aggregate_type": name, "table_name": a.table, "statuses": a.statuses, "terminal": a.terminal, "open": a.open}
                for name, a in self.aggregates.items()
            ],
            "part_of": [
                {"aggregate_type": name, "column_name": column, "whole_type": whole.aggregate, "statuses": whole.statuses}
                for name, a in self.aggregates.items()
                for column, whole in a.part_of.items()
            ],
            "event_types": [row for kind in self.event_types.values() for row in self._event_type_rows(kind)],
            "upcasters": [
                {"event_type": kind.name, "from_version": version, "function_name": past.upcaster}
                for kind in self.event_types.values()
                for version, past in kind.past.items()
            ],
            "state_transitions": [
                {"aggregate_type": aggregate, "event_type": event, "from_status": source, "to_status": way.target}
                for aggregate, machine in self.transitions.items()
                for event, way in machine.items()
                for source in way.sources
            ],
            "tables": [
                {"table_name": name, "primary_key": table.primary_key, "grows": table.grows, "is_kept": table.is_kept}
                for name, table in self.tables.items()
            ],
            "table_columns": [
                {
                    "table_name": name,
                    "column_name": column,
                    "type": form.type,
                    "is_not_null": form.not_null,
                    "is_identity": form.identity,
                }
                for name, table in self.tables.items()
                for column, form in table.columns.items()
            ],
            "table_keys": [row for name, table in self.tables.items() for row in _key_rows(name, table)],
        }

    def _event_type_rows(self, kind: EventType) -> list[dict[str, Any]]:
        shared: dict[str, Any] = {
            "event_type": kind.name,
            "aggregate_type": kind.aggregate,
            "from_statuses": [status for status in self.transitions[kind.aggregate][kind.name].sources if status != NEW],
            "to_status": self.transitions[kind.aggregate][kind.name].target,
            "writer": kind.writer,
            "stamps": kind.stamps,
            "counts": kind.counts,
            "clears": dict.fromkeys(kind.clears),
            **self._consequences(kind),
        }
        current: dict[str, Any] = {
            "event_version": kind.version,
            "is_current": True,
            "required_keys": () if kind.create else kind.required,
            "creating_keys": self._creating_keys(kind),
            **_data_columns(kind.data_schema),
            "later_keys": ("attributes",) if kind.create else kind.known,
        }
        past: list[dict[str, Any]] = [
            {
                "event_version": version,
                "is_current": False,
                "required_keys": (),
                "creating_keys": None,
                **_data_columns(closed(form.data)),
                "later_keys": tuple(closed(form.data)["properties"]),
            }
            for version, form in kind.past.items()
        ]
        return [{**shared, **row} for row in (current, *past)]

    def _consequences(self, kind: EventType) -> dict[str, bool]:
        """What the write path has to look at. may_begin: needs no cause when it is first, for it need not be part of anything; ends: leaves the
        open statuses of what may have parts; cancels: parts are to be cancelled with it.
        """
        way, aggregate = self.transitions[kind.aggregate][kind.name], self.aggregates[kind.aggregate]
        has_parts = any(whole.aggregate == kind.aggregate for part in self.aggregates.values() for whole in part.part_of.values())
        ends = has_parts and bool(aggregate.open) and way.target not in aggregate.open
        return {
            "may_begin": NEW in way.sources and not kind.caused and "run_id" not in kind.data.get("required", ()),
            "ends": ends,
            "cancels": ends and way.target in {"CANCELLED", "SKIPPED"},
        }

    def _creating_keys(self, kind: EventType) -> tuple[str, ...] | None:
        if NEW not in self.transitions[kind.aggregate][kind.name].sources:
            return None
        return kind.create or kind.required


def _data_columns(schema: dict[str, Any]) -> dict[str, Any]:
    rules = field_rules(schema)
    return {
        "data_schema": schema,
        "known_keys": tuple(schema["properties"]),
        "field_rules": rules,
        "data_rule": " && ".join(rules.values()),
    }


def _key_rows(name: str, table: TableContract) -> list[dict[str, Any]]:
    def row(key: str, kind: str, columns: tuple[str, ...], **more: Any) -> dict[str, Any]:
        empty = {"refers_to": None, "on_delete": None, "predicate": None, "method": "btree"}
        return {"table_name": name, "key_name": key, "kind": kind, "columns": columns, **empty, **more}

    return [
        *(row(key, "unique", columns) for key, columns in table.unique.items()),
        *(
            row(key, "foreign key", foreign.columns, refers_to=foreign.references, on_delete=foreign.on_delete)
            for key, foreign in table.foreign_keys.items()
        ),
        *(row(key, "index", index.columns, predicate=index.where, method=index.using) for key, index in table.indexes.items()),
    ]


def _parsed(name: str, text: str) -> dict[str, Any]:
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  both are safe
    except yaml.YAMLError as error:
        raise ConfigurationError(f"canon: {name}.yaml is no YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"canon: {name}.yaml holds no mapping")
    return {key: value for key, value in document.items() if not str(key).startswith(".")}


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _sorted(value[key]) for key in sorted(value, key=str)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
