"""The sockets of this process: who they are of, for how long, and what they follow."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID
from weakref import WeakValueDictionary

import structlog
from fastapi import WebSocket
from prometheus_client import Counter as Counts
from prometheus_client import Gauge
from starlette.datastructures import State
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect, WebSocketState

from persistence.encoding import check
from persistence.errors import Conflict, InvalidInput, NotAuthenticated, PersistenceError
from persistence.models import Channel, Consumer, Position, Role
from persistence.plane import Plane
from persistence.queries.subscription import Opening, record_openings
from persistence.service.access import Caller, RateLimit, identify, require
from persistence.service.problems import Refused, status_of
from persistence.service.protocol import DIRECT, SocketProtocol, text_frame
from persistence.streams import Hub, Told
from persistence.streams.feeds import Place, place_of
from persistence.streams.messages import (
    PROTOCOL,
    Ack,
    Acked,
    Beat,
    ErrorNotice,
    Notice,
    Order,
    Ping,
    Pong,
    Publish,
    Published,
    Renew,
    Renewed,
    Subscribe,
    Subscribed,
    TakenOver,
    Unsubscribe,
    Unsubscribed,
    Welcome,
    read_order,
)

SOCKETS_OF_TOKEN: Final = 1_000
SOCKETS_OF_TENANT: Final = 2_000
CHANNELS: Final = 100
OVER: Final = 4401
SLOW: Final = 4408
GOING: Final = 1001

_ACTOR: Final = "system:streams"
_BEAT: Final = Beat().text()
_BEAT_SECONDS: Final = 15.0
_PATIENCE: Final = 30.0
_RECHECK_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.25
_TURN_SECONDS: Final = 0.1
_MOST_AT_ONCE: Final = 500

_SOCKETS: Final = Gauge("persistence_stream_sockets", "WebSockets that are open.")
_SENT: Final = Counts("persistence_stream_messages_total", "Messages that sockets were sent.")

_log = structlog.get_logger(__name__)


class Openings:
    """Puts on record who begins to follow what, before anything is told: all that ask while one record is written are in the next."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._waiting: list[tuple[tuple[UUID, UUID], Opening, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def record(self, caller: Caller, channel: str) -> None:
        """Returns once it is on record. Raises what the database raises."""
        bearer = caller.bearer
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        opening = Opening(token_id=bearer.token_id, actor=bearer.acts_as, channel=channel, at=datetime.now(UTC))
        self._waiting.append(((bearer.tenant_id, bearer.user_id), opening, done))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await done

    async def _write(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting, []
            by_owner: dict[tuple[UUID, UUID], list[tuple[Opening, asyncio.Future[None]]]] = {}
            for owner, opening, done in taken:
                by_owner.setdefault(owner, []).append((opening, done))
            for (tenant_id, user_id), those in by_owner.items():
                for begin in range(0, len(those), _MOST_AT_ONCE):
                    part = those[begin : begin + _MOST_AT_ONCE]
                    try:
                        async with self._plane.transaction(tenant_id, actor=_ACTOR, user_id=user_id) as tx:
                            await record_openings(tx, [opening for opening, _ in part])
                    except Exception as error:
                        for _, done in part:
                            if not done.done():
                                done.set_exception(error)
                        continue
                    for _, done in part:
                        if not done.done():
                            done.set_result(None)


class Sockets:
    """All sockets of a process. One task attends to all of them: tokens that end, beats, a service that stops."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._counts: Counter[UUID] = Counter()
        self._sessions: set[Session] = set()
        self._attending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._attending = asyncio.create_task(self._attend())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._attending is not None:
            self._attending.cancel()
            with suppress(asyncio.CancelledError):
                await self._attending

    def __len__(self) -> int:
        return len(self._sessions)

    async def serve(self, socket: WebSocket, enter: Callable[[], Awaitable[Caller]]) -> None:
        """Lets a socket in, or refuses it as HTTP refuses, and serves it until one of both goes. enter: says who it is of."""
        try:
            caller = await enter()
            owners = (caller.bearer.token_id, caller.bearer.tenant_id)
            if self._counts[owners[0]] >= SOCKETS_OF_TOKEN or self._counts[owners[1]] >= SOCKETS_OF_TENANT:
                raise Refused(429, "too many sockets of this token or tenant are open", "close some", {"Retry-After": "30"})
        except (PersistenceError, Refused) as error:
            await _refuse(socket, error)
            return
        self._counts.update(owners)
        session = Session(socket, caller, self._state)
        try:
            await socket.accept(PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)
            self._sessions.add(session)
            _SOCKETS.inc()
            await session.serve()
        finally:
            if session in self._sessions:
                self._sessions.discard(session)
                _SOCKETS.dec()
            self._counts.subtract(owners)
            for owner in owners:
                if self._counts[owner] <= 0:
                    del self._counts[owner]

    async def _attend(self) -> None:
        loop = asyncio.get_running_loop()
        checked = loop.time()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now, moment = datetime.now(UTC), loop.time()
            for session in list(self._sessions):
                bearer = session.caller.bearer
                if self._state.stopping.is_set():
                    session.end(GOING, "the service stops")
                elif (bearer.expires_at is not None and bearer.expires_at <= now) or self._state.token_cache.is_revoked(
                    bearer.token_id
                ):
                    session.end(OVER, "the token is over")
                else:
                    session.beat(moment)
            if moment - checked > _RECHECK_SECONDS:
                checked = moment
                await self._recheck()

    async def _recheck(self) -> None:
        """Asks the database about each token once: a revocation may not have been heard."""
        by_token: dict[UUID, list[Session]] = {}
        for session in list(self._sessions):
            by_token.setdefault(session.caller.bearer.token_id, []).append(session)
        for sessions in by_token.values():
            try:
                await sessions[0].caller.recheck()
            except NotAuthenticated:
                for session in sessions:
                    session.end(OVER, "the token is over")
            except PersistenceError:
                return  # the database is away: it cannot have been revoked there


class Holders:
    """Who of this process holds which consumer: the earlier is told at once that somebody took him over; who follows by another process, when he
    says how far he is.
    """

    def __init__(self) -> None:
        self._held: WeakValueDictionary[tuple[UUID, str], Session] = WeakValueDictionary()
        self._telling: set[asyncio.Task[None]] = set()

    def take(self, consumer: tuple[UUID, str], session: "Session") -> None:
        earlier = self._held.get(consumer)
        self._held[consumer] = session
        if earlier is not None and earlier is not session:
            task = asyncio.create_task(earlier.lose(consumer[1]))
            self._telling.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._telling.discard(task)
        if not task.cancelled():
            task.exception()  # it is gone, and needs not be told


class Session:
    """One socket. What is sent goes through one lock; each channel has a task."""

    def __init__(self, socket: WebSocket, caller: Caller, state: State) -> None:
        self.caller = caller
        self._socket = socket
        self._plane: Plane = state.plane
        self._hub: Hub = state.hub
        self._openings: Openings = state.openings
        self._holders: Holders = state.holders
        self._rate_limit: RateLimit = state.rate_limit
        self._turns: RateLimit = state.subscription_limit
        self._following: dict[Channel, asyncio.Task[None]] = {}
        self._consumers: dict[str, Consumer] = {}
        self._lost: dict[str, str] = {}  # consumers that others took over, with their channels
        self._sending = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._ending: asyncio.Future[tuple[int, str]] = self._loop.create_future()
        self._spoken = self._loop.time()
        self._beating: asyncio.Task[None] | None = None

    def end(self, code: int, reason: str) -> None:
        """Ends it."""
        if not self._ending.done():
            self._ending.set_result((code, reason))

    def beat(self, now: float) -> None:
        """Says that it lives, where nothing was said for a while."""
        if now - self._spoken > _BEAT_SECONDS and (self._beating is None or self._beating.done()):
            self._spoken = now
            self._beating = asyncio.create_task(self._send(_BEAT))
            self._beating.add_done_callback(self._note)

    async def serve(self) -> None:
        bearer = self.caller.bearer
        listening = asyncio.create_task(self._listen(Welcome(tenant=bearer.tenant_id, acts_as=bearer.acts_as)))
        listening.add_done_callback(self._note)
        try:
            code, reason = await self._ending
        finally:
            every = [listening, *self._following.values(), *([self._beating] if self._beating else [])]
            for task in every:
                task.cancel()
            await asyncio.gather(*every, return_exceptions=True)
        if self._socket.application_state is WebSocketState.CONNECTED:
            with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
                async with asyncio.timeout(1):
                    await self._socket.close(code, reason)

    def _note(self, task: asyncio.Task[Any]) -> None:
        """A task of it has ended, and with it the socket where that was no end in order."""
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, TimeoutError):
            self.end(SLOW, "nothing was taken for too long")
        elif error is not None:
            if not isinstance(error, WebSocketDisconnect | RuntimeError):
                _log.error("socket_failed", error=repr(error))
            self.end(GOING, "")

    async def _listen(self, welcome: Notice) -> None:
        """Does what the client asks for."""
        await self._say(welcome)
        while True:
            try:
                text = await self._socket.receive_text()
            except (WebSocketDisconnect, KeyError):  # gone, or bytes
                self.end(GOING, "")
                return
            order: Order | None = None
            try:
                order = read_order(text)
                await self._do(order)
            except (PersistenceError, Refused) as error:
                await self._say(_described(error, order.id if order else _id_of(text), getattr(order, "channel", None)))

    async def _do(self, order: Order) -> None:
        match order:
            case Ping():
                await self._say(Pong(id=order.id))
            case Renew():
                await self._renew(order)
            case Subscribe():
                await self._subscribe(order)
            case Unsubscribe():
                channel = Channel.parse(order.channel)
                await self._stop(channel)
                self._leave(channel)
                await self._say(Unsubscribed(channel=str(channel), id=order.id))
            case Publish():
                await self._publish(order)
            case Ack():
                await self._ack(order)

    async def _subscribe(self, order: Subscribe) -> None:
        channel = Channel.parse(order.channel)
        after = None if order.after is None else place_of(order.after)
        require(self.caller, channel.role)
        if order.consumer is not None:
            require(self.caller, Role.OPERATOR)
        await self._take_turn()
        await self._stop(channel)
        if len(self._following) >= CHANNELS:
            raise Refused(429, f"one socket follows at most {CHANNELS} channels", "open another")
        begun = self._loop.create_future()
        task = asyncio.create_task(self._follow(channel, after, order, begun))
        task.add_done_callback(self._note)
        self._following[channel] = task
        await asyncio.wait({begun})  # what is asked for next comes after this

    async def _take_turn(self) -> None:
        """So many subscriptions a second and token: each is on record, and whoever may only read must not fill the log."""
        while True:
            try:
                self._turns.spend(self.caller.bearer)
                return
            except Refused:
                await asyncio.sleep(_TURN_SECONDS)

    async def _stop(self, channel: Channel) -> None:
        there = self._following.pop(channel, None)
        if there is not None:
            there.cancel()
            await asyncio.gather(there, return_exceptions=True)

    def _leave(self, channel: Channel) -> None:
        """Whoever follows no more says no more how far he is."""
        for name in [name for name, consumer in self._consumers.items() if consumer.channel == str(channel)]:
            del self._consumers[name]

    async def _follow(self, channel: Channel, after: Place | None, order: Subscribe, begun: asyncio.Future[None]) -> None:
        name, bearer = str(channel), self.caller.bearer
        quoted = json.dumps(name)
        try:
            await self._openings.record(self.caller, name)
            if order.consumer is not None:
                after = await self._hold(order.consumer, channel, after)
            async with self._hub.following(bearer.tenant_id, channel, after, user_id=bearer.user_id) as follower:
                await self._say(Subscribed(channel=name, position=str(follower.position), consumer=order.consumer, id=order.id))
                begun.set_result(None)
                follower.direct = self._writer(quoted)
                async for told in follower.told():
                    await self._send(_text(told, quoted))
        except (PersistenceError, Refused) as error:
            self._following.pop(channel, None)
            await self._say(_described(error, order.id, name))
        finally:
            if not begun.done():
                begun.set_result(None)

    def _writer(self, channel: str) -> Callable[[Told], bool] | None:
        """What writes to the socket at once, where it has a protocol of ours."""
        protocol = self._socket.scope.get("extensions", {}).get(DIRECT)
        if not isinstance(protocol, SocketProtocol):
            return None

        def write(told: Told) -> bool:
            frame = told.frames.get(channel)
            if frame is None:
                frame = told.frames[channel] = text_frame(_text(told, channel))
            if not protocol.write_frame(frame):
                return False
            self._spoken = self._loop.time()
            _SENT.inc()
            return True

        return write

    async def _hold(self, name: str, channel: Channel, after: Place | None) -> Position:
        if after is not None and not isinstance(after, Position):
            raise InvalidInput("after: a consumer follows the log", hint="a position of the log", field="after")
        async with self.caller.transaction() as tx:
            consumer = await tx.consumers.hold(name, channel, start=after)
        self._consumers[name] = consumer
        self._lost.pop(name, None)
        self._holders.take((self.caller.bearer.tenant_id, name), self)
        return consumer.position

    async def _ack(self, order: Ack) -> None:
        consumer = self._consumers.get(order.consumer)
        if consumer is None and order.consumer in self._lost:
            await self._say(TakenOver(channel=self._lost[order.consumer], consumer=order.consumer, id=order.id))
            return
        if consumer is None:
            raise InvalidInput(
                f"consumer: this socket does not follow as {order.consumer[:50]!r}",
                hint="subscribe with it first",
                field="consumer",
            )
        require(self.caller, Role.OPERATOR)
        place = place_of(order.position, "position")
        if not isinstance(place, Position):
            raise InvalidInput("position: a consumer follows the log", hint="as each event has it", field="position")
        try:
            async with self.caller.transaction() as tx:
                await tx.consumers.ack(consumer, place)
        except Conflict:
            await self.lose(order.consumer, order.id)
            return
        await self._say(Acked(consumer=order.consumer, position=order.position, id=order.id))

    async def lose(self, name: str, order_id: str | int | None = None) -> None:
        """Somebody else took a consumer over: what was told for him ends here."""
        consumer = self._consumers.pop(name, None)
        if consumer is not None:
            self._lost[name] = consumer.channel
            await self._stop(Channel.parse(consumer.channel))
            await self._say(TakenOver(channel=consumer.channel, consumer=name, id=order_id))

    async def _publish(self, order: Publish) -> None:
        channel, bearer = Channel.parse(order.channel), self.caller.bearer
        require(self.caller, channel.publishing_role)
        self._rate_limit.spend(bearer)
        position = await self._plane.publish(bearer.tenant_id, channel, order.content, actor=bearer.acts_as, user_id=bearer.user_id)
        await self._say(Published(channel=str(channel), position=str(position), id=order.id))

    async def _renew(self, order: Renew) -> None:
        caller = await identify(self._socket, order.token)
        if caller.bearer.tenant_id != self.caller.bearer.tenant_id:
            raise Refused(403, "the token is of another tenant", "open another socket with it")
        self.caller = caller
        for channel in list(self._following):
            if not caller.bearer.role.covers(channel.role) or (
                not caller.bearer.role.covers(Role.OPERATOR)
                and any(consumer.channel == str(channel) for consumer in self._consumers.values())
            ):
                await self._stop(channel)
                self._leave(channel)
                await self._say(Unsubscribed(channel=str(channel)))
        await self._say(Renewed(until=caller.bearer.expires_at, id=order.id))

    async def _say(self, notice: Notice) -> None:
        await self._send(notice.text())

    async def _send(self, text: str) -> None:
        """Raises TimeoutError where the client takes nothing any more."""
        async with asyncio.timeout(_PATIENCE), self._sending:
            await self._socket.send_text(text)
        _SENT.inc()
        self._spoken = self._loop.time()


def _text(told: Told, channel: str) -> str:
    content = f',"{told.what}":{told.text}' if told.text else ""
    return f'{{"is":"{told.what}","channel":{channel},"position":"{told.position}"{content}}}'


async def _refuse(socket: WebSocket, error: PersistenceError | Refused) -> None:
    headers = {"Content-Type": "application/problem+json", **((error.headers or {}) if isinstance(error, Refused) else {})}
    said = _described(error, None).model_dump(exclude_none=True, exclude={"is_"})
    await socket.send_denial_response(JSONResponse(said, said["status"], headers=headers))


def _described(error: PersistenceError | Refused, order_id: str | int | None, channel: str | None = None) -> ErrorNotice:
    if isinstance(error, Refused):
        return ErrorNotice(status=error.status, detail=error.detail, hint=error.hint, channel=channel, id=order_id)
    return ErrorNotice(
        status=status_of(error),
        detail=error.message,
        hint=error.hint,
        field=getattr(error, "field", None),
        channel=channel,
        id=order_id,
    )


def _id_of(text: str) -> str | int | None:
    """What the client calls an order that could not be read."""
    with suppress(ValueError, RecursionError, AttributeError, InvalidInput):
        given = json.loads(text).get("id")
        check(given, "id")
        return given if isinstance(given, str | int) and not isinstance(given, bool) else None
    return None
