"""Bringing back what a snapshot holds, into the running database: by events, without a restart.

The log is not turned back: what happened since stays on the record. Memories that were left aside or superseded since are known again. What can be
as it was becomes so: saved states of runs that are not over are saved again, and runs go on or wait as they did. What the state machines do not
allow (a run that has ended stays ended) is said, and left.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import orjson

from persistence.errors import Conflict, InvalidTransition
from persistence.models import Checkpoint, Run, Snapshot
from persistence.plane import Plane
from persistence.snapshots import remembering
from persistence.snapshots.differences import Action, Difference
from persistence.snapshots.lines import exactly, parsed
from persistence.snapshots.loading import State, load
from persistence.snapshots.manifest import SnapshotRefused
from persistence.snapshots.places import reading
from persistence.snapshots.taking import Subject, take
from persistence.snapshots.verifying import proven
from persistence.transaction import Transaction

_BATCH = 500
_TRIES = 3
_OVER = frozenset({"COMPLETED", "CANCELLED"})
_ENDED = _OVER | {"FAILED"}
_WAYS: dict[tuple[str, str], Action] = {
    ("RUNNING", "WAITING"): "resume",
    ("WAITING", "RUNNING"): "suspend",
    ("RUNNING", "FAILED"): "retry",
    ("WAITING", "FAILED"): "retry and suspend",
}

# Runs that are under way and that a snapshot does not have: of its stories, or of the whole tenant.
_NEW = """
SELECT r.id, r.run_type, r.status
FROM persistence.runs AS r
WHERE r.tenant_id = $1
  AND r.status = ANY ('{PENDING,RUNNING,WAITING}')
  AND r.id <> ALL ($2::uuid[])
  AND ($3::uuid[] IS NULL OR r.correlation_id = ANY ($3::uuid[]))
ORDER BY r.id
LIMIT 10000
"""


# Effects that are to be delivered and that a snapshot does not have, in the same way.
_ASKED = """
SELECT e.id, e.effect_type, e.status
FROM persistence.effects AS e
WHERE e.tenant_id = $1
  AND e.status = 'PENDING'
  AND e.id <> ALL ($2::uuid[])
  AND ($3::uuid[] IS NULL OR e.correlation_id = ANY ($3::uuid[]))
ORDER BY e.id
LIMIT 10000
"""


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


@dataclass(frozen=True)
class Kept:
    """A run that was not over, as a snapshot has it. state: what was saved of it last; unwritable: why that cannot be written again."""

    run_id: UUID
    run_type: str
    status: str
    wait_reason: str | None
    checkpoint_id: UUID | None
    state: Any
    unwritable: str | None


@dataclass
class Present:
    """What there is now: runs, also those that others are parts of; their last saved states; what became of the checkpoints of then."""

    runs: dict[UUID, Run]
    saved: dict[UUID, Checkpoint]
    former: dict[UUID, Checkpoint]


async def restore(
    plane: Plane,
    snapshot: Snapshot,
    *,
    actor: str,
    user_id: UUID | None = None,
    source: str = "service",
    dry_run: bool = False,
) -> Restoration:
    """Brings back the runs of a snapshot, their saved states and what was remembered, by events; dry_run: says what differs, and changes nothing.

    What was not proven yet is proven first (see ``verify``), and a snapshot of the present is taken. Runs are brought back some hundred at a time,
    parts after what they are parts of; one that others work on at the same moment is left, and said. Where this ends early, called again it does the
    rest. Raises SnapshotRefused, VaultLocked, Conflict while snapshots of the tenant are being deleted.
    """
    circumstances: dict[str, Any] = {"actor": actor, "user_id": user_id, "source": source}
    tenant_id = snapshot.tenant_id
    async with reading(plane, tenant_id):
        state = await load(plane, snapshot, circumstances)
        kept = await asyncio.to_thread(kept_runs, state)
        known = await asyncio.to_thread(remembering.kept_memories, state)
        if not dry_run and snapshot.status != "VERIFIED":
            snapshot = await proven(plane, snapshot, circumstances, state)
            if snapshot.status != "VERIFIED":
                raise SnapshotRefused(snapshot.error_details["message"])
        before = None if dry_run else await _taken_before(plane, tenant_id, state, circumstances)
        async with plane.snapshot(tenant_id, **circumstances) as tx:
            present = await _present(tx, kept)
            planned = await asyncio.to_thread(_differences, kept, present)
            begun = await _begun_since(tx, state)
            forgone = await remembering.differences(tx, known) if before is None else []
        if before is None:
            return Restoration((*planned, *forgone, *begun), snapshot)
        attributes = {"restored_from": {"snapshot": str(snapshot.id), "folder": snapshot.folder, "position": snapshot.position}}
        found = await _carried_out(plane, snapshot, kept, present, planned, circumstances, attributes)
        found += await remembering.bring_back(plane, tenant_id, known, circumstances, attributes, snapshot.folder)
        async with plane.transaction(tenant_id, **circumstances) as tx:
            recorded = await tx.snapshots.get(snapshot.id)
            if recorded.status != "VERIFIED":
                raise Conflict(f"snapshot {snapshot.folder} was {recorded.status.lower()} meanwhile", hint="restore another one")
            changes = {
                "before": before.folder,
                "restored": sum(item.action != "cannot" for item in found),
                "left": sum(item.action == "cannot" for item in (*found, *begun)),
            }
            recorded = tx.snapshots.restore(recorded, f"the running database, position {before.position}", changes)
        return Restoration((*found, *begun), recorded, before)


def kept_runs(state: State) -> list[Kept]:
    """Runs that were not over when a snapshot was taken, each with the last state that was saved of it."""
    saved: dict[str, Mapping[str, Any]] = {}
    for _, line in sorted(state.rows.get("run_checkpoints", {}).items()):
        checkpoint = parsed(line)
        if checkpoint["status"] == "SAVED":
            saved[checkpoint["run_id"]] = checkpoint
    found = []
    for run_id, line in sorted(state.rows.get("runs", {}).items()):
        run = parsed(line)
        if run.get("status", "COMPLETED") not in _OVER:
            found.append(_kept(UUID(run_id), run, saved.get(run_id)))
    return found


def _kept(run_id: UUID, run: Mapping[str, Any], saved: Mapping[str, Any] | None) -> Kept:
    checkpoint_id, state, unwritable = None, None, None
    if saved is not None:
        checkpoint_id = UUID(saved["id"])
        try:
            state = exactly(saved["state"])
        except ValueError as error:
            unwritable = str(error)
    return Kept(run_id, run["run_type"], run["status"], run["wait_reason"], checkpoint_id, state, unwritable)


async def _taken_before(plane: Plane, tenant_id: UUID, state: State, circumstances: dict[str, Any]) -> Snapshot:
    manifest = state.manifest
    subject = Subject(manifest.kind, manifest.subject)
    return await take(
        plane, tenant_id, subject, **circumstances, encrypt=manifest.sealing is not None, cause="restore", is_reading=True
    )


async def _present(tx: Transaction, kept: Sequence[Kept]) -> Present:
    present = Present({}, {}, {})
    for part in _parts(kept):
        ids = [item.run_id for item in part]
        present.runs.update((run.id, run) for run in await tx.runs.get_many(ids))
        for checkpoint in await tx.checkpoints.all(run_id=ids, status="SAVED"):
            known = present.saved.get(checkpoint.run_id)
            if known is None or known.id < checkpoint.id:
                present.saved[checkpoint.run_id] = checkpoint
        former = [item.checkpoint_id for item in part if item.checkpoint_id is not None]
        present.former.update((checkpoint.id, checkpoint) for checkpoint in await tx.checkpoints.get_many(former))
    while missing := [
        run.parent_run_id
        for run in present.runs.values()
        if run.parent_run_id is not None and run.parent_run_id not in present.runs
    ]:
        present.runs.update((run.id, run) for run in await tx.runs.get_many(missing[:_BATCH]))
    return present


async def _begun_since(tx: Transaction, state: State) -> list[Difference]:
    """What is under way in the same stories and began later: nothing of it is undone."""
    manifest = state.manifest
    stories = None
    if manifest.kind == "conversation" and manifest.subject is not None:
        stories = [UUID(manifest.subject)]
    elif manifest.kind == "agent":
        stories = [UUID(item) for item in state.rows.get("correlations", {})]
    runs, effects = ([UUID(item) for item in state.rows.get(table, {})] for table in ("runs", "effects"))
    begun = "it began after the snapshot; where it is not wanted: persistence runs cancel"
    asked = "it was asked for after the snapshot; where it is not wanted, cancel it: POST /v1/effects/{id}/cancel"
    return [
        *(
            Difference(row["id"], row["run_type"], "status", "(not there)", row["status"], "cannot", begun)
            for row in await tx.fetch(_NEW, tx.context.tenant_id, runs, stories)
        ),
        *(
            Difference(row["id"], row["effect_type"], "effect", "(not there)", row["status"], "cannot", asked)
            for row in await tx.fetch(_ASKED, tx.context.tenant_id, effects, stories)
        ),
    ]


async def _carried_out(
    plane: Plane,
    snapshot: Snapshot,
    kept: Sequence[Kept],
    present: Present,
    planned: Sequence[Difference],
    circumstances: Mapping[str, Any],
    attributes: dict[str, Any],
) -> list[Difference]:
    """Brings back what is planned, and says what came of it."""
    able = {item.run_id for item in planned if item.action != "cannot"}
    wanted = [item for item in _wholes_first(kept, present) if item.run_id in able]
    found = [item for item in planned if item.run_id not in able]

    async def brought_back(part: Sequence[Kept]) -> None:
        for attempt in range(_TRIES):
            try:
                async with plane.transaction(snapshot.tenant_id, **circumstances) as tx:
                    now = await _present(tx, part)
                    differences = _differences(part, now)
                    by_run: dict[UUID, list[Difference]] = {}
                    for difference in differences:
                        by_run.setdefault(difference.run_id, []).append(difference)
                    for item in part:
                        _apply(tx, now, item, by_run.get(item.run_id, ()), attributes, snapshot.folder)
                found.extend(differences)
                return
            except (Conflict, InvalidTransition) as error:
                if len(part) > 1:
                    break
                if attempt == _TRIES - 1:
                    reason = f"others work on it: {error.message}; restore again"
                    found.extend(replace(item, action="cannot", reason=reason) for item in planned if item.run_id == part[0].run_id)
                    return
        for item in part:  # one of them moves; the others need not wait for it
            await brought_back([item])

    for part in _parts(wanted):
        await brought_back(part)
    return found


def _parts(items: Sequence[Kept]) -> Iterator[Sequence[Kept]]:
    for place in range(0, len(items), _BATCH):
        yield items[place : place + _BATCH]


def _wholes_first(kept: Sequence[Kept], present: Present) -> list[Kept]:
    """Runs after those that they are parts of."""

    def depth(run_id: UUID) -> int:
        deep, run = 0, present.runs.get(run_id)
        while run is not None and run.parent_run_id is not None:
            deep, run = deep + 1, present.runs.get(run.parent_run_id)
        return deep

    return sorted(kept, key=lambda item: depth(item.run_id))


def _differences(kept: Sequence[Kept], present: Present) -> list[Difference]:
    """What is not as it was of runs that were not over, and what would be done."""
    found: list[Difference] = []
    will_be = {run.id: run.status for run in present.runs.values()}
    for item in _wholes_first(kept, present):
        differences = _of_run(item, present, will_be)
        if any(difference.what == "status" and difference.action != "cannot" for difference in differences):
            will_be[item.run_id] = item.status
        found += differences
    return found


def _of_run(kept: Kept, present: Present, will_be: Mapping[UUID, str]) -> list[Difference]:
    run = present.runs.get(kept.run_id)
    if run is None:
        missing = "this database does not have it"
        return [Difference(kept.run_id, kept.run_type, "status", kept.status, "(not there)", "cannot", missing)]
    found = []
    is_part_of_ended = run.parent_run_id is not None and will_be.get(run.parent_run_id) in _ENDED
    if run.status != kept.status:
        action = _WAYS.get((kept.status, run.status), "cannot")
        reason = None
        if action == "cannot":
            reason = "it has ended since" if run.status in _OVER else f"no event leads from {run.status} to {kept.status}"
        elif is_part_of_ended:
            action, reason = "cannot", "the run that it is part of has ended"
        found.append(Difference(run.id, kept.run_type, "status", kept.status, run.status, action, reason))
    elif run.status == "WAITING" and run.wait_reason != kept.wait_reason:
        then, now = (f"WAITING: {said}" for said in (kept.wait_reason, run.wait_reason))
        found.append(Difference(run.id, kept.run_type, "status", then, now, "wait as before"))
    is_open = run.status not in _ENDED or any(item.action != "cannot" for item in found)
    state = _of_state(kept, run, present, is_open=is_open)
    return [*found, state] if state is not None else found


def _of_state(kept: Kept, run: Run, present: Present, *, is_open: bool) -> Difference | None:
    saved = present.saved.get(run.id)
    now = "none" if saved is None else f"checkpoint {saved.id}"
    if run.status in _OVER:
        return None
    if kept.checkpoint_id is None:
        if saved is None:
            return None
        unsaved = "nothing was saved of it then; discard it where it is not wanted"
        return Difference(run.id, kept.run_type, "state", "none", now, "cannot", unsaved)
    if saved is not None and (saved.id == kept.checkpoint_id or (kept.unwritable is None and _same(saved.state, kept.state))):
        return None
    former = present.former.get(kept.checkpoint_id)
    reason: str | None = None
    if kept.unwritable is not None:
        reason = f"its state cannot be written again as it was: {kept.unwritable}"
    elif former is not None and former.status == "DISCARDED":
        reason = "that state was discarded since"
    elif not is_open:
        reason = "nothing is saved of a run that failed"
    action: Action = "save the state again" if reason is None else "cannot"
    return Difference(run.id, kept.run_type, "state", f"checkpoint {kept.checkpoint_id}", now, action, reason)


def _same(left: Any, right: Any) -> bool:
    return orjson.dumps(left, option=orjson.OPT_SORT_KEYS) == orjson.dumps(right, option=orjson.OPT_SORT_KEYS)


def _apply(
    tx: Transaction, present: Present, kept: Kept, differences: Sequence[Difference], attributes: dict[str, Any], folder: str
) -> None:
    run = present.runs.get(kept.run_id)
    if run is None:
        return
    reason = kept.wait_reason or f"as in snapshot {folder}"
    for item in differences:
        match item.action:
            case "resume":
                run = tx.runs.resume(run, attributes=attributes)
            case "suspend":
                run = tx.runs.suspend(run, reason, attributes=attributes)
            case "retry":
                run = tx.runs.retry(run, attributes=attributes)
            case "retry and suspend":
                run = tx.runs.suspend(tx.runs.retry(run, attributes=attributes), reason, attributes=attributes)
            case "wait as before":
                run = tx.runs.suspend(tx.runs.resume(run, attributes=attributes), reason, attributes=attributes)
            case "save the state again":
                tx.checkpoints.save(run, kept.state, label=f"restored from {folder}", attributes=attributes)
            case "cannot":
                continue
