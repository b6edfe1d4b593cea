"""Serving the application on a port."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import structlog
import uvicorn
from starlette.applications import Starlette

from persistence.errors import ConfigurationError
from persistence.service.protocol import LimitedProtocol, SocketProtocol

Socket: TypeAlias = socket.socket

_log = structlog.get_logger(__name__)

_GRACE = 10
_CONNECTIONS = 12_000
LARGEST_FRAME = 64 * 1024


LONGEST_PATH = 107
"""Bytes of the path of a socket on this machine (sun_path)."""

_UNANSWERED_SECONDS = 60


@dataclass(frozen=True)
class Listening:
    """A port that is ours. url: where to find it; unix: a socket on this machine besides, for the same."""

    socket: Socket
    url: str
    unix: Socket | None = None


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the caller's own."""
        yield


@contextlib.contextmanager
def listen(host: str, port: int, unix: Path | None = None) -> Iterator[Listening]:
    """Takes a port; 0: any that is free. unix: the path of a socket besides, for who may enter its folder. Raises ConfigurationError when it
    cannot be had.
    """
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
        if hasattr(
            socket, "TCP_USER_TIMEOUT"
        ):  # of those that are accepted, too: who is gone without a word is known to be after a minute
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_SECONDS * 1000)
        name = f"[{host}]" if family is socket.AF_INET6 else host
        with contextlib.ExitStack() as stack:
            beside = None if unix is None else stack.enter_context(_listen_beside(unix))
            yield Listening(taken, f"http://{name}:{taken.getsockname()[1]}", beside)
    finally:
        taken.close()


@contextlib.contextmanager
def _listen_beside(path: Path) -> Iterator[socket.socket | None]:
    """A socket at a path, which only its owner may use; None where another service has it, or the path is too long for one."""
    if len(os.fsencode(path)) > LONGEST_PATH:
        _log.warning("no_socket_beside", path=str(path), reason=f"the path has more than {LONGEST_PATH} bytes")
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as trying:
        trying.connect(str(path))
        _log.warning("no_socket_beside", path=str(path), reason="another service listens there")
        yield None
        return
    with socket.socket(socket.AF_UNIX) as taken:
        path.unlink(missing_ok=True)
        previous = os.umask(0o177)
        try:
            taken.bind(str(path))
        finally:
            os.umask(previous)
        taken.listen(1024)
        try:
            yield taken
        finally:
            path.unlink(missing_ok=True)


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
            ws=SocketProtocol,
            ws_max_size=largest_frame,
            ws_per_message_deflate=False,
            limit_concurrency=_CONNECTIONS,
        )
    )
    running = asyncio.create_task(server.serve(sockets=[one for one in (listening.socket, listening.unix) if one is not None]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        app.state.stopping.set()
        server.should_exit = True
        await running
