"""Bringing back what a snapshot holds, into the running database: by events, without a restart.

The log is not turned back: what happened since stays on the record. What can be as it was becomes so: saved states of runs that are not over are
saved again, and runs go on or wait as they did. What the state machines do not allow (a run that has ended stays ended) is said, and left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import orjson

from persistence.errors import Conflict
from persistence.models import Checkpoint, Run, Snapshot
from persistence.plane import Plane
from persistence.snapshots.loading import State, load
from persistence.snapshots.store import SnapshotStore
from persistence.snapshots.taking import Subject, context_of, take
from persistence.transaction import Transaction

Action = Literal["save the state again", "resume", "suspend", "retry", "retry and suspend", "cannot"]
_BATCH = 500
_WAYS: dict[tuple[str, str], Action] = {
    ("RUNNING", "WAITING"): "resume",
    ("WAITING", "RUNNING"): "suspend",
    ("RUNNING", "FAILED"): "retry",
    ("WAITING", "FAILED"): "retry and suspend",
}


@dataclass(frozen=True)
class Difference:
    """A run that is not as it was. then, now: its status, or what is said of its state. reason: why it stays, where it does."""

    run_id: UUID
    run_type: str
    what: Literal["status", "state"]
    then: str
    now: str
    action: Action
    reason: str | None = None


@dataclass(frozen=True)
class Restoration:
    """differences: between then and now, as found. snapshot: as it is recorded now. before: what was taken just before, to be able to go back."""

    differences: tuple[Difference, ...]
    snapshot: Snapshot
    before: Snapshot | None = None

    @property
    def done(self) -> int:
        """How many differences were, or can be, brought back."""
        return sum(item.action != "cannot" for item in self.differences)


async def restore(
    plane: Plane,
    snapshot: Snapshot,
    *,
    actor: str,
    user_id: UUID | None = None,
    source: str = "service",
    dry_run: bool = False,
) -> Restoration:
    """Brings back the runs of a snapshot, and their saved states, by events; dry_run: says what differs, and changes nothing.

    A snapshot of the present is taken first. Raises SnapshotRefused; Conflict where the runs move at the same moment: nothing was changed then, or
    the part that ``restore`` called again finds done.
    """
    circumstances: dict[str, Any] = {"actor": actor, "user_id": user_id, "source": source}
    tenant_id = snapshot.tenant_id
    store = SnapshotStore.of(plane.settings, tenant_id)
    state = await load(store, snapshot, plane.vault)
    async with plane.snapshot(tenant_id, **circumstances) as tx:
        differences, _ = await _differences(tx, state)
    if dry_run:
        return Restoration(tuple(differences), snapshot)
    manifest = state.manifest
    before = await take(
        plane,
        tenant_id,
        Subject(manifest.kind, manifest.subject),
        **circumstances,
        encrypt=manifest.sealing is not None,
        cause="restore",
    )
    async with plane.transaction(tenant_id, **circumstances) as tx:
        found, runs = await _differences(tx, state)
        attributes = {"restored_from": {"snapshot": str(snapshot.id), "folder": snapshot.folder, "position": snapshot.position}}
        wanted = {entry["run_id"]: entry for entry in context_of(state.rows)}
        for item in found:
            _apply(tx, runs, item, wanted[str(item.run_id)], attributes, snapshot.folder)
        present = await tx.snapshots.get(snapshot.id)
        if present.version != snapshot.version and present.status == "DELETED":
            raise Conflict(f"snapshot {snapshot.folder} was deleted meanwhile", hint="take another one")
        changes = {
            "before": before.folder,
            "restored": sum(item.action != "cannot" for item in found),
            "left": sum(item.action == "cannot" for item in found),
        }
        if present.status == "REFUSED":
            recorded = present
        else:
            recorded = tx.snapshots.restore(present, f"the running database, position {before.position}", changes)
    return Restoration(tuple(found), recorded, before)


async def _differences(tx: Transaction, state: State) -> tuple[list[Difference], dict[UUID, Run]]:
    """What is not as it was of runs that were not over, and these runs as they are."""
    then = context_of(state.rows)
    runs: dict[UUID, Run] = {}
    saved: dict[UUID, Checkpoint] = {}
    for place in range(0, len(then), _BATCH):
        ids = [UUID(entry["run_id"]) for entry in then[place : place + _BATCH]]
        runs.update((run.id, run) for run in await tx.runs.get_many(ids))
        for checkpoint in await tx.checkpoints.all(run_id=ids, status="SAVED"):
            saved[checkpoint.run_id] = checkpoint
    differences: list[Difference] = []
    for entry in then:
        differences += _of_run(entry, runs.get(UUID(entry["run_id"])), saved.get(UUID(entry["run_id"])))
    return differences, runs


def _of_run(entry: dict[str, Any], run: Run | None, saved: Checkpoint | None) -> Sequence[Difference]:
    run_id, run_type = UUID(entry["run_id"]), entry["run_type"]
    if run is None:
        return [Difference(run_id, run_type, "status", entry["status"], "(not there)", "cannot", "this database does not have it")]
    found = []
    is_over = run.status in {"COMPLETED", "CANCELLED"}
    if run.status != entry["status"]:
        action = _WAYS.get((entry["status"], run.status), "cannot")
        reason = None
        if action == "cannot":
            reason = "it has ended since" if is_over else f"no event leads from {run.status} to {entry['status']}"
        found.append(Difference(run_id, run_type, "status", entry["status"], run.status, action, reason))
    if entry["checkpoint_id"] is not None and not is_over and (saved is None or not _same(saved.state, entry["state"])):
        now = "none" if saved is None else f"checkpoint {saved.id}"
        is_open = run.status != "FAILED" or any(item.action != "cannot" for item in found)
        found.append(
            Difference(
                run_id,
                run_type,
                "state",
                f"checkpoint {entry['checkpoint_id']}",
                now,
                "save the state again" if is_open else "cannot",
                None if is_open else "nothing is saved of a run that failed",
            )
        )
    return found


def _same(left: Any, right: Any) -> bool:
    return orjson.dumps(left, option=orjson.OPT_SORT_KEYS) == orjson.dumps(right, option=orjson.OPT_SORT_KEYS)


def _apply(
    tx: Transaction, runs: dict[UUID, Run], item: Difference, entry: dict[str, Any], attributes: dict[str, Any], folder: str
) -> None:
    run = runs.get(item.run_id)
    if run is None or item.action == "cannot":
        return
    match item.action:
        case "resume":
            run = tx.runs.resume(run, attributes=attributes)
        case "suspend":
            run = tx.runs.suspend(run, entry["wait_reason"], attributes=attributes)
        case "retry":
            run = tx.runs.retry(run, attributes=attributes)
        case "retry and suspend":
            run = tx.runs.suspend(tx.runs.retry(run, attributes=attributes), entry["wait_reason"], attributes=attributes)
        case "save the state again":
            tx.checkpoints.save(run, entry["state"], label=f"restored from {folder}", attributes=attributes)
    runs[item.run_id] = run
