"""Which snapshots stay: the last so many, and the last one of each of so many days, weeks and months. The last one that is known to be good
always does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from persistence.errors import InvalidInput, InvalidTransition
from persistence.models import Snapshot
from persistence.plane import Plane
from persistence.snapshots.manifest import SnapshotRefused
from persistence.snapshots.store import SnapshotStore
from persistence.snapshots.taking import snapshots_of


@dataclass(frozen=True)
class Retention:
    """last: so many of the newest. daily, weekly, monthly: the newest of each of so many days, weeks and months that have any."""

    last: int = 10
    daily: int = 7
    weekly: int = 4
    monthly: int = 12

    def __post_init__(self) -> None:
        for name in ("last", "daily", "weekly", "monthly"):
            if getattr(self, name) < 0:
                raise InvalidInput(f"{name}: must not be less than 0", field=name)

    def kept(self, snapshots: Sequence[Snapshot]) -> set[UUID]:
        """Ids of those that stay, of one subject. snapshots: the newest first."""
        kept = {item.id for item in snapshots[: self.last]}
        for most, period in (
            (self.daily, "%Y-%m-%d"),
            (self.weekly, "%G-%V"),
            (self.monthly, "%Y-%m"),
        ):
            seen: dict[str, UUID] = {}
            for item in snapshots:
                seen.setdefault(_taken_at(item).strftime(period), item.id)
            kept.update(list(seen.values())[:most])
        good = next((item.id for item in snapshots if item.status == "VERIFIED"), None)
        return kept if good is None else kept | {good}


async def prune(
    plane: Plane, tenant_id: UUID, retention: Retention, *, actor: str, user_id: UUID | None = None, dry_run: bool = False
) -> list[Snapshot]:
    """Deletes the snapshots of a tenant that need not stay, each by an event, and what nobody goes on from any more from the disk. Returns what
    goes.
    """
    there = await snapshots_of(plane, tenant_id, None, actor=actor, user_id=user_id)
    gone: list[Snapshot] = []
    for of in dict.fromkeys(item.of for item in there):
        mine = [item for item in there if item.of == of]
        kept = retention.kept(mine)
        gone += [item for item in mine if item.id not in kept]
    if dry_run:
        return gone
    deleted = []
    for item in gone:
        try:
            deleted.append(await delete(plane, item, "retention", actor=actor, user_id=user_id))
        except InvalidTransition:
            continue  # the last good one, meanwhile
    await sweep(plane, tenant_id, actor=actor, user_id=user_id)
    return deleted


async def delete(plane: Plane, snapshot: Snapshot, reason: str, *, actor: str, user_id: UUID | None = None) -> Snapshot:
    """Deletes a snapshot, by an event. Its folder goes once no other one goes on from it. Raises InvalidTransition for the last good one."""
    async with plane.transaction(snapshot.tenant_id, actor=actor, user_id=user_id) as tx:
        deleted = tx.snapshots.delete(await tx.snapshots.get(snapshot.id), reason)
    await sweep(plane, snapshot.tenant_id, actor=actor, user_id=user_id)
    return deleted


async def sweep(plane: Plane, tenant_id: UUID, *, actor: str, user_id: UUID | None = None) -> list[str]:
    """Removes folders that nothing needs: of snapshots that are deleted, and of some that were never recorded. Returns their names."""
    store = SnapshotStore.of(plane.settings, tenant_id)
    async with plane.transaction(tenant_id, actor=actor, user_id=user_id) as tx:
        all_ = await tx.snapshots.all()
    there = [item for item in all_ if item.status != "DELETED"]
    needed = _needed(store, there)
    gone = []
    if needed is not None:
        for item in all_:
            if item.status == "DELETED" and item.folder not in needed and (store.folder / item.folder).is_dir():
                store.remove(item.folder)
                gone.append(item.folder)
    return [*gone, *store.sweep([item.folder for item in all_])]


def _needed(store: SnapshotStore, there: Iterable[Snapshot]) -> set[str] | None:
    """Folders that those which are there are made of; None where one of them cannot be read: then nothing is sure to be unneeded."""
    needed: set[str] = set()
    for item in there:
        try:
            for manifest in store.chain(item):
                needed |= {manifest.folder, *(member.held_by for member in manifest.members)}
        except SnapshotRefused:
            return None
    return needed


def _taken_at(item: Snapshot) -> datetime:
    return datetime.strptime(item.folder + "+0000", "%Y-%m-%dT%H%M%SZ%z")
