"""/v1/events: the log, in pages or as a stream that misses nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from persistence.encoding import encode
from persistence.errors import InvalidInput, NotAuthenticated, PersistenceError, TenantDenied
from persistence.models import Event, Position
from persistence.queries.subscription import follow
from persistence.service.access import Caller, Reading, streaming
from persistence.service.parameters import Limit, StrictRoute
from persistence.service.problems import responses

router = APIRouter(prefix="/v1/events", tags=["events"], route_class=StrictRoute)

_HEARTBEAT_SECONDS = 15.0
_CHECK_SECONDS = 30.0
_LATER_MILLISECONDS = 30_000


class Entry(BaseModel):
    """An event and the position behind it."""

    position: str = Field(examples=["0-1234-5678"])
    event: Event


class EventPage(BaseModel):
    """Events in the order of the log. next: the position behind them, to be passed as ``after``; the same as before while nothing new is there."""

    items: Sequence[Entry]
    next: str = Field(examples=["0-1234-5678"])


After = Annotated[
    str | None, Query(description="Only after this position; none: from the beginning.", examples=["0-0-0"], max_length=100)
]
Types = Annotated[list[str] | None, Query(alias="type", description="Only events of these types.", max_length=50)]
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID", description="The position that was dealt with last: the stream goes on behind it.", max_length=100
    ),
]


@router.get("", response_model=EventPage, summary="Read the log", responses=responses())
async def read(caller: Reading, after: After = None, limit: Limit = 100, types: Types = None) -> EventPage:
    """Events after a position. None is skipped, however late it was committed; who stores ``next`` repeats none either."""
    position = _position(after)
    async with caller.transaction() as tx:
        page = await tx.events.read_each(position, limit)
    wanted = frozenset(types or ())
    items = [Entry(position=str(place), event=event) for event, place in page if not wanted or event.event_type in wanted]
    return EventPage(items=items, next=str(page[-1][1] if page else position))


@router.get(
    "/stream",
    summary="Follow the log",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Server-sent events"},
        **responses(),
    },
)
async def stream(
    caller: Reading, request: Request, after: After = None, types: Types = None, last_event_id: LastEventId = None
) -> StreamingResponse:
    """The log as server-sent events: ``id`` is the position, ``event`` the type, ``data`` the event. Without a position: what comes from now on."""
    given = last_event_id or after
    if given is None:
        async with caller.transaction() as tx:
            _, position = await tx.events.newest(1)
    else:
        position = _position(given)
    return StreamingResponse(
        _frames(caller, request, position, frozenset(types or ())),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _frames(caller: Caller, request: Request, position: Position, types: frozenset[str]) -> AsyncIterator[str]:
    """Frames until the reader goes, the token ends, or the service stops; a comment now and then says that the connection lives."""
    with streaming(request, caller) as refusal:
        if refusal:
            yield f"retry: {_LATER_MILLISECONDS}\n: {refusal}\n\n"
            return
        async for frame in _read(caller, request, position, types):
            yield frame


async def _read(caller: Caller, request: Request, position: Position, types: frozenset[str]) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    spoken = checked = loop.time()
    yield f"retry: 1000\nid: {position}\n\n"
    pages = follow(caller.plane, caller.bearer.tenant_id, position, types=types, **caller.circumstances)
    try:
        async for page, place in pages:
            if page:
                yield "".join(
                    f"id: {behind}\nevent: {event.event_type}\ndata: {encode(event.model_dump(mode='json'))}\n\n"
                    for event, behind in page
                )
                spoken = loop.time()
            elif loop.time() - spoken > _HEARTBEAT_SECONDS:
                yield f": {place}\n\n"
                spoken = loop.time()
            if request.app.state.stopping.is_set() or request.app.state.token_cache.is_revoked(caller.bearer.token_id):
                return
            if loop.time() - checked > _CHECK_SECONDS:
                await caller.recheck()
                checked = loop.time()
    except (NotAuthenticated, TenantDenied):
        return
    except PersistenceError as error:
        yield f": {error.message}\n\n"  # the reader comes back with the last position
    finally:
        await pages.aclose()


def _position(text: str | None) -> Position:
    if text is None:
        return Position()
    try:
        return Position.parse(text)
    except ValueError:
        raise InvalidInput(
            f"after: {text!r} is no position", hint="such as 0-1234-5678, as `next` and the ids of the stream are", field="after"
        ) from None
