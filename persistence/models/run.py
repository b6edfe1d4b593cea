"""Runs: executions of orchestrations."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from persistence.models.base import AggregateModel, Json


class Run(AggregateModel):
    """One execution, begun by a signal, by another run, or by itself."""

    kind: ClassVar[str] = "RUN"

    signal_id: UUID | None = None
    parent_run_id: UUID | None = None
    run_type: str
    input_data: Json = None
    output_result: Json = None
    error_details: Json = None
    wait_reason: str | None = None
    retry_count: int = 0
    started_at: datetime | None = None
    completed_at: datetime | None = None
