"""/v1/streams: what happens in a tenant as it happens, over a WebSocket; ``persistence.streams.messages`` has what is said there."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path as File
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Path, Response, WebSocket
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from persistence.errors import NotFound
from persistence.models import Channel, ConsumerLag, Json
from persistence.service.access import Caller, Operating, Reading, identify, require
from persistence.service.parameters import StrictRoute
from persistence.service.problems import Refused, responses
from persistence.service.sockets import Sockets
from persistence.streams.asyncapi import document

router = APIRouter(prefix="/v1/streams", tags=["streams"], route_class=StrictRoute)

_BEARER: Final = "bearer."
_CLIENT: Final = File(__file__).parent / "console" / "static" / "streams.js"

Name = Annotated[str, Path(max_length=200, pattern="^[A-Za-z0-9][A-Za-z0-9._@-]*$", description="Name of a consumer.")]


class MessagesIn(BaseModel):
    """What is to be told in a channel that is not of the log. contents: in their order, at most 16 KiB each."""

    model_config = ConfigDict(extra="forbid")

    channel: str = Field(min_length=1, max_length=300, examples=["tokens:01890a5d-ac96-774b-bcce-b302099a8057"])
    contents: list[Json] = Field(min_length=1, max_length=1_000, examples=[["The", " customer"]])


class MessagesOut(BaseModel):
    """position: behind the last that was told."""

    position: str = Field(examples=["0197ac0bf5c57e1a8a5b3d1e2f3a4b5c-42"])


class ConsumerOut(BaseModel):
    """position: behind what it has dealt with. behind: events of its channel that it has not, among the next 10,000 of the log; since: when the
    first of them was recorded. actor: who added it.
    """

    name: str
    channel: str
    position: str
    behind: int
    since: datetime | None
    actor: str
    created_at: datetime
    updated_at: datetime


class Consumers(BaseModel):
    """Who follows the log and says how far he is, by name."""

    items: Sequence[ConsumerOut]


async def streams(socket: WebSocket) -> None:
    """/v1/streams: lets in who has a token, and serves until one of them goes."""
    sockets: Sockets = socket.app.state.sockets
    await sockets.serve(socket, lambda: _by_token(socket))


@router.get("/asyncapi.json", include_in_schema=False)
async def asyncapi() -> dict[str, Any]:
    """What is said over the socket, as AsyncAPI has it."""
    return document()


@router.get("/client.js", include_in_schema=False)
async def client() -> Response:
    """The client for browsers: one file, nothing to build."""
    return FileResponse(_CLIENT, media_type="text/javascript")


@router.post("/messages", status_code=201, summary="Tell those who follow a channel", responses=responses())
async def publish(caller: Operating, said: MessagesIn) -> MessagesOut:
    """Tells something that is not kept: who follows the channel has it at once, and who comes within ten minutes with an earlier position."""
    channel = Channel.parse(said.channel)
    require(caller, channel.publishing_role)
    bearer = caller.bearer
    position = await caller.plane.publish(bearer.tenant_id, channel, *said.contents, actor=bearer.acts_as, user_id=bearer.user_id)
    return MessagesOut(position=str(position))


@router.get("/consumers", summary="List consumers and how far they are behind", responses=responses())
async def consumers(caller: Reading) -> Consumers:
    """Each with the position behind what it has dealt with, and the number of events that it has not."""
    async with caller.reading() as tx:
        return Consumers(items=[_shown(lag) for lag in await tx.consumers.list()])


@router.delete("/consumers/{name}", status_code=204, summary="Forget a consumer", responses=responses(404))
async def remove(caller: Operating, name: Name) -> None:
    """It is forgotten how far it was. Who follows under its name again begins anew."""
    async with caller.transaction() as tx:
        if not await tx.consumers.remove(name):
            raise NotFound(f"there is no consumer {name}", hint="GET /v1/streams/consumers lists them")


def _shown(lag: ConsumerLag) -> ConsumerOut:
    one = lag.consumer
    return ConsumerOut(
        name=one.name,
        channel=one.channel,
        position=str(one.position),
        behind=lag.behind,
        since=lag.since,
        actor=one.actor,
        created_at=one.created_at,
        updated_at=one.updated_at,
    )


async def _by_token(socket: WebSocket) -> Caller:
    """Raises NotAuthenticated, Refused, and what the database raises."""
    given = socket.headers.get("authorization", "")
    token = given[len("bearer ") :].strip() if given.lower().startswith("bearer ") else None
    if token is None:
        offered = socket.scope["subprotocols"]
        token = next((one.removeprefix(_BEARER) for one in offered if one.startswith(_BEARER)), None)
        check_origin(socket)
    return await identify(socket, token)


def check_origin(socket: WebSocket, *, is_needed: bool = False) -> None:
    """Raises Refused (403) for a page of another site. is_needed: where a browser sends by itself what lets it in, it has to say where it is."""
    origin = socket.headers.get("origin")
    if (origin is None and is_needed) or (origin is not None and urlsplit(origin).netloc != socket.headers.get("host")):
        raise Refused(403, "this page is of another site", "serve it from the same host, or send the token as a header")
