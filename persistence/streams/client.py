"""The client of /v1/streams: follows channels from anywhere, comes back by itself, and goes on behind the last position it was told."""

import asyncio
import json
import logging
import random
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from persistence.encoding import encode
from persistence.errors import InvalidInput, NotAuthenticated, PermissionDenied, PersistenceError, Unavailable
from persistence.models import Channel, Event, Json, LiveMessage, Position
from persistence.streams.messages import PROTOCOL, Metrics

TokenSource: TypeAlias = str | Callable[[], Awaitable[str]]

_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 15.0
_SILENCE: Final = 40.0  # the service says something every fifteen seconds
_QUEUE: Final = 1_000
_LARGEST: Final = 64 * 1024 * 1024
_OVER: Final = 4401
_REFUSED: Final = frozenset({401, 403})

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Heard:
    """Something that was told.

    what: event, message or metrics; or lagging, caught_up, epoch or missed (see docs/streams.md). position: behind it. One of event, message and
    metrics is there. text: as it came.
    """

    what: str
    channel: str
    position: str
    text: str
    event: Event | None = None
    message: LiveMessage | None = None
    metrics: Metrics | None = None


@dataclass(eq=False)
class _Following:
    channel: str
    consumer: str | None
    position: str | None
    told: Position | None = None
    heard: asyncio.Queue[Heard | PersistenceError] = field(default_factory=asyncio.Queue)


class StreamClient:
    """Follows a service's channels over one socket. Use it as ``async with StreamClient("https://…", token) as client``.

    A connection that is lost, or says nothing for forty seconds, is made again, with full jitter. Who does not take what he follows in time holds
    up the other channels of the same client, and then the service reads for it from where it is kept: nothing is lost, and nothing grows.
    """

    def __init__(self, url: str, token: TokenSource, *, unix: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        """url: of the service. token: its text, or what gives one whenever a connection is made. unix: its socket on this machine, instead of the
        host that the url names. tls: for wss and https; none: the machine's.
        """
        parts = urlsplit(url)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        if scheme not in {"ws", "wss"} or not parts.netloc:
            raise InvalidInput(f"url: {url!r} is none of a service", hint="https://host:port", field="url")
        path = parts.path if parts.path.rstrip("/") else "/v1/streams"
        self._url = urlunsplit((scheme, parts.netloc, path, "", ""))
        self._token = token
        self._unix = unix
        self._tls = tls
        self._following: dict[str, _Following] = {}
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._socket: ClientConnection | None = None
        self._is_open = asyncio.Event()
        self._moved = asyncio.Event()
        self._failure: PersistenceError | None = None
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        self._fail(_closed())

    async def follow(self, channel: str, *, after: str | None = None, consumer: str | None = None) -> AsyncGenerator[Heard]:
        """What is told in a channel, for ever, once each. after: only what comes behind this position; none: what comes from now on. consumer: a
        name under which the service keeps how far you are (``ack``); then ``after`` is where a new one begins.

        Raises NotAuthenticated, PermissionDenied and InvalidInput as the service refuses it.
        """
        if self._running is None:
            raise _closed()
        channel = str(Channel.parse(channel))
        if channel in self._following:
            raise InvalidInput(
                f"channel: {channel} is followed already",
                hint="one iterator a channel and client; contextlib.aclosing ends one",
                field="channel",
            )
        one = self._following[channel] = _Following(channel, consumer, after)
        try:
            if self._failure is not None:
                raise self._failure
            if self._is_open.is_set():
                await self._subscribe(one)
            while True:
                heard = await one.heard.get()
                self._moved.set()
                if isinstance(heard, PersistenceError):
                    raise heard
                yield heard
        finally:
            del self._following[channel]
            self._moved.set()
            if self._is_open.is_set():
                await self._send({"do": "unsubscribe", "channel": channel})

    async def publish(self, channel: str, content: Json) -> str:
        """Tells those who follow a channel that is not of the log. Returns the position behind it. Raises as ``follow``, and Unavailable where the
        connection is lost meanwhile: then nobody knows whether it was told.
        """
        return str((await self._ask({"do": "publish", "channel": channel, "content": content}))["position"])

    async def ack(self, consumer: str, position: str) -> None:
        """Says that all up to a position is dealt with. Raises as ``publish``."""
        await self._ask({"do": "ack", "consumer": consumer, "position": position})

    async def renew(self, token: TokenSource) -> None:
        """Goes on with another token of the same tenant."""
        self._token = token
        await self._ask({"do": "renew", "token": await self._token_text()})

    async def _token_text(self) -> str:
        return self._token if isinstance(self._token, str) else await self._token()

    async def _run(self) -> None:
        tries = 0
        while True:
            try:
                async with await self._connect() as socket:
                    tries = 0
                    self._socket = socket
                    await self._serve(socket)
            except ConnectionClosed as error:
                if error.rcvd is not None and error.rcvd.code == _OVER:
                    self._fail(NotAuthenticated("the token is over", hint="persistence token issue makes a new one"))
                    return
            except InvalidStatus as error:
                if error.response.status_code in _REFUSED:
                    self._fail(_refused(error))
                    return
                _log.info("the service refuses the stream for now: status %s", error.response.status_code)
            except (OSError, TimeoutError, InvalidHandshake, PersistenceError) as error:
                _log.info("the service is away: %r", error)
            finally:
                self._lost()
            await asyncio.sleep(random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2**tries)))
            tries = min(tries + 1, 20)

    async def _connect(self) -> ClientConnection:
        headers = {"Authorization": f"Bearer {await self._token_text()}"}
        options: dict[str, Any] = {
            "additional_headers": headers,
            "subprotocols": [PROTOCOL],
            "max_size": _LARGEST,
            "compression": None,
        }
        if self._url.startswith("wss"):
            options["ssl"] = self._tls or ssl.create_default_context()
        if self._unix is not None:
            return await unix_connect(str(self._unix), self._url, **options)
        return await connect(self._url, **options)

    async def _serve(self, socket: ClientConnection) -> None:
        while True:
            await self._make_room()
            async with asyncio.timeout(_SILENCE):
                text = await socket.recv()
            assert isinstance(text, str)
            said: dict[str, Any] = json.loads(text)
            what, asked = said["is"], self._asked.pop(said.get("id", -1), None)
            if what == "welcome":
                self._is_open.set()
                for one in list(self._following.values()):
                    await self._subscribe(one)
            elif asked is not None and not asked.done():
                asked.set_result(said)
            elif (following := self._following.get(said.get("channel", ""))) is not None:
                self._hear(following, said, text)

    async def _make_room(self) -> None:
        """Until what was heard is taken. While somebody waits for an answer there is always room: it stands behind what was told before."""
        while not self._asked and any(one.heard.qsize() >= _QUEUE for one in self._following.values()):
            self._moved.clear()
            await self._moved.wait()

    def _hear(self, following: _Following, said: dict[str, Any], text: str) -> None:
        match said["is"]:
            case "subscribed" | "unsubscribed":
                following.position = said.get("position", following.position)
            case "error":
                following.heard.put_nowait(_error_of(said))
            case "taken_over":
                following.heard.put_nowait(
                    PermissionDenied(f"somebody else follows as {said['consumer']} by now", hint="let one of the two end")
                )
            case what:
                following.position = said["position"]
                if what == "event" and following.consumer is not None:
                    place = Position.parse(said["position"])
                    if following.told is not None and place <= following.told:
                        return  # the service goes on behind what was acknowledged; this was handed on already
                    following.told = place
                heard = Heard(
                    what,
                    following.channel,
                    said["position"],
                    text,
                    Event.model_validate(said["event"]) if what == "event" else None,
                    LiveMessage.model_validate(said["message"]) if what == "message" else None,
                    Metrics.model_validate(said["metrics"]) if what == "metrics" else None,
                )
                following.heard.put_nowait(heard)

    async def _subscribe(self, one: _Following) -> None:
        order = {"do": "subscribe", "channel": one.channel, "after": one.position, "consumer": one.consumer}
        await self._send({name: value for name, value in order.items() if value is not None})

    async def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        if self._running is None:
            raise _closed()
        if self._failure is not None:
            raise self._failure
        await self._is_open.wait()
        if self._failure is not None:
            raise self._failure
        self._number += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[self._number] = answer
        self._moved.set()
        await self._send({**order, "id": self._number})
        said = await answer
        if said["is"] == "error":
            raise _error_of(said)
        if said["is"] == "taken_over":
            raise PermissionDenied(f"somebody else follows as {said['consumer']} by now", hint="let one of the two end")
        return said

    async def _send(self, order: dict[str, Any]) -> None:
        if self._socket is not None:
            with suppress(ConnectionClosed):
                await self._socket.send(encode(order))

    def _lost(self) -> None:
        self._is_open.clear()
        self._socket = None
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(Unavailable("the connection was lost", hint="ask again"))
        self._asked.clear()

    def _fail(self, error: PersistenceError) -> None:
        self._failure = error
        self._is_open.set()
        for one in self._following.values():
            one.heard.put_nowait(error)  # behind what was told before it


def _closed() -> PersistenceError:
    return PersistenceError("the client is not open", hint="use it as: async with StreamClient(…) as client")


def _refused(error: InvalidStatus) -> PersistenceError:
    said: dict[str, Any] = {}
    with suppress(ValueError):
        said = json.loads(error.response.body or b"{}")
    return _error_of({"status": error.response.status_code, "detail": str(error), **said})


def _error_of(said: dict[str, Any]) -> PersistenceError:
    detail, hint = said.get("detail", "it was refused"), said.get("hint")
    match said.get("status"):
        case 401:
            return NotAuthenticated(detail, hint=hint)
        case 403:
            return PermissionDenied(detail, hint=hint)
        case 422 | 400 | 404 | 409:
            return InvalidInput(detail, hint=hint, field=said.get("field"))
        case _:
            return Unavailable(detail, hint=hint)
