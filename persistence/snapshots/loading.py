"""A snapshot's state, put together from those that it goes on from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from persistence.models import Snapshot
from persistence.secrets import RecordedVault
from persistence.snapshots.collecting import TABLES
from persistence.snapshots.manifest import Manifest, Member, SnapshotRefused
from persistence.snapshots.store import SnapshotStore
from persistence.vault.aead import Unsealable, bound_to, unseal
from persistence.vault.key_memory import Key

Open = Callable[[Manifest, Member, bytes], bytes]


@dataclass
class State:
    """events: by id, in the order of the log. rows: by table and id. documents: of the newest snapshot, by name."""

    manifest: Manifest
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The events in the order of the log."""
        return sorted(self.events.values(), key=lambda event: event["sequence_number"])


async def load(store: SnapshotStore, snapshot: Snapshot, vault: RecordedVault, *, only: frozenset[str] | None = None) -> State:
    """Reads a snapshot whole: every member of its chain, each held to its digest. only: members of these names. Raises SnapshotRefused,
    VaultLocked.
    """
    chain = store.chain(snapshot)
    state = State(chain[-1], rows={table: {} for table in TABLES.values()})
    for manifest in chain:
        key = await data_key(manifest, vault)
        try:
            for member in manifest.members:
                if only is not None and member.name not in only:
                    continue
                with store.archive(member.held_by) as archive:
                    if member.held_by == manifest.folder and archive.manifest() != manifest:
                        raise SnapshotRefused(f"snapshot {manifest.folder}: the manifest in its archive is another")
                    content = archive.member(member)
                _take(state, manifest, member, opened(manifest, member, content, key))
        finally:
            if key is not None:
                key.wipe()
    return state


async def data_key(manifest: Manifest, vault: RecordedVault) -> Key | None:
    """The key that a snapshot's members are sealed with; None where they are not."""
    sealing = manifest.sealing
    if sealing is None:
        return None
    return await vault.use(
        lambda keys: Key(keys.data_key(manifest.tenant_id, sealing.key_id, "snapshot", sealing.vault_term, sealing.key).view)
    )


def place_of(manifest: Manifest, name: str) -> bytes:
    """What a sealed member is bound to."""
    return bound_to("snapshot", manifest.tenant_id, manifest.snapshot_id, name)


def opened(manifest: Manifest, member: Member, content: bytes, key: Key | None) -> bytes:
    """A member's own bytes. Raises SnapshotRefused."""
    if key is None:
        return content
    try:
        return bytes(unseal(key.view, content, place_of(manifest, member.name)))
    except Unsealable as error:
        raise SnapshotRefused(f"snapshot {manifest.folder}: {member.name}: {error}") from error


def _take(state: State, manifest: Manifest, member: Member, content: bytes) -> None:
    try:
        if member.name == "events.jsonl":
            for line in content.splitlines():
                event = orjson.loads(line)
                state.events[event["id"]] = event
        elif member.name.endswith(".jsonl"):
            rows = state.rows.setdefault(member.name.removesuffix(".jsonl"), {})
            for line in content.splitlines():
                row = orjson.loads(line)
                rows[row["id"]] = row
        elif manifest is state.manifest:
            state.documents[member.name.removesuffix(".json")] = orjson.loads(content)
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotRefused(f"snapshot {manifest.folder}: {member.name} cannot be read: {error}") from error
