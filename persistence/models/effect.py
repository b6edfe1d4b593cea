"""Effects: what is to be done in the outside world."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from persistence.models.base import AggregateModel, Json


class Effect(AggregateModel):
    """Something to be done outside, by the worker, at least once under one idempotency key.

    retry_count: attempts that failed. next_retry_at: when the next one is due, or when the first may be made.
    run_id, step_id: what it is for, or memory_id.
    cancel_requested_at: when it was cancelled while a worker was delivering it. One that is EXECUTED all the same was delivered by then.
    is_awaited: whether its run waits for what comes of it.
    """

    kind: ClassVar[str] = "EFFECT"

    run_id: UUID | None = None
    step_id: UUID | None = None
    memory_id: UUID | None = None
    effect_type: str
    idempotency_key: str
    effect_spec: dict[str, Json]
    retry_count: int = 0
    next_retry_at: datetime | None = None
    execution_result: Json = None
    error_details: Json = None
    executed_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    is_awaited: bool | None = None
