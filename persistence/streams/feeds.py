"""What is read once for all who follow it: a tenant's log, what is told of it and not kept, and its counts."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Final, Generic, Literal, Protocol, TypeAlias, TypeVar
from uuid import UUID

import structlog

from persistence.encoding import encode
from persistence.errors import InvalidInput, PermissionDenied, PersistenceError, TenantDenied
from persistence.models import Channel, ConsumerLag, Event, LiveMessage, LivePosition, Position
from persistence.plane import Plane
from persistence.queries.overview import overview
from persistence.queries.subscription import News, runs_of
from persistence.transaction import Transaction

P = TypeVar("P", Position, LivePosition)
Place: TypeAlias = Position | LivePosition

ACTOR: Final = "system:streams"
PAGE: Final = 500

_AGAIN: Final = 1.0
_COUNT_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Told:
    """Something that a follower is told.

    what: event, of the log; message, of what is not kept; metrics. lagging: he was too slow, and has it from where it is kept for a while;
    caught_up: he is among the others again. epoch: the log was restored since his position, and what he had after that may never have been.
    missed: something was told since his position that is gone. beat: there is nothing. position: behind it. text: of the first three, as JSON.
    event: where it is one.
    """

    what: Literal["event", "message", "metrics", "lagging", "caught_up", "epoch", "missed", "beat"]
    position: Place
    text: str = ""
    event: Event | None = None
    frames: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)
    """As it is sent over sockets, by channel: made once for all who follow."""


@dataclass(frozen=True)
class Entry:
    """Something that was read. channels: that it is in. text: made when somebody asks, once."""

    position: Place
    channels: frozenset[Channel]
    kind: Literal["event", "message", "metrics"]
    make: Callable[[], str]
    event: Event | None = None

    @cached_property
    def told(self) -> Told:
        return Told(self.kind, self.position, self.make(), self.event)


@dataclass(frozen=True)
class ReadPage:
    """entries: in their order. end: behind all that was looked at. is_last: nothing more was there. has_gap: something was there before them that is
    gone.
    """

    entries: Sequence[Entry]
    end: Place
    is_last: bool
    has_gap: bool = False


class Following(Protocol):
    """A follower, as a feed sees him."""

    @property
    def channel(self) -> Channel: ...

    @property
    def wake(self) -> asyncio.Event: ...

    def offer(self, told: Told) -> None:
        """Takes it, or falls behind and leaves."""


class Feed(ABC, Generic[P]):
    """Reads while somebody follows. position: behind what was handed on. is_kept: whether who comes back can be told what was before."""

    position: P
    is_kept = True

    def __init__(self, plane: Plane, tenant_id: UUID, user_id: UUID) -> None:
        """user_id: in whose name it reads."""
        self.plane = plane
        self.tenant_id = tenant_id
        self.user_id = user_id
        self.failure: PersistenceError | None = None
        self.count = 0
        self.news = asyncio.Event()
        self._followers: dict[Channel, set[Following]] = {}
        self._running: asyncio.Task[None] | None = None
        self._begun = asyncio.Lock()

    @abstractmethod
    async def find_end(self) -> P:
        """The position to go on from: behind all there is. Raises what the database raises."""

    @abstractmethod
    async def read(self, after: P, channels: Sequence[Channel]) -> ReadPage:
        """What is behind a position. channels: what somebody wants of it. Raises what the database raises."""

    @abstractmethod
    async def resumed(self, after: P) -> tuple[Told | None, P]:
        """Where somebody goes on who was told a position, and what he has to know."""

    @abstractmethod
    def hear(self, news: News) -> None:
        """Wakes it where there is something new."""

    def transaction(self) -> Transaction:
        return self.plane.transaction(self.tenant_id, actor=ACTOR, user_id=self.user_id)

    async def begin(self) -> None:
        """Returns once it knows where the end is."""
        async with self._begun:
            if self._running is None:
                self.position = await self.find_end()
                self._running = asyncio.create_task(self._run())

    @property
    def has_begun(self) -> bool:
        return self._running is not None

    async def end(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
            self._running = None

    def join(self, follower: Following) -> None:
        self._followers.setdefault(follower.channel, set()).add(follower)

    def leave(self, follower: Following) -> None:
        those = self._followers.get(follower.channel, set())
        those.discard(follower)
        if not those:
            self._followers.pop(follower.channel, None)

    def tell_all(self, told: Told) -> None:
        for those in list(self._followers.values()):
            for follower in list(those):
                follower.offer(told)

    async def wait(self) -> None:
        """Until there may be something new."""
        await self.news.wait()
        self.news.clear()

    def _fail(self, error: PersistenceError) -> None:
        """Ends all who follow: in this name nothing can be read any more."""
        self.failure = error
        for those in list(self._followers.values()):
            for follower in list(those):
                follower.wake.set()

    async def _run(self) -> None:
        while True:
            await self.wait()
            is_last = False
            while not is_last:
                try:
                    page = await self.read(self.position, list(self._followers))
                except (TenantDenied, PermissionDenied) as error:
                    self._fail(error)
                    return
                except PersistenceError as error:
                    _log.warning("feed_waits_for_the_database", error=str(error))
                    await asyncio.sleep(_AGAIN)
                    continue
                if page.has_gap:
                    self.tell_all(Told("missed", self.position))
                for entry in page.entries:
                    for channel in entry.channels:
                        for follower in list(self._followers.get(channel, ())):
                            follower.offer(entry.told)
                self.position, is_last = page.end, page.is_last  # type: ignore[assignment]
                await asyncio.sleep(0)


class LogFeed(Feed[Position]):
    """A tenant's log."""

    async def find_end(self) -> Position:
        async with self.transaction() as tx:
            _, position = await tx.events.newest(1)
        return position

    async def read(self, after: Position, channels: Sequence[Channel]) -> ReadPage:
        async with self.transaction() as tx:
            page = await tx.events.read_each(after, PAGE)
            of_runs = page and any(channel.kind == "run" for channel in channels)
            runs = await runs_of(tx, [event for event, _ in page]) if of_runs else {}
        entries = [
            Entry(position, _channels(event, runs.get(event.id)), "event", partial(text_of, event), event)
            for event, position in page
        ]
        return ReadPage(entries, page[-1][1] if page else after, len(page) < PAGE)

    async def resumed(self, after: Position) -> tuple[Told | None, Position]:
        if self.position < after:
            end = await self.find_end()
            if end < after:
                raise InvalidInput(
                    f"after: the log has not come to {after}",
                    hint="a position that was told of this tenant, in this database",
                    field="after",
                )
        return Told("epoch", after) if Position() < after and after.epoch < self.position.epoch else None, after

    def hear(self, news: News) -> None:
        if news.has_events:
            self.news.set()


class LiveFeed(Feed[LivePosition]):
    """What is told of a tenant and not kept."""

    async def find_end(self) -> LivePosition:
        async with self.transaction() as tx:
            last, _ = await tx.live.feed()
        return last

    async def read(self, after: LivePosition, channels: Sequence[Channel]) -> ReadPage:
        del channels
        async with self.transaction() as tx:
            last, swept_to = await tx.live.feed()
            has_gap = after.feed != last.feed and (after.number > 0 or swept_to.number > 0)
            begin = after if after.feed == last.feed else LivePosition(feed=last.feed)
            told = await tx.live.read(begin, PAGE)
        first = told[0].number if told else last.number + 1
        entries = [
            Entry(
                LivePosition(feed=last.feed, number=message.number),
                frozenset({_named(message.channel)}),
                "message",
                partial(text_of, message),
            )
            for message in told
        ]
        is_last = len(told) < PAGE
        end = max(last.number, first - 1, *(message.number for message in told)) if is_last else told[-1].number
        has_gap = has_gap or (begin.number > 0 and first > begin.number + 1)
        return ReadPage(entries, LivePosition(feed=last.feed, number=end), is_last, has_gap)

    async def resumed(self, after: LivePosition) -> tuple[Told | None, LivePosition]:
        async with self.transaction() as tx:
            last, swept_to = await tx.live.feed()
        is_same = after.feed == last.feed or (after.number == 0 and after.feed == LivePosition().feed)
        if is_same and swept_to.number <= after.number <= last.number:
            return None, LivePosition(feed=last.feed, number=after.number)
        return Told("missed", swept_to), swept_to

    def hear(self, news: News) -> None:
        if news.feed is not None and (news.feed != self.position.feed or news.last > self.position.number):
            self.news.set()


class MetricsFeed(Feed[LivePosition]):
    """A tenant's counts, every two seconds. Nobody needs those of before."""

    is_kept = False
    _latest: ReadPage | None = None
    _counted_at = 0.0

    async def find_end(self) -> LivePosition:
        return LivePosition()

    async def resumed(self, after: LivePosition) -> tuple[Told | None, LivePosition]:
        del after
        return None, LivePosition()

    async def read(self, after: LivePosition, channels: Sequence[Channel]) -> ReadPage:
        del channels
        if self._latest is not None and time.monotonic() - self._counted_at < _COUNT_SECONDS / 2:
            return self._latest
        async with self.plane.snapshot(self.tenant_id, actor=ACTOR, user_id=self.user_id) as tx:
            found, consumers = await overview(tx), await tx.consumers.list()
        text = _counts(found.model_dump(mode="json", exclude={"types"}) | {"events_a_second": found.events_a_second}, consumers)
        position = LivePosition(number=max(after.number, self.position.number, time.time_ns() // 1_000_000) + 1)
        entry = Entry(position, frozenset({Channel("metrics")}), "metrics", lambda: text)
        self._latest, self._counted_at = ReadPage([entry], position, is_last=True), time.monotonic()
        return self._latest

    def hear(self, news: News) -> None:
        pass

    async def wait(self) -> None:
        await asyncio.sleep(_COUNT_SECONDS)


def place_of(text: str, field: str = "after") -> Place:
    """A position of the log, or of what is told and not kept, which has two parts. Raises InvalidInput, which names the field."""
    if text.count("-") != 1:
        return Position.of(text, field)
    try:
        return LivePosition.parse(text)
    except ValueError:
        raise InvalidInput(f"{field}: {text[:50]!r} is no position", hint="as it was told", field=field) from None


def text_of(item: Event | LiveMessage) -> str:
    """An event or a message as JSON."""
    return encode(item.model_dump(mode="json"))


def _counts(overview_of_it: dict[str, object], consumers: Sequence[ConsumerLag]) -> str:
    lags = [{"name": one.consumer.name, "behind": one.behind, "since": one.since and one.since.isoformat()} for one in consumers]
    return encode({**overview_of_it, "consumers": lags})


def _named(text: str) -> Channel:
    """A channel as the database has it: whoever may call its functions may have made up a name that is none."""
    kind, _, argument = text.partition(":")
    return Channel(kind, argument)


def _channels(event: Event, run_id: UUID | None) -> frozenset[Channel]:
    those = [
        Channel("events"),
        Channel("type", event.event_type),
        Channel("correlation", str(event.correlation_id)),
        Channel("agent", event.actor),
    ]
    return frozenset(those if run_id is None else [*those, Channel("run", str(run_id))])
