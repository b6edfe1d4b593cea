"""What all models share."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar, Generic, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from uuid_utils.compat import uuid7

from persistence.canon import CANON
from persistence.errors import invalid

M = TypeVar("M")
Json = Any
"""A value that JSON can express."""


def new_id() -> UUID:
    """A UUIDv7: ids sort by the time they were made (RFC 9562 section 5.7)."""
    return uuid7()


def first_id_at(moment: datetime) -> UUID:
    """The lowest UUIDv7 of a moment: what was made later has a higher id. Moments before 1970 count as 1970."""
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)


def in_utc(moment: datetime) -> datetime:
    """The same moment; one without a time zone is in UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def made_at(item_id: UUID) -> float:
    """When a UUIDv7 was made, in seconds since 1970."""
    return (item_id.int >> 80) / 1000


class Model(BaseModel):
    """Immutable, compared by value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def made(cls, **fields: Any) -> Self:
        """One of values that are known to be right: ``model_construct`` without its search for aliases, at a fifth of the time."""
        names = _names(cls)
        is_whole = len(fields) == len(names)
        item = cls.__new__(cls)
        object.__setattr__(item, "__dict__", fields if is_whole else {**_defaults(cls), **fields})
        object.__setattr__(item, "__pydantic_fields_set__", names if is_whole else set(fields))
        object.__setattr__(item, "__pydantic_extra__", None)
        object.__setattr__(item, "__pydantic_private__", None)
        return item


class Given(Model):
    """Something a caller makes. What is wrong with it is an InvalidInput that names the field."""

    @model_validator(mode="wrap")
    @classmethod
    def _in_own_words(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            raise invalid(error, "it") from error


@cache
def _names(model: type[Model]) -> set[str]:
    """The fields. One set for all that have them all: nothing changes a frozen model."""
    return set(model.model_fields)


@cache
def _defaults(model: type[Model]) -> dict[str, Any]:
    """The fields that need not be given. (No model has one that is made anew each time.)"""
    return {name: field.default for name, field in model.model_fields.items() if not field.is_required()}


class AggregateModel(Model):
    """The present state of something with a life of its own.

    version: how many events it has seen; a command on an older version raises Conflict.
    last_event_id: the newest of them, the cause of what follows from this state.
    created_at, updated_at: when its first and its newest event were recorded; None until then.
    """

    kind: ClassVar[str]

    tenant_id: UUID
    id: UUID
    status: str
    version: int
    correlation_id: UUID
    causation_id: UUID | None = None
    actor: str
    last_event_id: UUID
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether no event can follow any more."""
        return self.status in CANON.aggregates[self.kind].terminal

    def become(self, other: Self) -> None:
        """Takes on what another says, for the one case in which a command could not know what it would return."""
        object.__setattr__(self, "__dict__", dict(other.__dict__))

    def advanced(self, status: str, event_id: UUID, changes: dict[str, Any]) -> Self:
        """The state after one more event."""
        news = {"status": status, "version": self.version + 1, "last_event_id": event_id, "updated_at": None}
        return self.made(**{**self.__dict__, **changes, **news})


class Page(Model, Generic[M]):
    """Some items, and where the next ones begin: pass ``next`` as ``after``. None: that was all."""

    items: Sequence[M]
    next: UUID | None = None
