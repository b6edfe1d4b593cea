"""Outbox entries: the record of an effect on its way out."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from persistence.models.base import AggregateModel, Json


class OutboxEntry(AggregateModel):
    """The outbox record of an effect, whose id it shares. event_type is the effect's type."""

    kind: ClassVar[str] = "OUTBOX_ENTRY"

    aggregate_type: str
    aggregate_id: UUID
    event_type: str
    idempotency_key: str
    payload: dict[str, Json]
    retry_count: int = 0
    next_retry_at: datetime | None = None
    error_details: Json = None
    published_at: datetime | None = None
    priority: int = 0
    ordering_key: str | None = None
    destination: str | None = None
    traceparent: str | None = None
    blocks_key: bool | None = None
