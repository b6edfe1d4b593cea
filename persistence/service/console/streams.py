"""The page of what happens as it happens, and of who follows the log."""

from fastapi import APIRouter, Request, WebSocket
from fastapi.responses import HTMLResponse

from persistence.canon import CANON
from persistence.repositories.streams import COUNTED
from persistence.service.access import COOKIE, Caller, identify
from persistence.service.console.parameters import Text
from persistence.service.console.rendering import render
from persistence.service.console.session import Visiting
from persistence.service.console.sessions import Sessions
from persistence.service.sockets import Sockets
from persistence.service.streams import check_origin

router = APIRouter()

_SHOWN = 30


@router.get("/streams")
async def streams(request: Request, caller: Visiting, channel: Text = "") -> HTMLResponse:
    """What comes, and who follows. The list itself is filled by the browser, over the socket."""
    async with caller.reading() as tx:
        consumers, (newest, end) = await tx.consumers.list(), await tx.events.newest(_SHOWN)
    failures = [f"type:{name}" for name in CANON.event_types if name.endswith("_FAILED")]
    return render(
        request,
        "streams.html",
        channel=channel or "events",
        channels=["events", *failures, f"agent:{caller.bearer.acts_as}"],
        after=newest[0][1] if newest else end,
        consumers=consumers,
        most=COUNTED,
    )


@router.websocket("/streams/socket")
async def socket(socket: WebSocket) -> None:
    """The socket of /v1/streams for who is logged in here. A browser sends the cookie by itself, so it must come from a page of this site."""
    sockets: Sockets = socket.app.state.sockets
    await sockets.serve(socket, lambda: _by_cookie(socket))


async def _by_cookie(socket: WebSocket) -> Caller:
    """Raises NotAuthenticated, Refused, and what the database raises."""
    check_origin(socket, is_needed=True)
    sessions: Sessions = socket.app.state.sessions
    return await identify(socket, sessions.token(socket.cookies.get(COOKIE)))
