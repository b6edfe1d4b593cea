"""/v1/snapshots: copies of the state on disk."""

from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from persistence.errors import NotFound
from persistence.models import Snapshot
from persistence.service.access import Administering, Caller, Operating, Reading
from persistence.service.parameters import StrictRoute
from persistence.service.problems import responses
from persistence.snapshots import restore, take, verify
from persistence.snapshots.manifest import Kind
from persistence.snapshots.taking import Subject, snapshots_of

router = APIRouter(prefix="/v1/snapshots", tags=["snapshots"], route_class=StrictRoute)

SnapshotId = Annotated[UUID, Path(description="Id of a snapshot.")]


class SnapshotIn(BaseModel):
    """What is taken. of: the agent's actor, or the conversation's correlation id. full: not going on from the last one. encrypt: sealed by the
    vault.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Kind = "tenant"
    of: str | None = Field(None, min_length=1, max_length=200, examples=["agent:planner"])
    full: bool = False
    encrypt: bool = False


class RestoreIn(BaseModel):
    """dry_run: says what differs, and changes nothing."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = True


class DifferenceOut(BaseModel):
    """A run that is not as it was, or a memory, or an effect that was asked for since, and what is done about it; reason: why nothing is."""

    run_id: UUID
    run_type: str
    what: Literal["status", "state", "effect", "memory"]
    then: str
    now: str
    action: str
    reason: str | None


class RestorationOut(BaseModel):
    """before: the snapshot that was taken just before; none in a dry run."""

    differences: list[DifferenceOut]
    before: Snapshot | None
    snapshot: Snapshot


@router.get("", response_model=list[Snapshot], summary="List snapshots", responses=responses())
async def list_(caller: Reading) -> Sequence[Snapshot]:
    """The tenant's snapshots, the newest first."""
    who = caller.circumstances
    return await snapshots_of(caller.plane, caller.bearer.tenant_id, None, actor=who["actor"], user_id=who["user_id"])


@router.post("", status_code=201, response_model=Snapshot, summary="Take a snapshot", responses=responses(400, 404, 409, 413, 507))
async def take_(caller: Operating, body: SnapshotIn) -> Snapshot:
    """A copy of the state at one position of the log, recorded once it is on disk."""
    subject = Subject(body.kind, body.of)
    return await take(caller.plane, caller.bearer.tenant_id, subject, full=body.full, encrypt=body.encrypt, **caller.circumstances)


@router.post("/{snapshot_id}/verify", response_model=Snapshot, summary="Verify a snapshot", responses=responses(404, 409, 413))
async def verify_(caller: Operating, snapshot_id: SnapshotId) -> Snapshot:
    """Reads it whole, folds its events again in a place of their own, and compares. REFUSED, with the reason, where that fails."""
    return await verify(caller.plane, await _found(caller, snapshot_id), **caller.circumstances)


@router.post(
    "/{snapshot_id}/restore", response_model=RestorationOut, summary="Restore a snapshot", responses=responses(400, 404, 409, 413)
)
async def restore_(caller: Administering, snapshot_id: SnapshotId, body: RestoreIn) -> RestorationOut:
    """Brings back what it holds, into the running database, by events; says what differs first."""
    done = await restore(caller.plane, await _found(caller, snapshot_id), dry_run=body.dry_run, **caller.circumstances)
    return RestorationOut(
        differences=[DifferenceOut(**vars(item)) for item in done.differences], before=done.before, snapshot=done.snapshot
    )


async def _found(caller: Caller, snapshot_id: UUID) -> Snapshot:
    async with caller.transaction() as tx:
        found = await tx.snapshots.find(snapshot_id)
    if found is None or found.status == "DELETED":
        raise NotFound(f"there is no snapshot {snapshot_id} in this tenant", hint="GET /v1/snapshots lists them")
    return found
