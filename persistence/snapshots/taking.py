"""Taking snapshots."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from random import randrange
from typing import Any
from uuid import UUID

from persistence.canon import CANON
from persistence.errors import Conflict, InvalidInput, NotFound
from persistence.models import Position, Snapshot, new_id
from persistence.plane import Plane
from persistence.repositories.snapshots import SnapshotCause
from persistence.snapshots.collecting import Collected, collect
from persistence.snapshots.loading import SnapshotKeys, State, load, place_of
from persistence.snapshots.manifest import FORMAT, Kind, Manifest, Member, Sealing, SnapshotRefused
from persistence.snapshots.places import Held, taking
from persistence.snapshots.store import MOST_LINKS, SnapshotStore
from persistence.transaction import Transaction
from persistence.vault.aead import seal
from persistence.vault.key_memory import Key

_NEEDED = frozenset({"correlations.jsonl", "memory_window.json"})
_UNPLACED = "2000-01-01T000000Z"
_TRIES = 10


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
        if self.subject is None:
            return
        if not 1 <= len(self.subject) <= 200 or not self.subject.isprintable():
            raise InvalidInput("subject: must have 1 to 200 printable characters", field="subject")
        if self.kind == "conversation":
            try:
                object.__setattr__(self, "subject", str(UUID(self.subject)))
            except ValueError:
                raise InvalidInput(
                    "subject: a conversation is named by its correlation id",
                    hint="as persistence runs show has it",
                    field="subject",
                ) from None

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.subject) if part)


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
    is_reading: bool = False,
) -> Snapshot:
    """A copy of a subject's state at one position of the log, recorded once it is on disk, whole.

    full: not going on from the last one. encrypt: members are sealed by the vault. is_reading: it is part of a reading (``places``).
    Raises NotFound for an agent or a conversation of which there is nothing; StorageFull or Unavailable where it cannot be written; VaultLocked;
    Conflict where the same is being taken at this moment.
    """
    circumstances: dict[str, Any] = {"actor": actor, "user_id": user_id, "source": source}
    async with (
        taking(plane, tenant_id, str(subject), is_reading=is_reading) as held,
        SnapshotKeys(plane, tenant_id, circumstances) as keys,
    ):
        sealing, key = await keys.new() if encrypt else (None, None)
        store = SnapshotStore.of(plane.settings, tenant_id)
        before = None if full else await _before(plane, store, tenant_id, subject, circumstances, sealing)
        async with plane.snapshot(tenant_id, **circumstances) as tx:
            found = await _collected(tx, subject, before)
            if before is not None and Position.parse(before.manifest.position).epoch != found.position.epoch:
                before = None
                found = await _collected(tx, subject, None)
        if found.events == 0 and before is None and subject.kind != "tenant":
            raise NotFound(
                f"there is nothing of {subject} in this tenant", hint="persistence runs list shows who did what", field="of"
            )
        manifest = _manifest(tenant_id, subject, found, before, sealing)
        whole, stored = await asyncio.to_thread(_members, manifest, found, before, key)
        return await _recorded(plane, store, whole, stored, cause, circumstances, held)


async def _collected(tx: Transaction, subject: Subject, before: State | None) -> Collected:
    if before is None:
        return await collect(tx, subject.kind, subject.subject, None, [], [])
    known = [UUID(item) for item in before.rows.get("correlations", {})]
    since = Position.parse(before.manifest.position)
    return await collect(tx, subject.kind, subject.subject, since, known, before.documents.get("memory_window", []))


def _manifest(tenant_id: UUID, subject: Subject, found: Collected, before: State | None, sealing: Sealing | None) -> Manifest:
    return Manifest(
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
        parent=None if before is None else before.manifest.folder,
        parent_digest=None if before is None else before.manifest.digest,
        sealing=sealing,
        members=(),
    )


async def _recorded(
    plane: Plane,
    store: SnapshotStore,
    manifest: Manifest,
    members: dict[str, bytes],
    cause: SnapshotCause,
    circumstances: Mapping[str, Any],
    held: Held,
) -> Snapshot:
    """Writes it beside its place, records it, and puts it there: so what has its place is recorded, and what is recorded is whole."""
    for attempt in range(_TRIES):
        async with plane.transaction(manifest.tenant_id, **circumstances) as tx:
            names = {item.folder for item in await tx.snapshots.all()}
        placed = await asyncio.to_thread(store.write, manifest, members, names, randrange(2 * attempt + 1))
        try:
            await held.check()
            async with plane.transaction(manifest.tenant_id, **circumstances) as tx:
                taken = _noted(tx, placed, store.size(placed.snapshot_id), cause)
        except Conflict:  # another one of this very second
            if attempt == _TRIES - 1:
                store.forget(placed.snapshot_id)
                raise
            continue
        store.finish(placed.snapshot_id, placed.folder)
        return taken
    raise AssertionError  # the last attempt raised


async def adopt(
    plane: Plane, tenant_id: UUID, folder: str, *, actor: str, user_id: UUID | None = None, source: str = "service"
) -> Snapshot:
    """Records a snapshot that lies in its place and that this database does not know: it was restored from a backup that is older.

    It counts as taken, and not as good. Raises SnapshotRefused; Conflict for one that is recorded.
    """
    circumstances: dict[str, Any] = {"actor": actor, "user_id": user_id, "source": source}
    store = SnapshotStore.of(plane.settings, tenant_id)
    manifest = await asyncio.to_thread(store.unrecorded, folder)
    async with (
        taking(plane, tenant_id, str(Subject(manifest.kind, manifest.subject))),
        plane.transaction(tenant_id, **circumstances) as tx,
    ):
        if any(folder == item.folder for item in await tx.snapshots.all()):
            raise Conflict(f"snapshot {folder} is recorded already", hint="persistence snapshot list")
        return _noted(tx, manifest, sum(path.stat().st_size for path in store.place(folder).iterdir()), "manual")


def _noted(tx: Transaction, manifest: Manifest, size: int, cause: SnapshotCause) -> Snapshot:
    return tx.snapshots.take(
        manifest.folder,
        snapshot_kind=manifest.kind,
        subject=manifest.subject,
        position=Position.parse(manifest.position),
        digest=manifest.digest,
        size_bytes=size,
        cause=cause,
        snapshot_id=manifest.snapshot_id,
    )


async def snapshots_of(
    plane: Plane, tenant_id: UUID, subject: Subject | None, *, actor: str, user_id: UUID | None = None
) -> list[Snapshot]:
    """Those that are there, of one subject or of all, the newest first."""
    async with plane.transaction(tenant_id, actor=actor, user_id=user_id) as tx:
        found = await (tx.snapshots.all() if subject is None else tx.snapshots.all(snapshot_kind=subject.kind))
    there = [item for item in found if item.status != "DELETED" and (subject is None or item.subject == subject.subject)]
    return sorted(there, key=lambda item: (item.created_at, item.id), reverse=True)  # ids are the client's


async def _before(
    plane: Plane, store: SnapshotStore, tenant_id: UUID, subject: Subject, circumstances: dict[str, Any], sealing: Sealing | None
) -> State | None:
    """What is needed of the newest one, where that can be gone on from: good as far as is known, sealed by the same key or not sealed, each that it
    goes on from there with its archive, and not too many of them.
    """
    there = await snapshots_of(plane, tenant_id, subject, actor=circumstances["actor"], user_id=circumstances["user_id"])
    if not there or there[0].status == "REFUSED":
        return None
    try:
        chain = await asyncio.to_thread(store.check_chain, there[0])
        if len(chain) >= MOST_LINKS or chain[-1].sealing != sealing:
            return None
        return await load(plane, there[0], circumstances, only=_NEEDED)
    except SnapshotRefused:
        return None


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
