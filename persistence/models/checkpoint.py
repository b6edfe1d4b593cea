"""Checkpoints: a run's state at a moment."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from persistence.models.base import AggregateModel, Json


class Checkpoint(AggregateModel):
    """A saved state to resume from. digest: SHA-256 of the state's JSON text in hexadecimal; state is None once discarded."""

    kind: ClassVar[str] = "CHECKPOINT"

    run_id: UUID
    step_id: UUID | None = None
    label: str | None = None
    digest: str
    size_bytes: int
    state: Json = None
    restored_at: datetime | None = None
