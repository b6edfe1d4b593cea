"""/v1/streams: the log as it grows, over a WebSocket. One socket, any number of channels; texts are JSON objects.

From the client: ``{"do": "subscribe", "channel": "run:…", "after": "0-1234-5678", "id": 1}``, ``{"do": "unsubscribe", "channel": "run:…"}``,
``{"do": "ping"}``. ``after`` is a position that was told before: nothing behind it is missed, and nothing comes twice; without one what
comes from now on.

From the service, by ``is``: ``welcome``; ``subscribed`` and ``unsubscribed``; ``event`` with channel, position and event; ``lagging``, where
the client was too slow and has it from the log for a while, and ``caught_up``; ``epoch``, where the log was restored since the client's
position; ``pong``, ``beat``, ``error``.

A browser cannot send headers: it offers the protocols ``persistence.v1`` and ``bearer.TOKEN``. Closed with 4401: the token is over; 4408:
nothing was taken for too long.
"""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, WebSocket
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect, WebSocketState

from persistence.encoding import encode
from persistence.errors import InvalidInput, NotAuthenticated, PersistenceError
from persistence.models import Position
from persistence.service.access import Caller, identify, require
from persistence.service.problems import Refused, status_of
from persistence.streams import Channel, Hub, Told

router = APIRouter()

PROTOCOL: Final = "persistence.v1"
SOCKETS_OF_TOKEN: Final = 1_000
SOCKETS_OF_TENANT: Final = 2_000
CHANNELS: Final = 100

_BEARER: Final = "bearer."
_OVER: Final = 4401
_SLOW: Final = 4408
_GOING: Final = 1001
_BEAT_SECONDS: Final = 15.0
_PATIENCE: Final = 30.0
_RECHECK_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.5
_LARGEST_ORDER: Final = 4_096


@router.websocket("/v1/streams")
async def streams(socket: WebSocket) -> None:
    """Lets in who has a token, and serves until one of them goes."""
    try:
        caller = await _let_in(socket)
    except (PersistenceError, Refused) as error:
        await _refuse(socket, error)
        return
    counts: Counter[UUID] = socket.app.state.sockets
    owners = (caller.bearer.token_id, caller.bearer.tenant_id)
    if counts[owners[0]] >= SOCKETS_OF_TOKEN or counts[owners[1]] >= SOCKETS_OF_TENANT:
        await _refuse(
            socket, Refused(429, "too many sockets of this token or tenant are open", "close some", {"Retry-After": "30"})
        )
        return
    counts.update(owners)
    try:
        await socket.accept(PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)
        await _Session(socket, caller, socket.app.state.hub).serve()
    finally:
        counts.subtract(owners)
        for owner in owners:
            if counts[owner] <= 0:
                del counts[owner]


class _Session:
    """One socket. What is sent goes through one task; so does each channel."""

    def __init__(self, socket: WebSocket, caller: Caller, hub: Hub) -> None:
        self._socket = socket
        self._caller = caller
        self._hub = hub
        self._following: dict[Channel, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()
        self._spoken = asyncio.get_running_loop().time()

    async def serve(self) -> None:
        await self._say({"is": "welcome", "tenant": str(self._caller.bearer.tenant_id), "acts_as": self._caller.bearer.acts_as})
        working = [asyncio.create_task(self._listen()), asyncio.create_task(self._attend())]
        try:
            done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            code, reason = next((task.result() for task in done if not task.cancelled()), (_GOING, ""))
        except (WebSocketDisconnect, RuntimeError):
            code, reason = _GOING, ""
        except TimeoutError:
            code, reason = _SLOW, "nothing was taken for too long"
        finally:
            every = [*working, *self._following.values()]
            for task in every:
                task.cancel()
            await asyncio.gather(*every, return_exceptions=True)
        if self._socket.application_state is WebSocketState.CONNECTED:
            with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
                async with asyncio.timeout(1):
                    await self._socket.close(code, reason)

    async def _listen(self) -> tuple[int, str]:
        """Does what the client asks for."""
        while True:
            try:
                text = await self._socket.receive_text()
            except (WebSocketDisconnect, KeyError):  # gone, or bytes
                return _GOING, ""
            order: Any = None
            try:
                order = _order(text)
                await self._do(order)
            except (PersistenceError, Refused) as error:
                await self._say({"is": "error", "id": _id_of(order), **_described(error)})

    async def _attend(self) -> tuple[int, str]:
        """Ends it once the token does, or the service; a beat now and then says that it lives."""
        state, bearer, loop = self._socket.app.state, self._caller.bearer, asyncio.get_running_loop()
        checked = loop.time()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if state.stopping.is_set():
                return _GOING, "the service stops"
            expired = bearer.expires_at is not None and bearer.expires_at <= datetime.now(UTC)
            if expired or state.token_cache.is_revoked(bearer.token_id):
                return _OVER, "the token is over"
            if any(task.done() for task in self._following.values()):
                for channel, task in list(self._following.items()):
                    if task.done():
                        del self._following[channel]
                        task.result()
            if loop.time() - checked > _RECHECK_SECONDS:
                checked = loop.time()
                try:
                    await self._caller.recheck()
                except NotAuthenticated:
                    return _OVER, "the token is over"
                except PersistenceError:
                    pass  # the database is away: it cannot have been revoked there
            if loop.time() - self._spoken > _BEAT_SECONDS:
                await self._say({"is": "beat"})

    async def _do(self, order: dict[str, Any]) -> None:
        what, given = order.get("do"), order.get("channel")
        if what == "ping":
            await self._say({"is": "pong", "id": _id_of(order)})
            return
        if what not in {"subscribe", "unsubscribe"}:
            raise InvalidInput(f"do: {what!r} is none", hint="subscribe, unsubscribe or ping", field="do")
        if not isinstance(given, str):
            raise InvalidInput("channel: is missing", hint="events, run:ID, type:…, correlation:ID or agent:ACTOR", field="channel")
        channel = Channel.parse(given)
        there = self._following.pop(channel, None)
        if there is not None:
            there.cancel()
            await asyncio.gather(there, return_exceptions=True)
        if what == "unsubscribe":
            await self._say({"is": "unsubscribed", "channel": str(channel), "id": _id_of(order)})
            return
        require(self._caller, channel.role)
        if len(self._following) >= CHANNELS:
            raise Refused(429, f"one socket follows at most {CHANNELS} channels", "open another")
        self._following[channel] = asyncio.create_task(self._follow(channel, _position(order.get("after")), _id_of(order)))

    async def _follow(self, channel: Channel, after: Position | None, order_id: Any) -> None:
        name = json.dumps(str(channel))
        try:
            async with self._hub.following(self._caller.bearer.tenant_id, channel, after) as follower:
                await self._say({"is": "subscribed", "channel": str(channel), "position": str(follower.position), "id": order_id})
                async for told in follower.told():
                    await self._send(_frame(told, name))
        except PersistenceError as error:
            await self._say({"is": "error", "channel": str(channel), "id": order_id, **_described(error)})

    async def _say(self, message: dict[str, Any]) -> None:
        await self._send(encode({name: value for name, value in message.items() if value is not None}))

    async def _send(self, text: str) -> None:
        """Raises TimeoutError where the client takes nothing any more."""
        async with asyncio.timeout(_PATIENCE), self._sending:
            await self._socket.send_text(text)
        self._spoken = asyncio.get_running_loop().time()


def _frame(told: Told, name: str) -> str:
    event = f',"event":{told.text}' if told.what == "event" else ""
    return f'{{"is":"{told.what}","channel":{name},"position":"{told.position}"{event}}}'


async def _let_in(socket: WebSocket) -> Caller:
    """Raises NotAuthenticated, Refused, and what the database raises."""
    given = socket.headers.get("authorization", "")
    token = given[len("bearer ") :].strip() if given.lower().startswith("bearer ") else None
    if token is None:
        offered = socket.scope["subprotocols"]
        token = next((one.removeprefix(_BEARER) for one in offered if one.startswith(_BEARER)), None)
        origin = socket.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != socket.headers.get("host"):
            raise Refused(403, "this page is of another site", "serve it from the same host, or send the token as a header")
    return await identify(socket, token)


async def _refuse(socket: WebSocket, error: PersistenceError | Refused) -> None:
    status = error.status if isinstance(error, Refused) else status_of(error)
    headers = (error.headers or {}) if isinstance(error, Refused) else {}
    await socket.send_denial_response(
        JSONResponse({"status": status, **_described(error)}, status, headers=headers, media_type="application/problem+json")
    )


def _described(error: PersistenceError | Refused) -> dict[str, Any]:
    if isinstance(error, Refused):
        return {"detail": error.detail, "hint": error.hint}
    return {"detail": error.message, "hint": error.hint, "field": getattr(error, "field", None)}


def _order(text: str) -> dict[str, Any]:
    if len(text) > _LARGEST_ORDER:
        raise InvalidInput(f"the message has more than {_LARGEST_ORDER} characters", hint="subscribe to one channel at a time")
    try:
        order = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput("the message is no JSON", hint='{"do": "subscribe", "channel": "events"}') from None
    if not isinstance(order, dict):
        raise InvalidInput("the message is no JSON object", hint='{"do": "subscribe", "channel": "events"}')
    return order


def _id_of(order: Any) -> Any:
    """What the client calls its order, to be told again with the answer."""
    given = order.get("id") if isinstance(order, dict) else None
    return given if isinstance(given, str | int) else None


def _position(text: Any) -> Position | None:
    if text is None:
        return None
    try:
        return Position.parse(text)
    except (ValueError, TypeError, AttributeError):
        raise InvalidInput(
            f"after: {str(text)[:50]!r} is no position", hint="such as 0-1234-5678, as each event has it", field="after"
        ) from None
