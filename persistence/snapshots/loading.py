"""Reading a snapshot: its own members, and those of the ones that it goes on from."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

import orjson

from persistence.errors import Erased, NotFound, VaultDamaged
from persistence.models import Snapshot
from persistence.plane import Plane
from persistence.snapshots.collecting import TABLES
from persistence.snapshots.lines import split
from persistence.snapshots.manifest import Manifest, Member, Sealing, SnapshotRefused
from persistence.snapshots.store import SnapshotStore
from persistence.vault.aead import Unsealable, bound_to, unseal
from persistence.vault.key_memory import Key

SUBJECT: Final = "persistence:snapshots"
"""Whose key seals the members of a tenant's snapshots: ``persistence erase --subject`` with this name makes all of them unreadable."""

_PURPOSE: Final = "snapshot members"


@dataclass
class State:
    """What a snapshot holds, chain and all, as PostgreSQL wrote it. events: by id. rows: by table and id. documents: its own JSON members."""

    manifest: Manifest
    events: dict[str, bytes] = field(default_factory=dict)
    rows: dict[str, dict[str, bytes]] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)


class SnapshotKeys:
    """The keys of a tenant's snapshots, each asked for once; wiped at the end. Use it with ``async with``."""

    def __init__(self, plane: Plane, tenant_id: UUID, circumstances: Mapping[str, Any]) -> None:
        """circumstances: actor, user_id and source of who asks."""
        self._plane = plane
        self._tenant_id = tenant_id
        self._circumstances = circumstances
        self._keys: dict[UUID, Key] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for key in self._keys.values():
            key.wipe()

    async def new(self) -> tuple[Sealing, Key]:
        """The key that members are sealed with now, made where there is none yet. Raises VaultLocked, VaultDamaged."""
        subject = await self._plane.subjects.key(self._tenant_id, SUBJECT, purpose="take a snapshot", **self._circumstances)
        with subject:
            key = self._keys[subject.key_id] = subject.derived(_PURPOSE)
        return Sealing(key_id=subject.key_id), key

    async def of(self, manifest: Manifest) -> Key | None:
        """The key of a snapshot's members; None where they are not sealed. Raises SnapshotRefused for one that is gone, VaultLocked."""
        if manifest.sealing is None:
            return None
        key_id = manifest.sealing.key_id
        if key_id not in self._keys:
            purpose = f"read snapshot {manifest.folder}"
            try:
                subject = await self._plane.subjects.key_by_id(self._tenant_id, key_id, purpose=purpose, **self._circumstances)
            except (NotFound, Erased, VaultDamaged) as error:
                raise SnapshotRefused(f"snapshot {manifest.folder}: its key cannot be had: {error.message}") from error
            with subject:
                self._keys[key_id] = subject.derived(_PURPOSE)
        return self._keys[key_id]


async def load(plane: Plane, snapshot: Snapshot, circumstances: Mapping[str, Any], *, only: frozenset[str] | None = None) -> State:
    """Reads a snapshot whole: every member of its chain, each held to its digest. only: members of these names.

    circumstances: actor, user_id and source of who reads. Raises SnapshotRefused, VaultLocked.
    """
    store = SnapshotStore.of(plane.settings, snapshot.tenant_id)
    chain = await asyncio.to_thread(store.chain, snapshot)
    state = State(chain[-1], rows={table: {} for table in TABLES.values()})
    async with SnapshotKeys(plane, snapshot.tenant_id, circumstances) as keys:
        for manifest in chain:
            await asyncio.to_thread(_read, store, state, manifest, await keys.of(manifest), only)
    return state


def place_of(manifest: Manifest, name: str) -> bytes:
    """What a sealed member is bound to."""
    return bound_to("snapshot", manifest.tenant_id, manifest.snapshot_id, name)


def _read(store: SnapshotStore, state: State, manifest: Manifest, key: Key | None, only: frozenset[str] | None) -> None:
    for member in manifest.members:
        if only is not None and member.name not in only:
            continue
        with store.archive(member.held_by) as archive:
            if member.held_by == manifest.folder and archive.manifest() != manifest:
                raise SnapshotRefused(f"snapshot {manifest.folder}: the manifest in its archive is another")
            content = archive.member(member)
        _take(state, manifest, member, _opened(manifest, member, content, key))


def _opened(manifest: Manifest, member: Member, content: bytes, key: Key | None) -> bytes:
    if key is None:
        return content
    try:
        return bytes(unseal(key.view, content, place_of(manifest, member.name)))
    except Unsealable as error:
        raise SnapshotRefused(f"snapshot {manifest.folder}: {member.name}: {error}") from error


def _take(state: State, manifest: Manifest, member: Member, content: bytes) -> None:
    try:
        if member.name == "events.jsonl":
            state.events.update(split(content))
        elif member.name.endswith(".jsonl"):
            state.rows.setdefault(member.name.removesuffix(".jsonl"), {}).update(split(content))
        elif manifest is state.manifest:
            state.documents[member.name.removesuffix(".json")] = orjson.loads(content)
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotRefused(f"snapshot {manifest.folder}: {member.name} cannot be read: {error}") from error
