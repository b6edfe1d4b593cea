"""What the canon is made of. The heads of the files in ``canon/`` say what each field means."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import fastjsonschema
from pydantic import BaseModel, ConfigDict, Field, field_validator

from persistence.errors import InvalidInput


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ignored_types=(cached_property,))


class PartOf(_Part):
    """What something is a part of, and the statuses of that in which a part begins or goes on."""

    aggregate: str
    statuses: tuple[str, ...] = Field(alias="while")


class Aggregate(_Part):
    """Something with a life of its own. See the head of ``canon/aggregates.yaml``."""

    table: str
    statuses: tuple[str, ...]
    terminal: tuple[str, ...]
    open: tuple[str, ...] = ()
    part_of: dict[str, PartOf] = {}


class Transition(_Part):
    """The statuses an event may leave, and the one it leads to."""

    sources: tuple[str, ...] = Field(alias="from")
    target: str = Field(alias="to")


class PastVersion(_Part):
    """A version that is no longer written. upcaster: the SQL function that brings its data to the next version."""

    data: dict[str, Any]
    upcaster: str


class EventType(_Part):
    """One event type: see the head of ``canon/event_types.yaml`` for what each part says."""

    name: str
    aggregate: str
    version: int
    writer: Literal["service", "worker", "operator", "plane"]
    stamps: str | None = None
    counts: str | None = None
    clears: tuple[str, ...] = ()
    caused: bool = False
    create: tuple[str, ...] = ()
    data: dict[str, Any]
    past: dict[int, PastVersion] = {}

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(self.data.get("required", ()))

    @property
    def known(self) -> tuple[str, ...]:
        """The keys that the event's data may have."""
        return tuple(self.data_schema["properties"])

    @property
    def data_schema(self) -> dict[str, Any]:
        """The JSON Schema of the event's data: closed, but for ``attributes``, facts that are kept and not folded."""
        return closed(self.data)

    @cached_property
    def _validate(self) -> Any:
        # Draft 7 is the newest that fastjsonschema compiles; the schemas use nothing that 2020-12 reads otherwise.
        return fastjsonschema.compile({"$schema": "http://json-schema.org/draft-07/schema#", **self.data_schema}, use_default=False)

    def check_data(self, data: Mapping[str, Any], *, creates: bool) -> None:
        """Raises InvalidInput, naming the field, when the data do not have the type's schema.

        creates: whether it is the aggregate's first event.
        """
        try:
            self._validate(data)
        except fastjsonschema.JsonSchemaValueException as error:
            field = str(error.name).replace("data", self.name, 1)
            raise InvalidInput(str(error.message).replace("data", self.name, 1), field=field) from error
        for key in self.create if creates else ():
            if key not in data:
                raise InvalidInput(f"{self.name}.{key} is missing", hint="a first event needs it", field=key)
        if self.create and not creates:
            for key in data:
                if key != "attributes":
                    raise InvalidInput(f"{self.name}.{key}: only a first event says this", hint="leave it out", field=key)


def closed(data: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of an event's data, of which ``data`` says what is particular."""
    properties = {**data.get("properties", {}), "attributes": {"type": "object"}}
    return {"type": "object", **data, "properties": properties, "additionalProperties": False}


class ForeignKey(_Part):
    """columns point to those of the primary key of ``references``."""

    columns: tuple[str, ...]
    references: str
    on_delete: Literal["no action", "cascade"] = "no action"


class IndexContract(_Part):
    """An index that common queries need."""

    columns: tuple[str, ...]
    where: str | None = None
    using: str = "btree"
    unique: bool = False


class Column(_Part):
    """type: as PostgreSQL names it."""

    type: str
    not_null: bool
    identity: bool

    @classmethod
    def parse(cls, text: str) -> "Column":
        """Reads ``bigint not null identity``."""
        words = text.removesuffix(" identity")
        return cls(type=words.removesuffix(" not null"), not_null=words.endswith(" not null"), identity=text.endswith(" identity"))


class TableContract(_Part):
    """What a table must have."""

    columns: dict[str, Column]
    primary_key: tuple[str, ...] = ("tenant_id", "id")
    unique: dict[str, tuple[str, ...]] = {}
    foreign_keys: dict[str, ForeignKey] = {}
    indexes: dict[str, IndexContract] = {}
    grows: bool = True
    is_kept: bool = True

    @field_validator("columns", mode="before")
    @classmethod
    def _columns(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {name: Column.parse(text) if isinstance(text, str) else text for name, text in value.items()}

    @field_validator("indexes", mode="before")
    @classmethod
    def _indexes(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {name: {"columns": index} if isinstance(index, list) else index for name, index in value.items()}


class Backoff(_Part):
    """Seconds, and attempts before a dead letter."""

    base_seconds: float
    cap_seconds: float
    max_attempts: int


TokenRole = Literal["reader", "operator", "admin", "keeper"]


class ChannelRule(_Part):
    """Who may follow a channel, and who may tell something in it: the least roles; none: nobody."""

    follow: TokenRole
    publish: TokenRole | None = None


class Rules(_Part):
    """See the file ``canon/rules.yaml``."""

    actor_pattern: str
    backoff: Backoff
    policies: dict[str, str]
    channels: dict[str, ChannelRule]
    system_tenant: str
