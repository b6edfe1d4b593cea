"""Snapshots: copies of the state on disk."""

from datetime import datetime
from typing import ClassVar

from persistence.models.base import AggregateModel, Json


class Snapshot(AggregateModel):
    """A copy of the state at one position of the log.

    snapshot_kind: system, tenant, agent or conversation; subject: the agent's actor, or the conversation's correlation. folder: its name on
    disk. digest: of its manifest. cause: what had it taken: manual, schedule, change, size or restore.
    """

    kind: ClassVar[str] = "SNAPSHOT"

    snapshot_kind: str
    folder: str
    subject: str | None = None
    position: str
    digest: str
    size_bytes: int
    cause: str
    verified_at: datetime | None = None
    restored_at: datetime | None = None
    findings: Json = None
    error_details: Json = None

    @property
    def of(self) -> str:
        """What it is of, in words."""
        return " ".join(part for part in (self.snapshot_kind, self.subject) if part)
