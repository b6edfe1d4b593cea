"""What executors record of the runs they have: events and what becomes of the lease, in one call; those of several runs of a tenant together."""

from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar
from uuid import UUID

import asyncpg

from persistence.context import Context
from persistence.database.grouping import Groups, Place
from persistence.database.retry import retried
from persistence.database.signing import proof_of
from persistence.encoding import encode
from persistence.errors import PersistenceError
from persistence.models import NewEvent
from persistence.repositories import EffectRepository, RunRepository, SignalRepository, StepRepository, ToolCallRepository
from persistence.repositories.buffer import EventBuffer
from persistence.settings import Settings
from persistence.telemetry import EVENTS, span

T = TypeVar("T")

Outcome = Literal["KEEP", "WAIT", "END"]

# Records events of runs under lease, and what becomes of each.
_APPEND = """
SELECT a.event_id, a.sequence_number, a.aggregate_id, a.is_new
FROM (SELECT set_config('lock_timeout', coalesce($6, current_setting('lock_timeout')), true) AS patience OFFSET 0) AS p
CROSS JOIN LATERAL persistence.append_turns($1, $2, $3::text::jsonb, $4::text::jsonb, CASE WHEN p.patience IS NOT NULL THEN $5 END) AS a
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """Events of one run, and what becomes of it. text: a JSON array for ``append_turns``; turn: an object for it."""

    text: str
    ids: Sequence[UUID]
    turn: dict[str, Any]

    @property
    def events(self) -> int:
        return len(self.ids)


class TurnBuffer:
    """Commands on a run, to be sent as one turn."""

    def __init__(self, context: Context, settings: Settings) -> None:
        self.context = context
        self.settings = settings
        self._buffer = EventBuffer(context, settings)

    @cached_property
    def runs(self) -> RunRepository:
        return RunRepository(self)

    @cached_property
    def steps(self) -> StepRepository:
        return StepRepository(self)

    @cached_property
    def tool_calls(self) -> ToolCallRepository:
        return ToolCallRepository(self)

    @cached_property
    def effects(self) -> EffectRepository:
        return EffectRepository(self)

    @cached_property
    def signals(self) -> SignalRepository:
        return SignalRepository(self)

    def __bool__(self) -> bool:
        return bool(self._buffer)

    @property
    def asks_for_delivery(self) -> bool:
        return self._buffer.asks_for_delivery

    def record(self, event: NewEvent) -> None:
        self._buffer.add(event)

    def has_begun(self, item_id: UUID) -> bool:
        return item_id in self._buffer.begun

    async def fetch(self, statement: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        raise PersistenceError("a turn does not read")

    def awaited(self, name: str, command: Coroutine[Any, Any, T]) -> Awaitable[T]:
        raise PersistenceError("a turn does not wait")

    async def receive(self, signals: str, count: int) -> Sequence[asyncpg.Record]:
        raise PersistenceError("a turn takes no signals in")

    def sealed(self, run_id: UUID, token: UUID, outcome: Outcome, wakes: int, signals: Sequence[tuple[str, str]]) -> Turn:
        """What is buffered, to be sent."""
        self._buffer.seal()
        batches = self._buffer.sent
        turn: dict[str, Any] = {"run_id": str(run_id), "token": str(token), "outcome": outcome, "wakes": wakes}
        if signals:
            turn["signals"] = [{"type": kind, "key": key} for kind, key in signals]
        if not batches:
            return Turn("[]", (), turn)
        return Turn(batches[0].text, batches[0].ids, turn)  # type: ignore[union-attr]


class TurnAppender:
    """Sends turns, each on its own or with others of its tenant and user."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self._groups: Groups[Turn, Sequence[asyncpg.Record]] = Groups(self._append, settings)

    async def append(self, place: Place, turn: Turn) -> Sequence[asyncpg.Record]:
        """Records a turn and commits. Returns a row an event. Raises LeaseLost: then nothing is kept."""

        async def once() -> Sequence[asyncpg.Record]:
            return await self._groups.send(place, turn)

        rows = await retried(once, self._settings)
        EVENTS.inc(len(rows))
        return rows

    async def _append(self, place: Place, turns: Sequence[Turn], patience: str | None) -> Sequence[Sequence[asyncpg.Record]]:
        events = "[" + ",".join(turn.text[1:-1] for turn in turns if turn.ids) + "]"
        said = encode([turn.turn for turn in turns])
        with span("persistence.turns", tenant_id=str(place[0]), runs=len(turns)):
            async with self._pool.acquire() as connection:
                rows = await connection.fetch(_APPEND, *place, events, said, proof_of(self._settings, *place), patience)
        if len(turns) == 1:
            return [rows]
        by_event = {row["event_id"]: row for row in rows}
        return [[by_event[event_id] for event_id in turn.ids] for turn in turns]
