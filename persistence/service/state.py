"""/v1/overview, /v1/outbox, /v1/gates: how the tenant and the database are doing."""

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel

from persistence.queries.gates import GatesRun, last_gates
from persistence.queries.outbox_state import (
    Attendance,
    Depth,
    Destination,
    Lease,
    attendance,
    leases,
    outbox_depth,
    troubled_destinations,
)
from persistence.queries.overview import Overview, overview
from persistence.service.access import Reading
from persistence.service.parameters import StrictRoute
from persistence.service.problems import responses

router = APIRouter(prefix="/v1", tags=["state"], route_class=StrictRoute)


class OutboxState(BaseModel):
    """depth: by effect type. leases: what workers hold. attendance: which types have workers. destinations: those that failed of late."""

    depth: Sequence[Depth]
    leases: Sequence[Lease]
    attendance: Sequence[Attendance]
    destinations: Sequence[Destination]


@router.get("/overview", response_model=Overview, summary="Overview", responses=responses())
async def read_overview(caller: Reading) -> Overview:
    """What happened in the last minute, how runs stand, and which types are slow or fail."""
    async with caller.reading() as tx:
        return await overview(tx)


@router.get("/outbox", response_model=OutboxState, summary="State of the outbox", responses=responses())
async def read_outbox(caller: Reading) -> OutboxState:
    """How deep the tenant's outbox is and how far behind, and who works on it."""
    async with caller.reading() as tx:
        return OutboxState(
            depth=await outbox_depth(tx),
            leases=await leases(tx),
            attendance=await attendance(tx),
            destinations=await troubled_destinations(tx),
        )


@router.get("/gates", response_model=GatesRun | None, summary="State of the gates", responses=responses())
async def read_gates(caller: Reading) -> GatesRun | None:
    """What came of the last run of the gates over the whole database; null: they were never run, or nobody recorded it."""
    async with caller.reading() as tx:
        return await last_gates(tx)
