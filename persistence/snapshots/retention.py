"""Which snapshots stay: the last so many, and the last one of each of so many days, weeks and months. The last one that is known to be good
always does.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

import structlog

from persistence.errors import Conflict, InvalidInput, InvalidTransition
from persistence.models import Snapshot
from persistence.plane import Plane
from persistence.snapshots.manifest import SnapshotRefused
from persistence.snapshots.places import deleting
from persistence.snapshots.store import SnapshotStore
from persistence.snapshots.taking import snapshots_of


class Dated(Protocol):
    """What a retention is about. folder: the moment at which it was taken."""

    @property
    def id(self) -> UUID: ...
    @property
    def folder(self) -> str: ...
    @property
    def status(self) -> str: ...


_log = structlog.get_logger(__name__)


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

    def kept(self, snapshots: Sequence[Dated]) -> set[UUID]:
        """Ids of those that stay, of one subject. snapshots: the newest first."""
        kept = {item.id for item in snapshots[: self.last]}
        for most, period in (
            (self.daily, "%Y-%m-%d"),
            (self.weekly, "%G-%V"),
            (self.monthly, "%Y-%m"),
        ):
            seen: dict[str, UUID] = {}
            for item in snapshots:
                seen.setdefault(_period(item, period), item.id)
            kept.update(list(seen.values())[:most])
        good = next((item.id for item in snapshots if item.status == "VERIFIED"), None)
        return kept if good is None else kept | {good}


async def prune(
    plane: Plane,
    tenant_id: UUID,
    retention: Retention,
    *,
    actor: str,
    user_id: UUID | None = None,
    dry_run: bool = False,
    causes: Collection[str] | None = None,
) -> list[Snapshot]:
    """Deletes the snapshots of a tenant that need not stay, each by an event, and what nobody goes on from any more from the disk. Returns what
    goes. causes: of those that were taken for another reason than these nothing is deleted, and they do not count.
    """
    there = await snapshots_of(plane, tenant_id, None, actor=actor, user_id=user_id)
    if causes is not None:
        there = [item for item in there if item.cause in causes]
    gone: list[Snapshot] = []
    for of in dict.fromkeys(item.of for item in there):
        mine = [item for item in there if item.of == of]
        kept = retention.kept(mine)
        gone += [item for item in mine if item.id not in kept]
    if dry_run or not gone:
        return gone
    deleted = []
    async with deleting(plane, tenant_id):
        for item in gone:
            try:
                deleted.append(await _delete(plane, item, "retention", actor, user_id))
            except (InvalidTransition, Conflict):
                continue  # the last good one, meanwhile; or somebody else was faster
        await _sweep(plane, tenant_id, actor, user_id)
    return deleted


async def delete(plane: Plane, snapshot: Snapshot, reason: str, *, actor: str, user_id: UUID | None = None) -> Snapshot:
    """Deletes a snapshot, by an event. Its folder goes once no other one goes on from it. Raises InvalidTransition for the last good one, Conflict
    while snapshots of the tenant are being taken or read.
    """
    async with deleting(plane, snapshot.tenant_id):
        deleted = await _delete(plane, snapshot, reason, actor, user_id)
        await _sweep(plane, snapshot.tenant_id, actor, user_id)
    return deleted


async def sweep(plane: Plane, tenant_id: UUID, *, actor: str, user_id: UUID | None = None) -> list[str]:
    """Removes folders of snapshots that are deleted and that nobody goes on from, and what was begun and never recorded. Returns their names."""
    async with deleting(plane, tenant_id):
        return await _sweep(plane, tenant_id, actor, user_id)


async def _delete(plane: Plane, snapshot: Snapshot, reason: str, actor: str, user_id: UUID | None) -> Snapshot:
    async with plane.transaction(snapshot.tenant_id, actor=actor, user_id=user_id) as tx:
        return tx.snapshots.delete(await tx.snapshots.get(snapshot.id), reason)


async def _sweep(plane: Plane, tenant_id: UUID, actor: str, user_id: UUID | None) -> list[str]:
    store = SnapshotStore.of(plane.settings, tenant_id)
    async with plane.transaction(tenant_id, actor=actor, user_id=user_id) as tx:
        all_ = await tx.snapshots.all()
    return await asyncio.to_thread(_removed, store, all_)


def _removed(store: SnapshotStore, all_: Sequence[Snapshot]) -> list[str]:
    needed = _needed(store, all_)
    deleted = [item.folder for item in all_ if item.status == "DELETED" and item.folder not in needed]
    gone = [folder for folder in deleted if store.remove(folder)]
    return [*gone, *store.sweep([item.id for item in all_ if item.status != "DELETED"])]


def _needed(store: SnapshotStore, all_: Sequence[Snapshot]) -> set[str]:
    """Folders that those which are there are made of. Of one that cannot be read nobody can tell: then all earlier ones of the same stay."""
    needed: set[str] = set()
    for item in all_:
        if item.status == "DELETED":
            continue
        try:
            for manifest in store.chain(item):
                needed |= {manifest.folder, *(member.held_by for member in manifest.members)}
        except SnapshotRefused as refusal:
            _log.warning("snapshot_unreadable", folder=item.folder, tenant_id=str(item.tenant_id), error=refusal.message)
            needed |= {other.folder for other in all_ if other.of == item.of and other.folder <= item.folder}
    return needed


def _period(item: Dated, form: str) -> str:
    """Which day, week or month it is of, by its folder."""
    try:
        return datetime.strptime(item.folder + "+0000", "%Y-%m-%dT%H%M%SZ%z").strftime(form)
    except ValueError:  # there is no such day
        return item.folder
