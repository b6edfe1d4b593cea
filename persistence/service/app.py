"""The application: its parts put together."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from importlib.metadata import version

import structlog
from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from persistence.ingest import Ingest
from persistence.plane import Plane
from persistence.service import (
    data,
    dead_letters,
    effects,
    events,
    health,
    memories,
    problems,
    runs,
    secrets,
    signals,
    snapshots,
    state,
    streams,
    tokens,
)
from persistence.service.access import FailureLimit, RateLimit
from persistence.service.bodies import BodyLimit
from persistence.service.collector import Collector
from persistence.service.console import console
from persistence.service.console.sessions import Sessions
from persistence.service.examples import illustrated
from persistence.service.sockets import Holders, Openings, Sockets
from persistence.service.token_cache import TokenCache
from persistence.settings import MEBIBYTE
from persistence.stores.memory import Backends
from persistence.streams import Hub

_DESCRIPTION = """
Signals, data files, runs, steps, tool calls, effects and their event log, for one tenant at a time.

Every request but those of `/healthz` and `/readyz` carries a bearer token, which names tenant, role and actor. What another tenant has
does not exist here: its ids are 404. Lists are paged by `cursor`, the `next` of the page before. Errors are problem details (RFC 9457).
"""

_log = structlog.get_logger(__name__)

DEFAULT_MAX_SIZE = MEBIBYTE
_DATA = "/v1/data/"
_FILE = re.compile("/data/[^/]+/[^/]+")


def create_app(
    plane: Plane,
    ingest: Ingest,
    *,
    max_body: int = DEFAULT_MAX_SIZE,
    requests_per_second: int = 100,
    failures_per_minute: int = 60,
) -> FastAPI:
    """The service of an open plane, and of data files.

    max_body: bytes of a request's body; of posted data ``ingest`` knows. requests_per_second: of one token; failures_per_minute:
    failed authentications from one address; both in this process.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with app.state.token_cache, app.state.backends, app.state.hub, app.state.sockets:
            attending = asyncio.create_task(ingest.attend())
            attending.add_done_callback(_say_if_broken)
            yield
            attending.cancel()
            await asyncio.gather(attending, return_exceptions=True)

    app = FastAPI(
        title="persistence",
        version=version("persistence-plane"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        redirect_slashes=False,  # it would trust the Host header
    )
    app.state.plane = plane
    app.state.ingest = ingest
    app.state.backends = Backends(plane)
    app.state.hub = Hub(plane)
    app.state.openings = Openings(plane)
    app.state.holders = Holders()
    app.state.sockets = Sockets(app.state)
    app.state.token_cache = TokenCache(plane)
    app.state.sessions = Sessions()
    app.state.failure_limit = FailureLimit(failures_per_minute)
    app.state.rate_limit = RateLimit(requests_per_second)
    app.state.subscription_limit = RateLimit(requests_per_second)
    app.state.collector = Collector(plane)
    app.state.stopping = asyncio.Event()
    app.state.streams = Counter()
    problems.install(app)
    for part in (health, signals, data, runs, effects, dead_letters, events, state, tokens, secrets, snapshots, memories, streams):
        app.include_router(part.router)
    plainly = app.openapi
    app.openapi = lambda: illustrated(plainly())  # type: ignore[method-assign]
    app.add_route("/console", _to_console, include_in_schema=False)
    app.mount("/console", console(app.state))
    app.add_middleware(_Compressed, minimum_size=1024)
    app.add_middleware(BodyLimit, limit_of=lambda path: ingest.max_bytes if path.startswith(_DATA) else max_body)
    app.add_middleware(_Streams)
    return app


async def _to_console(_: Request) -> Response:
    return RedirectResponse("/console/", 308)


def _say_if_broken(attending: asyncio.Task[None]) -> None:
    if not attending.cancelled() and attending.exception() is not None:
        _log.error("data_not_recorded_any_more", error=repr(attending.exception()))


class _Streams:
    """Gives the sockets of /v1/streams to those who serve them, past all that is for requests: each layer between costs memory for every socket."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "websocket" and scope["path"] == "/v1/streams":
            return streams.streams(WebSocket(scope, receive, send))
        return self._app(scope, receive, send)


class _Compressed(GZipMiddleware):
    """What is asked for, but data files: compressing them would keep everybody else waiting."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and not _FILE.search(scope["path"]):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)
