"""Serving the application on a port."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette

from persistence.errors import ConfigurationError
from persistence.service.protocol import LimitedProtocol

_GRACE = 10
_CONNECTIONS = 4000
LARGEST_FRAME = 64 * 1024


@dataclass(frozen=True)
class Listening:
    """A port that is ours. url: where to find it."""

    socket: socket.socket
    url: str


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the caller's own."""
        yield


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[Listening]:
    """Takes a port; 0: any that is free. Raises ConfigurationError when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((host, port))
            taken.listen(1024)
        except OSError as error:
            raise ConfigurationError(
                f"cannot serve on {host}:{port}: {error.strerror or error}", hint="choose another --port"
            ) from error
        name = f"[{host}]" if family is socket.AF_INET6 else host
        yield Listening(taken, f"http://{name}:{taken.getsockname()[1]}")
    finally:
        taken.close()


async def serve(app: Starlette, listening: Listening, stop: asyncio.Event, *, largest_frame: int = LARGEST_FRAME) -> None:
    """Serves until ``stop`` is set, then ends streams and lets requests finish. largest_frame: bytes of a message that a WebSocket takes."""
    server = _Server(
        uvicorn.Config(
            app,
            http=LimitedProtocol,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_GRACE,
            server_header=False,
            lifespan="on",
            ws="wsproto",
            ws_max_size=largest_frame,
            ws_per_message_deflate=False,
            limit_concurrency=_CONNECTIONS,
        )
    )
    running = asyncio.create_task(server.serve(sockets=[listening.socket]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        app.state.stopping.set()
        server.should_exit = True
        await running
