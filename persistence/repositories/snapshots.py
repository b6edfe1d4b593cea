"""Snapshots: the machine SNAPSHOT of the canon."""

from typing import Any, Literal, Unpack
from uuid import UUID

from persistence.database.tables import SNAPSHOTS
from persistence.models import Position, Snapshot
from persistence.repositories.base import AggregateRepository, Details

SnapshotKind = Literal["system", "tenant", "agent", "conversation"]
SnapshotCause = Literal["manual", "schedule", "change", "size", "restore"]


class SnapshotRepository(AggregateRepository[Snapshot]):
    """What copies of the state there are, and what became of them."""

    table = SNAPSHOTS
    model = Snapshot

    def take(
        self,
        folder: str,
        *,
        snapshot_kind: SnapshotKind,
        subject: str | None,
        position: Position,
        digest: str,
        size_bytes: int,
        cause: SnapshotCause,
        snapshot_id: UUID | None = None,
        **details: Unpack[Details],
    ) -> Snapshot:
        """Notes that a copy was taken. folder: its name; digest: SHA-256 of its manifest in hexadecimal."""
        data = {
            "snapshot_kind": snapshot_kind,
            "folder": folder,
            "subject": subject,
            "position": str(position),
            "digest": digest,
            "size_bytes": size_bytes,
            "cause": cause,
        }
        return self._begin("SNAPSHOT_TAKEN", data, details, item_id=snapshot_id)

    def restore(
        self, snapshot: Snapshot, target: str, changes: dict[str, Any] | None = None, **details: Unpack[Details]
    ) -> Snapshot:
        """Notes that what it holds was brought back. target: where; changes: what came of it."""
        return self._advance(snapshot, "SNAPSHOT_RESTORED", {"target": target, "changes": changes}, details)

    def delete(self, snapshot: Snapshot, reason: str, **details: Unpack[Details]) -> Snapshot:
        """Notes that it was removed. The last one that was verified is refused (InvalidTransition)."""
        return self._advance(snapshot, "SNAPSHOT_DELETED", {"reason": reason}, details)
