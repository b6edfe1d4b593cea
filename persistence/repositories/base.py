"""What the repositories of aggregates share: beginning one, and moving it on by one event."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from inspect import isawaitable
from typing import Any, TypedDict, TypeVar
from uuid import UUID

from persistence.canon import CANON, NEW
from persistence.errors import InvalidInput
from persistence.models import AggregateModel, Event, NewEvent, new_id
from persistence.models.base import Model
from persistence.repositories.rows import RowReader

A = TypeVar("A", bound=AggregateModel)
M = TypeVar("M")

Cause = AggregateModel | Event | UUID
"""What caused an event: an aggregate in its present state, an event, or an event's id."""


class Details(TypedDict, total=False):
    """What any command may be told besides its subject.

    at: when it happened, if not now; with a time zone.
    actor: who did it, if not the transaction's actor.
    because: what caused it, if not the object passed in.
    attributes: facts to keep in the log that are no part of the state.
    event_id: the event's id, for a writer that must be able to repeat itself; a UUID of its own making.
    """

    at: datetime
    actor: str
    because: Cause
    attributes: dict[str, Any]
    event_id: UUID


_DETAILS = frozenset(Details.__annotations__)


def checked_details(details: Details) -> Details:
    """Raises TypeError for a name that no command knows."""
    if not details.keys() <= _DETAILS:
        unknown = sorted(details.keys() - _DETAILS)
        raise TypeError(
            f"unexpected keyword argument {unknown[0]!r}; besides its own, a command takes {', '.join(sorted(_DETAILS))}"
        )
    return details


def checked(value: M, name: str, *kinds: type[Model]) -> M:
    """What a command was given, if it is one of these. Raises InvalidInput that says what to do."""
    if isinstance(value, kinds):
        return value
    wanted = " or ".join(kind.__name__ for kind in kinds)
    if isawaitable(value):
        raise InvalidInput(f"{name}: was not awaited", hint="await what gives it", field=name)
    hint = "an id is not enough: pass what the command returned, or what get gives" if isinstance(value, UUID | str) else None
    raise InvalidInput(f"{name}: is a {type(value).__name__}, not a {wanted}", hint=hint, field=name)


def moment(value: object, field: str) -> str | None:
    """A moment as events have it. Raises InvalidInput for what is no datetime, or has no time zone."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidInput(f"{field}: is a {type(value).__name__}, not a datetime", field=field)
    if value.tzinfo is None:
        raise InvalidInput(f"{field}: has no time zone", hint="give it one, such as datetime.UTC", field=field)
    return value.isoformat()


class AggregateRepository(RowReader[A]):
    """Commands are checked against the canon's state machine here, and again in the database."""

    model: type[A]

    def _begin(
        self,
        event_type: str,
        data: Mapping[str, Any],
        details: Details,
        *,
        cause: AggregateModel | None = None,
        correlation_id: UUID | None = None,
        item_id: UUID | None = None,
        attachment: str | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> A:
        """Buffers an aggregate's first event and returns its state after it.

        data: the event's data; None values are left out. fields: what the model has besides.
        """
        checked_details(details)
        status = CANON.next_status(event_type, NEW)
        context = self._work.context
        event_id = details.get("event_id") or new_id()
        item_id = item_id or new_id()
        if correlation_id is None:
            correlation_id = cause.correlation_id if cause else context.correlation_id or new_id()
        causation_id = _event_id(details.get("because") or cause) or context.causation_id
        self._record(event_type, item_id, 1, data, details, event_id, correlation_id, causation_id, attachment)
        return self.model.made(
            tenant_id=context.tenant_id,
            id=item_id,
            status=status,
            version=1,
            correlation_id=correlation_id,
            causation_id=causation_id,
            actor=details.get("actor") or context.actor,
            last_event_id=event_id,
            **_fields(self.model, event_type, data, details),
            **(fields or {}),
        )

    def _begin_many(
        self, event_type: str, data: Iterable[dict[str, Any]], details: Details, *, cause: AggregateModel
    ) -> list[UUID]:
        """Buffers the first events of aggregates that differ in their data alone. Returns their ids."""
        checked_details(details)
        causation_id = _event_id(details.get("because") or cause)
        begun: list[UUID] = []
        for event_data in data:
            item_id = new_id()
            self._work.record(
                NewEvent.made(
                    id=new_id(),
                    event_type=event_type,
                    aggregate_id=item_id,
                    aggregate_version=1,
                    event_data=event_data,
                    correlation_id=cause.correlation_id,
                    causation_id=causation_id,
                    actor=details.get("actor"),
                    occurred_at=details.get("at"),
                    attachment=None,
                )
            )
            begun.append(item_id)
        return begun

    def _advance(
        self, subject: A, event_type: str, data: Mapping[str, Any], details: Details, *, attachment: str | None = None
    ) -> A:
        """Buffers the next event of an aggregate and returns its state after it."""
        checked_details(details)
        checked(subject, self.model.__name__.lower(), self.model)
        if subject.tenant_id != self._work.context.tenant_id:
            raise InvalidInput(f"{subject.kind} {subject.id} belongs to another tenant than this transaction", field="tenant_id")
        status = CANON.next_status(event_type, subject.status, subject.id)
        event_id = details.get("event_id") or new_id()
        causation_id = _event_id(details.get("because") or subject)
        self._record(
            event_type, subject.id, subject.version + 1, data, details, event_id, subject.correlation_id, causation_id, attachment
        )
        changes = _fields(self.model, event_type, data, details)
        counter = CANON.event_types[event_type].counts
        if counter:
            changes[counter] = getattr(subject, counter) + 1
        return subject.advanced(status, event_id, changes)

    def _record(
        self,
        event_type: str,
        item_id: UUID,
        version: int,
        data: Mapping[str, Any],
        details: Details,
        event_id: UUID,
        correlation_id: UUID,
        causation_id: UUID | None,
        attachment: str | None,
    ) -> None:
        event_data = {key: str(value) if isinstance(value, UUID) else value for key, value in data.items() if value is not None}
        attributes = details.get("attributes")
        if attributes:
            event_data["attributes"] = attributes
        self._work.record(
            NewEvent.made(
                id=event_id,
                event_type=event_type,
                aggregate_id=item_id,
                aggregate_version=version,
                event_data=event_data,
                correlation_id=correlation_id,
                causation_id=causation_id,
                actor=details.get("actor"),
                occurred_at=details.get("at"),
                attachment=attachment,
            )
        )


def _event_id(cause: Cause | None) -> UUID | None:
    if cause is None or isinstance(cause, UUID):
        return cause
    checked(cause, "because", AggregateModel, Event)
    return cause.id if isinstance(cause, Event) else cause.last_event_id


def _fields(model: type[AggregateModel], event_type: str, data: Mapping[str, Any], details: Details) -> dict[str, Any]:
    """What an event changes in a model: the fold, as far as this side can know it."""
    kind = CANON.event_types[event_type]
    changes: dict[str, Any] = dict.fromkeys(kind.clears)
    fields = model.model_fields
    changes.update((key, value) for key, value in data.items() if value is not None and key in fields)
    if kind.stamps:
        changes[kind.stamps] = details.get("at")
    return changes
