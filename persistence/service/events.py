"""/v1/events: the log, in pages or as a stream that misses nothing."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from persistence.errors import InvalidInput, NotAuthenticated, PersistenceError, TenantDenied
from persistence.models import Channel, Event, Position
from persistence.service.access import Caller, Reading, require, streaming
from persistence.service.parameters import Limit, StrictRoute
from persistence.service.problems import responses
from persistence.streams import Hub
from persistence.streams.feeds import Place, place_of

router = APIRouter(prefix="/v1/events", tags=["events"], route_class=StrictRoute)

_HEARTBEAT_SECONDS = 15.0
_LOOK_SECONDS = 0.5
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
Followed = Annotated[
    str, Query(description="What to follow: a channel of /v1/streams.", examples=["type:RUN_FAILED"], max_length=300)
]
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
    caller: Reading,
    request: Request,
    after: After = None,
    types: Types = None,
    channel: Followed = "events",
    last_event_id: LastEventId = None,
) -> StreamingResponse:
    """A channel as server-sent events: ``id`` is the position, ``event`` the type, ``data`` the event. Without a position: what comes from now on.

    What is told besides: ``lagging``, ``caught_up``, ``epoch``, ``missed``; see /v1/streams, which has the same over a WebSocket.
    """
    found = Channel.parse(channel)
    require(caller, found.role)
    given = last_event_id or after
    place = None if given is None else place_of(given)
    await request.app.state.openings.record(caller, channel)
    frames = _frames(caller, request, found, place, frozenset(types or ()))
    first = await anext(frames, "")  # a position that is none is refused before the answer begins
    return StreamingResponse(
        _chained(first, frames),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _chained(first: str, frames: AsyncGenerator[str]) -> AsyncIterator[str]:
    async with aclosing(frames):
        yield first
        async for frame in frames:
            yield frame


async def _frames(
    caller: Caller, request: Request, channel: Channel, place: Place | None, types: frozenset[str]
) -> AsyncGenerator[str]:
    """Frames until the reader goes, the token ends, or the service stops; a comment now and then says that the connection lives."""
    with streaming(request, caller) as refusal:
        if refusal:
            yield f"retry: {_LATER_MILLISECONDS}\n: {refusal}\n\n"
            return
        async for frame in _read(caller, request, channel, place, types):
            yield frame


async def _read(
    caller: Caller, request: Request, channel: Channel, place: Place | None, types: frozenset[str]
) -> AsyncIterator[str]:
    loop, state = asyncio.get_running_loop(), request.app.state
    spoken = checked = loop.time()
    hub: Hub = state.hub
    try:
        async with hub.following(caller.bearer.tenant_id, channel, place, user_id=caller.bearer.user_id) as follower:
            yield f"retry: 1000\nid: {follower.position}\n\n"
            async for told in follower.told(_LOOK_SECONDS):
                if told.what == "beat":
                    if loop.time() - spoken > _HEARTBEAT_SECONDS:
                        yield f": {told.position}\n\n"
                        spoken = loop.time()
                else:
                    name = told.event.event_type if told.event else told.what
                    if not types or name in types:
                        yield f"id: {told.position}\nevent: {name}\ndata: {told.text or '{}'}\n\n"
                        spoken = loop.time()
                if state.stopping.is_set() or state.token_cache.is_revoked(caller.bearer.token_id):
                    return
                if loop.time() - checked > _CHECK_SECONDS:
                    await caller.recheck()
                    checked = loop.time()
    except (NotAuthenticated, TenantDenied):
        return
    except InvalidInput:
        raise
    except PersistenceError as error:
        yield f": {error.message}\n\n"  # the reader comes back with the last position


def _position(text: str | None) -> Position:
    if text is None:
        return Position()
    try:
        return Position.parse(text)
    except ValueError:
        raise InvalidInput(
            f"after: {text!r} is no position", hint="such as 0-1234-5678, as `next` and the ids of the stream are", field="after"
        ) from None
