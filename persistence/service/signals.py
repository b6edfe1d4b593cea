"""/v1/signals: what comes in from outside."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from persistence.models import NewSignal, Page, Signal
from persistence.repositories import Filters
from persistence.repositories.filters import check_status
from persistence.service.access import Operating, Reading
from persistence.service.conditions import IfMatch, check_match, tag
from persistence.service.parameters import Cursor, Limit, Reason, StrictRoute
from persistence.service.problems import Refused, responses

router = APIRouter(prefix="/v1/signals", tags=["signals"], route_class=StrictRoute)

SignalId = Annotated[UUID, Path(description="Id of a signal.")]


class SignalIn(BaseModel):
    """A signal to be received, once for each (source_channel, source_id)."""

    model_config = ConfigDict(extra="forbid")

    source_channel: str = Field(min_length=1, max_length=200, examples=["web"], description="Where it came from.")
    source_id: str | None = Field(
        None, min_length=1, max_length=500, examples=["order-4711"], description="Its name there. None: the Idempotency-Key."
    )
    signal_type: str = Field(min_length=1, max_length=200, examples=["order.placed"])
    payload: Any = Field(None, examples=[{"amount": 20}])
    correlation_id: UUID | None = Field(None, description="Joins it to an existing correlation; none: its own.")
    occurred_at: datetime | None = Field(None, description="When it happened, if not now; with a time zone.")


@router.post(
    "",
    status_code=201,
    response_model=Signal,
    summary="Receive a signal",
    responses={200: {"model": Signal, "description": "It was received before; this is it"}, **responses(400, 413, 428)},
)
async def receive(
    caller: Operating,
    body: SignalIn,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1, max_length=500, pattern=r"^[\x21-\x7e]+$", description="The signal's source_id, where the body has none."
        ),
    ] = None,
) -> Signal:
    """Takes a signal in. The same source again, with the same content, is answered with the signal that is there; with another, by 422."""
    source_id = body.source_id or idempotency_key
    if source_id is None:
        raise Refused(428, "nothing says whether this signal came before", "give it a source_id, or send an Idempotency-Key")
    signal = await caller.receive(NewSignal(**{**body.model_dump(), "source_id": source_id}))
    response.status_code = 201 if signal.is_new else 200
    response.headers["Location"] = f"/v1/signals/{signal.id}"
    tag(response, signal)
    return signal


@router.get("", response_model=Page[Signal], summary="List signals", responses=responses())
async def list_signals(
    caller: Reading,
    limit: Limit = 50,
    cursor: Cursor = None,
    correlation_id: Annotated[UUID | None, Query(description="Only of this correlation.")] = None,
    status: Annotated[str | None, Query(description="Only in this status.", examples=["RECEIVED"])] = None,
    source_channel: Annotated[str | None, Query(max_length=200, description="Only from there.")] = None,
) -> Page[Signal]:
    """Signals, the newest first."""
    check_status(Signal.kind, status)
    given = {"correlation_id": correlation_id, "status": status, "source_channel": source_channel}
    filters: Filters = {name: value for name, value in given.items() if value is not None}  # type: ignore[assignment]
    async with caller.transaction() as tx:
        return await tx.signals.list(limit=limit, after=cursor, newest_first=True, **filters)


@router.get("/{signal_id}", response_model=Signal, summary="Read a signal", responses=responses(404))
async def read(caller: Reading, signal_id: SignalId, response: Response) -> Signal:
    """One signal, with its version as ETag."""
    async with caller.transaction() as tx:
        signal = await tx.signals.get(signal_id)
    tag(response, signal)
    return signal


@router.post("/{signal_id}/retry", response_model=Signal, summary="Retry a signal", responses=responses(404, 409, 412, 413, 428))
async def retry(caller: Operating, signal_id: SignalId, response: Response, if_match: IfMatch = None) -> Signal:
    """Lets a failed signal be taken up again; its service does the work."""
    async with caller.transaction() as tx:
        signal = await tx.signals.get(signal_id)
        check_match(if_match, signal)
        signal = tx.signals.retry(signal)
    tag(response, signal)
    return signal


@router.post(
    "/{signal_id}/reject", response_model=Signal, summary="Reject a signal", responses=responses(400, 404, 409, 412, 413, 428)
)
async def reject(caller: Operating, signal_id: SignalId, body: Reason, response: Response, if_match: IfMatch = None) -> Signal:
    """Refuses a signal for good."""
    async with caller.transaction() as tx:
        signal = await tx.signals.get(signal_id)
        check_match(if_match, signal)
        signal = tx.signals.reject(signal, {"type": "Rejected", "message": body.message})
    tag(response, signal)
    return signal
