"""Steps: pieces of work in a run."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from persistence.models.base import AggregateModel, Json


class Step(AggregateModel):
    """One piece of work. step_index orders the steps of a run; None until the database has numbered it.

    position: its place in a flow. wait_until, signal_type, signal_key: what it waits for. progress: what it last told of itself.
    """

    kind: ClassVar[str] = "STEP"

    run_id: UUID
    step_index: int | None = None
    step_type: str
    position: str | None = None
    wait_until: datetime | None = None
    signal_type: str | None = None
    signal_key: str | None = None
    progress: Json = None
    input_data: Json = None
    output_result: Json = None
    error_details: Json = None
    wait_reason: str | None = None
    retry_count: int = 0
    started_at: datetime | None = None
    completed_at: datetime | None = None
