"""Taking snapshots."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from typing import Any
from uuid import UUID

from persistence.canon import CANON
from persistence.errors import Conflict, InvalidInput
from persistence.models import Position, Snapshot, new_id
from persistence.plane import Plane
from persistence.repositories.snapshots import SnapshotCause
from persistence.snapshots.collecting import Collected, collect
from persistence.snapshots.loading import State, data_key, load, place_of
from persistence.snapshots.manifest import FORMAT, Kind, Manifest, Member, Sealing, SnapshotRefused
from persistence.snapshots.store import MOST_LINKS, SnapshotStore
from persistence.vault.aead import seal
from persistence.vault.key_memory import Key

_NEEDED = frozenset({"correlations.jsonl", "memory_window.json"})
_UNPLACED = "2000-01-01T000000Z"

# One of a kind and subject is taken at a time.
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended($1, 7004))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended($1, 7004))"


@dataclass(frozen=True)
class Subject:
    """What a snapshot is of: a ``tenant``; an ``agent`` (subject: its actor); a ``conversation`` (subject: its correlation id)."""

    kind: Kind
    subject: str | None = None

    def __post_init__(self) -> None:
        if (self.kind == "tenant") != (self.subject is None):
            raise InvalidInput(
                f"subject: {'is not said of a tenant' if self.kind == 'tenant' else f'which {self.kind} is missing'}",
                hint="an agent's actor, or a conversation's correlation id",
                field="subject",
            )
        if self.subject is not None and not 1 <= len(self.subject) <= 200:
            raise InvalidInput("subject: must have 1 to 200 characters", field="subject")


async def take(
    plane: Plane,
    tenant_id: UUID,
    subject: Subject,
    *,
    actor: str,
    user_id: UUID | None = None,
    source: str = "service",
    full: bool = False,
    encrypt: bool = False,
    cause: SnapshotCause = "manual",
) -> Snapshot:
    """A copy of a subject's state at one position of the log, recorded once it is on disk, whole.

    full: not going on from the last one. encrypt: members are sealed by the vault. Raises StorageFull or Unavailable where it cannot be written;
    VaultLocked; Conflict where the same is being taken at this moment.
    """
    name = f"{tenant_id} {subject.kind} {subject.subject}"
    async with plane.pool.acquire() as connection:
        if not await connection.fetchval(_LOCK, name):
            raise Conflict(
                f"a snapshot of {subject.kind} {subject.subject or ''} is being taken already".replace("  ", " "),
                hint="wait for it",
            )
        try:
            return await _take(plane, tenant_id, subject, actor, user_id, source, cause, full=full, encrypt=encrypt)
        finally:
            await connection.execute(_UNLOCK, name)


async def _take(
    plane: Plane,
    tenant_id: UUID,
    subject: Subject,
    actor: str,
    user_id: UUID | None,
    source: str,
    cause: SnapshotCause,
    *,
    full: bool,
    encrypt: bool,
) -> Snapshot:
    circumstances: dict[str, Any] = {"actor": actor, "user_id": user_id, "source": source}
    store = SnapshotStore.of(plane.settings, tenant_id)
    parent = None if full else await _parent(plane, store, tenant_id, subject, circumstances, encrypt=encrypt)
    state = None
    since = None
    known: list[UUID] = []
    reminded: list[dict[str, Any]] = []
    if parent is not None:
        state = await load(store, parent, plane.vault, only=_NEEDED)
        since = Position.parse(parent.position)
        reminded = state.documents.get("memory_window", [])
        known = [UUID(item) for item in state.rows.get("correlations", {})]
    async with plane.snapshot(tenant_id, **circumstances) as tx:
        found = await collect(tx, subject.kind, subject.subject, since, known, reminded)
    if since is not None and since.epoch != found.position.epoch:
        return await _take(plane, tenant_id, subject, actor, user_id, source, cause, full=True, encrypt=encrypt)
    manifest = Manifest(
        format=FORMAT,
        version=1,
        folder=_UNPLACED,
        snapshot_id=new_id(),
        tenant_id=tenant_id,
        kind=subject.kind,
        subject=subject.subject,
        position=str(found.position),
        taken_at=datetime.now(UTC).isoformat(),
        package=version("persistence-plane"),
        canon=CANON.version,
        parent=None if state is None else state.manifest.folder,
        parent_digest=None if state is None else state.manifest.digest,
        sealing=await _sealing(plane, tenant_id) if encrypt else None,
        members=(),
    )
    key = await data_key(manifest, plane.vault)
    try:
        whole, stored = await asyncio.to_thread(_members, manifest, found, state, key)
    finally:
        if key is not None:
            key.wipe()
    placed = await asyncio.to_thread(store.write, whole, stored)
    async with plane.transaction(tenant_id, **circumstances) as tx:  # what is not recorded is swept later
        return tx.snapshots.take(
            placed.folder,
            snapshot_kind=subject.kind,
            subject=subject.subject,
            position=found.position,
            digest=placed.digest,
            size_bytes=store.size(placed.folder),
            cause=cause,
            snapshot_id=placed.snapshot_id,
        )


async def snapshots_of(
    plane: Plane, tenant_id: UUID, subject: Subject | None, *, actor: str, user_id: UUID | None = None
) -> list[Snapshot]:
    """Those that are there, of one subject or of all, the newest first."""
    async with plane.transaction(tenant_id, actor=actor, user_id=user_id) as tx:
        found = await (tx.snapshots.all() if subject is None else tx.snapshots.all(snapshot_kind=subject.kind))
    there = [item for item in found if item.status != "DELETED" and (subject is None or item.subject == subject.subject)]
    return sorted(there, key=lambda item: item.id, reverse=True)


async def _parent(
    plane: Plane, store: SnapshotStore, tenant_id: UUID, subject: Subject, circumstances: dict[str, Any], *, encrypt: bool
) -> Snapshot | None:
    """The newest that can be gone on from: good as far as is known, sealed or not as this one is to be, its chain whole and not too long."""
    there = await snapshots_of(plane, tenant_id, subject, actor=circumstances["actor"], user_id=circumstances["user_id"])
    for snapshot in there[:1]:
        if snapshot.status == "REFUSED":
            return None
        try:
            chain = store.chain(snapshot)
        except SnapshotRefused:
            return None
        if len(chain) < MOST_LINKS and (chain[-1].sealing is not None) == encrypt:
            return snapshot
    return None


async def _sealing(plane: Plane, tenant_id: UUID) -> Sealing:
    key_id = new_id()

    def made(keys: Any) -> Sealing:
        wrapped, term = keys.new_data_key(tenant_id, key_id, "snapshot")
        return Sealing(vault_id=keys.document.vault_id, vault_term=term, key_id=key_id, key=wrapped)

    return await plane.vault.use(made)


def context_of(rows: dict[str, dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Runs that are not over, each with the last state that was saved of it."""
    saved: dict[str, dict[str, Any]] = {}
    for checkpoint in sorted(rows.get("run_checkpoints", {}).values(), key=lambda row: row["id"]):
        if checkpoint["status"] == "SAVED":
            saved[checkpoint["run_id"]] = checkpoint
    context = []
    for run in sorted(rows.get("runs", {}).values(), key=lambda row: row["id"]):
        if run["status"] not in {"COMPLETED", "CANCELLED"}:
            checkpoint = saved.get(run["id"], {})
            context.append(
                {
                    "run_id": run["id"],
                    "run_type": run["run_type"],
                    "status": run["status"],
                    "wait_reason": run["wait_reason"],
                    "checkpoint_id": checkpoint.get("id"),
                    "state": checkpoint.get("state"),
                }
            )
    return context


def _members(manifest: Manifest, found: Collected, state: State | None, key: Key | None) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest with its members, and the bytes of those that are to be stored."""
    stored: dict[str, bytes] = {}
    members = []
    make: Callable[[str, bytes], bytes] = (
        (lambda _, content: content) if key is None else (lambda name, content: seal(key.view, content, place_of(manifest, name)))
    )
    for name, content in found.members.items():
        before = None if state is None or key is not None else state.manifest.member(name)
        digest = sha256(content).hexdigest()
        if before is not None and before.digest == digest and not name.endswith(".jsonl"):
            members.append(before)
            continue
        written = make(name, content)
        stored[name] = written
        members.append(
            Member(
                name=name,
                size=len(written),
                rows=found.rows[name],
                digest=digest if key is None else sha256(written).hexdigest(),
                held_by=manifest.folder,
            )
        )
    return manifest.model_copy(update={"members": tuple(members)}), stored
