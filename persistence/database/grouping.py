"""Appending together what is to be appended at the same time.

Each append ends in a commit, and each commit waits for the disk. So while some appends of a tenant are under way, those that come meanwhile wait, and
then go together in one statement and one commit. Each transaction stays all or nothing for itself: where a group is refused, its members go
alone, and each gets its own answer.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg

from persistence.database.failures import is_transient
from persistence.database.signing import proof_of
from persistence.database.wake import CHANNEL, Bell
from persistence.errors import Conflict
from persistence.settings import Settings
from persistence.telemetry import span

# Appends a batch of events and folds it, all or nothing.
_APPEND = """
SELECT event_id, sequence_number, aggregate_id, is_new
FROM persistence.append_events($1, $2, $3::text::jsonb, $4)
"""

# The same, and wakes the workers with the same commit.
_APPEND_AND_WAKE = """
WITH appended AS MATERIALIZED (
  SELECT event_id, sequence_number, aggregate_id, is_new
  FROM persistence.append_events($1, $2, $3::text::jsonb, $4)
),
woken AS MATERIALIZED (
  SELECT pg_notify($5, '') FROM appended LIMIT 1
)
SELECT a.event_id, a.sequence_number, a.aggregate_id, a.is_new
FROM appended AS a
CROSS JOIN woken
"""

# Receives a batch; known signals are answered with what is there.
_RECEIVE = """
SELECT position_in_batch, id, correlation_id, status, version, last_event_id, received_at, is_new
FROM persistence.receive_signals($1, $2, $3::text::jsonb)
ORDER BY position_in_batch
"""

_MOST_EVENTS = 1000
_MOST_BYTES = 1024 * 1024

Rows = Sequence[asyncpg.Record]


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one transaction. text: a JSON array for ``append_events``; ids: of the events, as they stand in it; wakes: whether there is
    something to deliver among them; may_wait: whether it may have to wait for somebody's open transaction (ordering keys, cancellations).
    """

    text: str
    ids: Sequence[UUID]
    wakes: bool
    may_wait: bool


@dataclass(slots=True)
class Reception:
    """Signals that are taken in. text: a JSON array for ``receive_signals``; answers: a row a signal, as soon as there are any."""

    text: str
    answers: Rows | None = None


@dataclass(slots=True)
class _Member:
    batch: Batch
    answer: asyncio.Future[Rows]


@dataclass(slots=True)
class _Line:
    """The appends of one user for one tenant: how many are under way, and what waits. is_turning: a group has just been answered, and the
    next one is about to be taken.
    """

    under_way: int = 0
    is_turning: bool = False
    waiting: list[_Member] = field(default_factory=list)


async def append(connection: Any, tenant_id: UUID, user_id: UUID, text: str, proof: str | None, *, wake: bool = False) -> Rows:
    """Appends a batch on this connection; a row an event. proof: see ``proof_of``. wake: tells the workers with the commit."""
    arguments = (tenant_id, user_id, text, proof)
    with span("persistence.append", tenant_id=str(tenant_id), bytes=len(text)):
        if wake:
            woken: Rows = await connection.fetch(_APPEND_AND_WAKE, *arguments, CHANNEL)
            return woken
        rows: Rows = await connection.fetch(_APPEND, *arguments)
        return rows


async def receive(connection: Any, tenant_id: UUID, user_id: UUID, reception: Reception) -> None:
    """Takes signals in on this connection. Raises Conflict when they were taken in before and are answered otherwise now."""
    answers: Rows = await connection.fetch(_RECEIVE, tenant_id, user_id, reception.text)
    if reception.answers is not None and [row["id"] for row in answers] != [row["id"] for row in reception.answers]:
        raise Conflict(
            "the connection was lost, and meanwhile somebody else received one of these signals", hint="repeat the transaction"
        )
    if reception.answers is None:
        reception.answers = answers


class Appender:
    """Appends whole transactions, each on its own or with others of its tenant and user."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, bell: Bell) -> None:
        self._pool = pool
        self._bell = bell
        self._settings = settings
        self._lines: dict[tuple[UUID, UUID], _Line] = {}
        self._senders: set[asyncio.Task[None]] = set()

    async def append(self, tenant_id: UUID, user_id: UUID, batch: Batch) -> Rows:
        """Appends and commits. Returns a row an event."""
        place = tenant_id, user_id
        if batch.may_wait:  # nobody else shall wait with it
            return await self._send(place, batch.text, wakes=batch.wakes)
        line = self._lines.setdefault(place, _Line())
        is_free = line.under_way < self._settings.appends_at_once and not line.is_turning
        if is_free or len(batch.ids) > _MOST_EVENTS:
            line.under_way += 1
            try:
                return await self._send(place, batch.text, wakes=batch.wakes)
            finally:
                self._next(place, line)
        member = _Member(batch, asyncio.get_running_loop().create_future())
        line.waiting.append(member)
        return await member.answer

    def _next(self, place: tuple[UUID, UUID], line: _Line) -> None:
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

    async def _send_group(self, place: tuple[UUID, UUID], line: _Line, group: Sequence[_Member]) -> None:
        try:
            if len(group) == 1:
                await self._send_alone(place, group[0])
                return
            try:
                text = "[" + ",".join(member.batch.text[1:-1] for member in group) + "]"
                rows = await self._send(place, text, wakes=any(member.batch.wakes for member in group))
            except BaseException as error:
                if is_transient(error) or not isinstance(error, Exception):
                    for member in group:
                        _fail(member, error)
                    return
                for member in group:
                    await self._send_alone(place, member)
                return
            owners = {event_id: member for member in group for event_id in member.batch.ids}
            answers: dict[int, list[asyncpg.Record]] = {id(member): [] for member in group}
            for row in rows:
                answers[id(owners[row["event_id"]])].append(row)
            for member in group:
                if not member.answer.done():
                    member.answer.set_result(answers[id(member)])
        except BaseException as error:
            for member in group:
                _fail(member, error)
            raise
        finally:
            # Those that were answered often have something more to append. They are heard first, and go together again.
            line.is_turning = True
            asyncio.get_running_loop().call_soon(self._turn, place, line)

    def _turn(self, place: tuple[UUID, UUID], line: _Line) -> None:
        line.is_turning = False
        self._next(place, line)

    async def _send_alone(self, place: tuple[UUID, UUID], member: _Member) -> None:
        try:
            rows = await self._send(place, member.batch.text, wakes=member.batch.wakes)
        except BaseException as error:
            _fail(member, error)
        else:
            if not member.answer.done():
                member.answer.set_result(rows)

    async def _send(self, place: tuple[UUID, UUID], text: str, *, wakes: bool) -> Rows:
        with_commit = wakes and self._bell.takes_turn()
        async with self._pool.acquire() as connection:
            rows = await append(connection, *place, text, proof_of(self._settings, *place), wake=with_commit)
        if wakes and not with_commit:
            self._bell.ring()
        return rows


def _group(waiting: list[_Member]) -> list[_Member]:
    """Takes as many as go together, the first of those that wait first. Who has given up waiting is left out."""
    group: list[_Member] = []
    events = size = taken = 0
    for member in waiting:
        events += len(member.batch.ids)
        size += len(member.batch.text)
        if group and (events > _MOST_EVENTS or size > _MOST_BYTES):
            break
        taken += 1
        if not member.answer.done():
            group.append(member)
    del waiting[:taken]
    return group


def _fail(member: _Member, error: BaseException) -> None:
    if not member.answer.done():
        member.answer.set_exception(error)
