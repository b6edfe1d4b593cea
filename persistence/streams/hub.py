"""Who follows what in this process."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

import structlog

from persistence.errors import InvalidInput, PersistenceError
from persistence.models import Channel, LivePosition, Position
from persistence.plane import Plane
from persistence.queries.subscription import sweep_live, watch
from persistence.streams.feeds import Feed, LiveFeed, LogFeed, MetricsFeed, Place, Told, place_of

PAUSE: Final = 0.02
"""Seconds between looks whether anything is new, for all tenants at once."""

QUEUE: Final = 1_000
"""So many wait for one follower; then they are read from where they are kept."""

_AGAIN: Final = 1.0
_SWEEP_SECONDS: Final = 60.0

_log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class Follower:
    """Somebody who follows a channel. Iterate over ``told``. position: behind what he was told.

    direct: called with what comes while he waits for it, instead of waking him; returns whether it took it. So that a thousand followers need not be
    woken for each event.
    """

    channel: Channel
    feed: Feed[Any]
    position: Place
    capacity: int = QUEUE
    is_told: Told | None = None
    waiting: deque[Told] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    is_behind: bool = True
    is_waiting: bool = False
    numbers: UUID | None = None
    direct: Callable[[Told], bool] | None = None

    async def told(self, beat: float | None = None) -> AsyncIterator[Told]:
        """What is told, for ever, once each, in its order. Raises TenantDenied once he may not any more. beat: seconds after which it says that
        there is nothing; none: it waits.
        """
        if self.is_told is not None:
            yield self.is_told
        has_joined = False
        while True:
            while self.waiting:  # before anything is read: these come first
                told = self.waiting.popleft()
                self.position = told.position
                yield told
            if self.is_behind:
                if has_joined and self.feed.is_kept:
                    yield Told("lagging", self.position)
                async for told in self._catch_up():
                    yield told
                has_joined = True
            else:
                self.is_waiting = True
                try:
                    if beat is None:
                        await self.wake.wait()
                    else:
                        async with asyncio.timeout(beat):
                            await self.wake.wait()
                except TimeoutError:
                    self.is_waiting = False
                    yield Told("beat", self.position)
                finally:
                    self.is_waiting = False
            self.wake.clear()
            if self.feed.failure is not None:
                raise self.feed.failure

    async def batches(self, most: int) -> AsyncGenerator[list[Told]]:
        """The same, as many at a time as are there, and at most so many."""
        batch: list[Told] = []
        async for told in self.told():
            batch.append(told)
            if len(batch) >= most or not (self.waiting or self.is_behind):
                yield batch
                batch = []

    def offer(self, told: Told) -> None:
        """Takes what the feed has read, or falls behind."""
        if told.what != "missed" and _is_behind(told.position, self.position):
            return
        if isinstance(told.position, LivePosition):
            if told.what == "message" and self.numbers is not None and self.numbers != told.position.feed:
                # a crash took what was told since his position, and the feed had not read that yet
                self._take(Told("missed", LivePosition(feed=told.position.feed, number=told.position.number - 1)))
            self.numbers = told.position.feed if told.what == "message" else None
        self._take(told)

    def _take(self, told: Told) -> None:
        if self.is_waiting and not self.waiting and self.direct is not None and self.direct(told):
            self.position = told.position
            return
        if len(self.waiting) >= self.capacity:
            self.feed.leave(self)
            self.is_behind = True
        else:
            self.waiting.append(told)
        self.wake.set()

    async def _catch_up(self) -> AsyncIterator[Told]:
        """Reads until the feed is reached, then joins it; nothing comes between the last look and that."""
        was_told = False
        while True:
            before = self.feed.position
            page = await self.feed.read(self.position, [self.channel])
            if page.has_gap:
                yield Told("missed", self.position)
            for entry in page.entries:
                if self.channel in entry.channels:
                    was_told, self.position = True, entry.position
                    yield entry.told
            self.position = page.end
            # what the feed handed on before this look was there to be read; what it handed on meanwhile may not have been
            if page.is_last and (self.feed.position == before or _is_behind(self.feed.position, self.position)):
                self.is_behind = False
                if _is_behind(self.position, self.feed.position):
                    self.position = self.feed.position
                if isinstance(self.position, LivePosition):
                    self.numbers = self.position.feed if self.position.number else None
                self.feed.join(self)
                if was_told and self.feed.is_kept:
                    yield Told("caught_up", self.position)
                return


class Hub:
    """The feeds of one process. Use it as ``async with Hub(plane) as hub``."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._feeds: dict[tuple[UUID, UUID, type[Feed[Any]]], Feed[Any]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._is_followed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for feed in list(self._feeds.values()):
            await feed.end()
        self._feeds.clear()
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None

    @asynccontextmanager
    async def following(
        self,
        tenant_id: UUID,
        channel: Channel | str,
        after: Place | str | None = None,
        *,
        user_id: UUID | None = None,
        capacity: int = QUEUE,
    ) -> AsyncIterator[Follower]:
        """A follower of a channel, for as long as the block lasts. after: only what comes behind it; none: what comes from now on.
        user_id: in whose name; a member of the tenant; none: the settings'.

        Who may follow what is the caller's to see to (``Channel.role``). Raises InvalidInput for what is no channel, and for a position of another
        kind of channel or that the log has not come to; and what the database raises.
        """
        if self._watching is None:
            raise PersistenceError("the hub is not open", hint="use it as: async with Hub(plane) as hub")
        channel = Channel.parse(str(channel))
        if isinstance(after, str):
            after = place_of(after)
        kind: type[Feed[Any]] = MetricsFeed if channel.kind == "metrics" else LiveFeed if channel.is_live else LogFeed
        if after is not None and isinstance(after, Position) is not (kind is LogFeed):
            raise InvalidInput(
                f"after: {after} is no position of {channel.kind}", hint="as it was told in this channel", field="after"
            )
        key = (tenant_id, user_id or self._plane.settings.service_user, kind)
        feed = self._feeds.get(key)
        if feed is None or feed.failure is not None:
            feed = self._feeds[key] = kind(self._plane, *key[:2])
        feed.count += 1
        self._is_followed.set()
        follower = None
        try:
            await feed.begin()
            told, position = (None, feed.position) if after is None else await feed.resumed(after)
            follower = Follower(channel, feed, position, capacity, told)
            yield follower
        finally:
            feed.count -= 1
            if follower is not None:
                feed.leave(follower)
            if not feed.count:
                if self._feeds.get(key) is feed:
                    del self._feeds[key]
                await feed.end()

    async def _watch(self) -> None:
        """Asks for all tenants at once whether anything is new."""
        loop = asyncio.get_running_loop()
        swept = loop.time()
        while True:
            if not self._feeds:
                self._is_followed.clear()
                await self._is_followed.wait()
            feeds = [feed for feed in self._feeds.values() if feed.has_begun and not isinstance(feed, MetricsFeed)]
            positions = [feed.position if isinstance(feed, LogFeed) else Position() for feed in feeds]
            try:
                news = await watch(self._plane, [feed.tenant_id for feed in feeds], positions) if feeds else []
                for feed, heard in zip(feeds, news, strict=True):
                    feed.hear(heard)
                if loop.time() - swept > _SWEEP_SECONDS:
                    swept = loop.time()
                    await sweep_live(self._plane)
            except PersistenceError as error:
                _log.warning("streams_wait_for_the_database", error=str(error))
                await asyncio.sleep(_AGAIN)
            await asyncio.sleep(PAUSE)


def _is_behind(one: Place, other: Place) -> bool:
    """Whether what ends at one position is contained in what ends at another."""
    if isinstance(one, LivePosition) and isinstance(other, LivePosition):
        return one.feed == other.feed and one.number <= other.number
    return isinstance(one, Position) and isinstance(other, Position) and one <= other
