"""One reader of each tenant's log, and many who follow."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, Self
from uuid import UUID

import structlog

from persistence.encoding import encode
from persistence.errors import PersistenceError
from persistence.models import Event, Position
from persistence.plane import Plane
from persistence.queries.subscription import runs_of
from persistence.streams.channels import Channel, Key, keys_of

PAUSE: Final = 0.05
"""Seconds between looks at a log in which nothing comes."""

QUEUE: Final = 1_000
"""So many events wait for one follower; then they are read from the log."""

_PAGE: Final = 500
_ACTOR: Final = "system:streams"
_AGAIN: Final = 1.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Told:
    """Something that a follower is told.

    what: event; lagging: he was too slow, and has it from the log for a while; caught_up: he is among the others again; epoch: the log was
    restored since his position, and what he had after that may never have been. position: behind it. text: of an event, its JSON.
    """

    what: Literal["event", "lagging", "caught_up", "epoch"]
    position: Position
    text: str = ""


@dataclass(eq=False)
class Follower:
    """Somebody who follows a channel. Iterate over ``told``."""

    channel: Channel
    feed: "_Feed"
    position: Position
    capacity: int = QUEUE
    waiting: deque[Told] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    is_behind: bool = True

    async def told(self) -> AsyncIterator[Told]:
        """What is told, for ever, once each, in the order of the log."""
        if self.position.epoch < self.feed.position.epoch:
            yield Told("epoch", self.position)
        has_joined = False
        while True:
            while self.waiting:  # before anything is read from the log: these come first
                told = self.waiting.popleft()
                self.position = told.position
                yield told
            if self.is_behind:
                if has_joined:
                    yield Told("lagging", self.position)
                async for told in self._catch_up():
                    yield told
                has_joined = True
            else:
                await self.wake.wait()
            self.wake.clear()

    def offer(self, told: Told) -> None:
        """Takes what the feed has read, or falls behind."""
        if told.position <= self.position:
            return
        if len(self.waiting) >= self.capacity:
            self.feed.leave(self)
            self.is_behind = True
        else:
            self.waiting.append(told)
        self.wake.set()

    async def _catch_up(self) -> AsyncIterator[Told]:
        """Reads from the log until the feed is reached, then joins it; nothing comes between the last look and that."""
        was_told = False
        while True:
            page, runs = await self.feed.read(self.position, [self.channel])
            for event, position in page:
                if self.channel.key in keys_of(event, runs):
                    self.position, was_told = position, True
                    yield Told("event", position, text_of(event))
            if page:
                self.position = page[-1][1]
            if (len(page) < _PAGE and self.feed.position <= self.position) or not page:
                self.is_behind = False
                self.position = max(self.position, self.feed.position)
                self.feed.join(self)
                if was_told:
                    yield Told("caught_up", self.position)
                return


class _Feed:
    """Reads a tenant's log while somebody follows it."""

    def __init__(self, plane: Plane, tenant_id: UUID) -> None:
        self._plane = plane
        self._tenant_id = tenant_id
        self._followers: dict[Key, set[Follower]] = {}
        self.position = Position()
        self.count = 0
        self._running: asyncio.Task[None] | None = None
        self._begun = asyncio.Lock()

    async def begin(self) -> None:
        """Returns once it knows where the log ends."""
        async with self._begun:
            if self._running is None:
                async with self._plane.transaction(self._tenant_id, actor=_ACTOR) as tx:
                    _, self.position = await tx.events.newest(1)
                self._running = asyncio.create_task(self._run())

    async def end(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
            self._running = None

    def join(self, follower: Follower) -> None:
        self._followers.setdefault(follower.channel.key, set()).add(follower)

    def leave(self, follower: Follower) -> None:
        those = self._followers.get(follower.channel.key, set())
        those.discard(follower)
        if not those:
            self._followers.pop(follower.channel.key, None)

    async def read(self, after: Position, channels: Sequence[Channel]) -> tuple[Sequence[tuple[Event, Position]], dict[UUID, UUID]]:
        """A page of the log, and the runs of its events where somebody follows a run."""
        async with self._plane.transaction(self._tenant_id, actor=_ACTOR) as tx:
            page = await tx.events.read_each(after, _PAGE)
            of_runs = page and any(channel.kind == "run" for channel in channels)
            return page, await runs_of(tx, [event for event, _ in page]) if of_runs else {}

    async def _run(self) -> None:
        while True:
            try:
                channels = [follower.channel for those in self._followers.values() for follower in list(those)[:1]]
                page, runs = await self.read(self.position, channels)
            except PersistenceError as error:
                _log.warning("feed_waits_for_the_database", error=str(error))
                await asyncio.sleep(_AGAIN)
                continue
            for event, position in page:
                self._hand_on(event, position, runs)
                self.position = position
            if len(page) < _PAGE:
                await asyncio.sleep(PAUSE)
            else:
                await asyncio.sleep(0)

    def _hand_on(self, event: Event, position: Position, runs: dict[UUID, UUID]) -> None:
        told: Told | None = None
        for key in keys_of(event, runs):
            for follower in list(self._followers.get(key, ())):
                told = told or Told("event", position, text_of(event))
                follower.offer(told)


class Hub:
    """The feeds of one process. Use it as ``async with Hub(plane) as hub``."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._feeds: dict[UUID, _Feed] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for feed in list(self._feeds.values()):
            await feed.end()
        self._feeds.clear()

    @asynccontextmanager
    async def following(
        self, tenant_id: UUID, channel: Channel, after: Position | None = None, *, capacity: int = QUEUE
    ) -> AsyncIterator[Follower]:
        """A follower of a channel, for as long as the block lasts. after: only what comes behind it in the log; none: what comes from now on.

        Who may follow what is the caller's to see to (``Channel.role``). Raises what the database raises.
        """
        feed = self._feeds.setdefault(tenant_id, _Feed(self._plane, tenant_id))
        feed.count += 1
        follower = None
        try:
            await feed.begin()
            follower = Follower(channel, feed, after or feed.position, capacity)
            yield follower
        finally:
            feed.count -= 1
            if follower is not None:
                feed.leave(follower)
            if not feed.count:
                self._feeds.pop(tenant_id, None)
                await feed.end()


def text_of(event: Event) -> str:
    """An event as JSON."""
    return encode(event.model_dump(mode="json"))
