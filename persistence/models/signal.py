"""Signals: what comes in from outside."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from persistence.models.base import AggregateModel, Given, Json


class Signal(AggregateModel):
    """Something that came in, once for each (source_channel, source_id). is_new: whether this very call received it."""

    kind: ClassVar[str] = "SIGNAL"

    source_channel: str
    source_id: str
    signal_type: str
    signal_key: str | None = None
    payload: Json = None
    error_details: Json = None
    retry_count: int = 0
    received_at: datetime | None = None
    processed_at: datetime | None = None
    is_new: bool | None = None


class NewSignal(Given):
    """A signal to be received.

    source_channel, source_id: where it came from and its name there; together they say whether it was seen before.
    signal_key: for runs of flows that wait for a signal of this type and key.
    correlation_id: joins it to an existing correlation; none: its own.
    occurred_at: when it happened, if not now; with a time zone.
    attributes: facts about the arrival that are kept in the log but are no part of the payload.
    """

    source_channel: str
    source_id: str
    signal_type: str
    signal_key: str | None = None
    payload: Json = None
    correlation_id: UUID | None = None
    occurred_at: datetime | None = None
    attributes: dict[str, Json] | None = None
