"""Sending together what is to be sent at the same time.

Each statement that writes ends in a commit, and each commit waits for the disk. So while some of a tenant's are under way, those that come meanwhile
wait, and then go together in one statement and one commit. Each stays all or nothing for itself: where a group is refused, its members go
alone, and each gets its own answer.

Nobody waits for whom another of them waits for: what meets a lock that somebody keeps for longer than a moment leaves the line, and waits for it
alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeAlias, TypeVar
from uuid import UUID

import asyncpg

from persistence.database.failures import is_transient
from persistence.settings import Settings

Place: TypeAlias = tuple[UUID, UUID]
"""Tenant and user."""

_PATIENCE: Final = "200ms"
"""For a lock, in line."""
_LITTLE_PATIENCE: Final = "20ms"
"""The same, once it is known that one of a group meets one."""

_MOST_EVENTS: Final = 1000
_MOST_BYTES: Final = 1024 * 1024


class Sendable(Protocol):
    """Something with a number of events, and a JSON array of them."""

    @property
    def text(self) -> str: ...

    @property
    def events(self) -> int: ...


I = TypeVar("I", bound=Sendable)  # noqa: E741
A = TypeVar("A")


@dataclass(slots=True)
class _Member(Generic[I, A]):
    item: I
    answer: "asyncio.Future[A]"

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def succeed(self, answer: A) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


@dataclass(slots=True)
class _Line(Generic[I, A]):
    """What one user sends for one tenant: how many are under way, and what waits. is_turning: a group has just been answered, and the next one is
    about to be taken.
    """

    under_way: int = 0
    is_turning: bool = False
    waiting: list[_Member[I, A]] = field(default_factory=list)


class Groups(Generic[I, A]):
    """Lets so many of a tenant and user go at a time; what comes meanwhile goes together."""

    def __init__(self, send: Callable[[Place, Sequence[I], str | None], Awaitable[Sequence[A]]], settings: Settings) -> None:
        """send: sends some together, and returns the answer of each in their order; for a lock it waits no longer than is said, or as long as the
        session does.
        """
        self._together = send
        self._settings = settings
        self._alone = asyncio.Semaphore(max(1, settings.pool_max // 2))  # the others need connections, too
        self._lines: dict[Place, _Line[I, A]] = {}
        self._senders: set[asyncio.Task[None]] = set()

    async def send(self, place: Place, item: I) -> A:
        """Sends it, alone or with others. Returns its answer, or raises what it was refused with."""
        try:
            return await self._send_in_line(place, item)
        except asyncpg.LockNotAvailableError:  # it waits as long as the session does, beside the line
            async with self._alone:
                return (await self._together(place, [item], None))[0]

    async def _send_in_line(self, place: Place, item: I) -> A:
        line = self._lines.setdefault(place, _Line())
        is_free = line.under_way < self._settings.appends_at_once and not line.is_turning
        if is_free or item.events > _MOST_EVENTS:
            line.under_way += 1
            try:
                return (await self._together(place, [item], _PATIENCE))[0]
            finally:
                self._next(place, line)
        member: _Member[I, A] = _Member(item, asyncio.get_running_loop().create_future())
        line.waiting.append(member)
        return await member.answer

    def _next(self, place: Place, line: _Line[I, A]) -> None:
        """One is done: those that wait go together; with nobody waiting, the line closes."""
        group = _group(line.waiting)
        if group:
            sender = asyncio.create_task(self._send_group(place, line, group))
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
            return
        line.under_way -= 1
        if line.under_way == 0:
            self._lines.pop(place, None)

    async def _send_group(self, place: Place, line: _Line[I, A], group: Sequence[_Member[I, A]]) -> None:
        try:
            if len(group) == 1:
                await self._send_one(place, group[0])
                return
            try:
                answers = await self._together(place, [member.item for member in group], _PATIENCE)
            except BaseException as error:
                is_held = isinstance(error, asyncpg.LockNotAvailableError)  # by whom one of them waits for
                if (is_transient(error) and not is_held) or not isinstance(error, Exception):
                    for member in group:
                        member.fail(error)
                    return
                for member in group:
                    await self._send_one(place, member, _LITTLE_PATIENCE if is_held else _PATIENCE)
                return
            for member, answer in zip(group, answers, strict=True):
                member.succeed(answer)
        except BaseException as error:
            for member in group:
                member.fail(error)
            raise
        finally:
            # Those that were answered often have something more to send. They are heard first, and go together again.
            line.is_turning = True
            asyncio.get_running_loop().call_soon(self._turn, place, line)

    def _turn(self, place: Place, line: _Line[I, A]) -> None:
        line.is_turning = False
        self._next(place, line)

    async def _send_one(self, place: Place, member: _Member[I, A], patience: str = _PATIENCE) -> None:
        try:
            [answer] = await self._together(place, [member.item], patience)
        except BaseException as error:
            member.fail(error)
        else:
            member.succeed(answer)


def joined(items: Sequence[Sendable]) -> str:
    """One JSON array of all of them."""
    return items[0].text if len(items) == 1 else "[" + ",".join(item.text[1:-1] for item in items) + "]"


def _group(waiting: list[_Member[I, A]]) -> list[_Member[I, A]]:
    """Takes as many as go together, the first of those that wait first. Who has given up waiting is left out."""
    group: list[_Member[I, A]] = []
    events = size = taken = 0
    for member in waiting:
        events += member.item.events
        size += len(member.item.text)
        if group and (events > _MOST_EVENTS or size > _MOST_BYTES):
            break
        taken += 1
        if not member.answer.done():
            group.append(member)
    del waiting[:taken]
    return group
