"""What writes: appending events, and taking signals in."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

from persistence.database.grouping import Groups, Place, joined
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

# The same, waiting for a lock no longer than is said.
_APPEND_IN_LINE = """
SELECT a.event_id, a.sequence_number, a.aggregate_id, a.is_new
FROM (SELECT set_config('lock_timeout', coalesce($5, current_setting('lock_timeout')), true) AS patience OFFSET 0) AS p
CROSS JOIN LATERAL persistence.append_events($1, $2, $3::text::jsonb, CASE WHEN p.patience IS NOT NULL THEN $4 END) AS a
"""

# The same, and wakes the workers with the same commit.
_APPEND_AND_WAKE = """
WITH appended AS MATERIALIZED (
  SELECT a.event_id, a.sequence_number, a.aggregate_id, a.is_new
  FROM (SELECT set_config('lock_timeout', coalesce($5, current_setting('lock_timeout')), true) AS patience OFFSET 0) AS p
  CROSS JOIN LATERAL persistence.append_events($1, $2, $3::text::jsonb, CASE WHEN p.patience IS NOT NULL THEN $4 END) AS a
),
woken AS MATERIALIZED (
  SELECT pg_notify($6, '') FROM appended LIMIT 1
)
SELECT a.event_id, a.sequence_number, a.aggregate_id, a.is_new
FROM appended AS a
CROSS JOIN woken
"""

# Receives a batch; known signals are answered with what is there.
_RECEIVE = """
SELECT position_in_batch, id, correlation_id, status, version, last_event_id, received_at, is_new
FROM persistence.receive_signals($1, $2, $3::text::jsonb, $4)
ORDER BY position_in_batch
"""

# The same, waiting for a lock no longer than is said.
_RECEIVE_IN_LINE = """
SELECT r.position_in_batch, r.id, r.correlation_id, r.status, r.version, r.last_event_id, r.received_at, r.is_new
FROM (SELECT set_config('lock_timeout', coalesce($5, current_setting('lock_timeout')), true) AS patience OFFSET 0) AS p
CROSS JOIN LATERAL persistence.receive_signals($1, $2, $3::text::jsonb, CASE WHEN p.patience IS NOT NULL THEN $4 END) AS r
ORDER BY r.position_in_batch
"""

Rows: TypeAlias = Sequence[asyncpg.Record]


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one transaction. text: a JSON array for ``append_events``; ids: of the events, as they stand in it; wakes: whether there is
    something to deliver among them; may_wait: whether it may have to wait for somebody's open transaction (ordering keys, cancellations).
    """

    text: str
    ids: Sequence[UUID]
    wakes: bool
    may_wait: bool

    @property
    def events(self) -> int:
        return len(self.ids)


@dataclass(slots=True)
class Reception:
    """Signals that are taken in. text: a JSON array for ``receive_signals``; events: how many; answers: a row a signal, as soon as there are any."""

    text: str
    events: int
    answers: Rows | None = None


async def append(connection: Any, place: Place, text: str, proof: str | None) -> Rows:
    """Appends a batch in the transaction of this connection; a row an event. proof: see ``proof_of``."""
    with span("persistence.append", tenant_id=str(place[0]), bytes=len(text)):
        rows: Rows = await connection.fetch(_APPEND, *place, text, proof)
        return rows


async def receive(connection: Any, place: Place, reception: Reception, proof: str | None) -> None:
    """Takes signals in on this connection. Raises Conflict when they were taken in before and are answered otherwise now."""
    answers: Rows = await connection.fetch(_RECEIVE, *place, reception.text, proof)
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
        self._groups: Groups[Batch, Rows] = Groups(self._append, settings)

    async def append(self, place: Place, batch: Batch) -> Rows:
        """Appends and commits. Returns a row an event."""
        if batch.may_wait:  # nobody else shall wait with it
            return (await self._append(place, [batch], None))[0]
        return await self._groups.send(place, batch)

    async def _append(self, place: Place, batches: Sequence[Batch], patience: str | None) -> Sequence[Rows]:
        wakes = any(batch.wakes for batch in batches)
        with_commit = wakes and self._bell.takes_turn()
        text = joined(batches)
        arguments = (*place, text, proof_of(self._settings, *place), patience)
        with span("persistence.append", tenant_id=str(place[0]), bytes=len(text)):
            async with self._pool.acquire() as connection:
                if with_commit:
                    rows = await connection.fetch(_APPEND_AND_WAKE, *arguments, CHANNEL)
                else:
                    rows = await connection.fetch(_APPEND_IN_LINE, *arguments)
        if wakes and not with_commit:
            self._bell.ring()
        if len(batches) == 1:
            return [rows]
        by_event = {row["event_id"]: row for row in rows}
        return [[by_event[event_id] for event_id in batch.ids] for batch in batches]


class Receiver:
    """Takes signals in and commits, each caller's on their own or with others' of the same tenant and user."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self._groups: Groups[Reception, Rows] = Groups(self._receive, settings)

    async def receive(self, place: Place, reception: Reception) -> Rows:
        """A row a signal, in their order."""
        return await self._groups.send(place, reception)

    async def _receive(self, place: Place, receptions: Sequence[Reception], patience: str | None) -> Sequence[Rows]:
        arguments = (*place, joined(receptions), proof_of(self._settings, *place), patience)
        async with self._pool.acquire() as connection:
            rows = iter(await connection.fetch(_RECEIVE_IN_LINE, *arguments))
        return [list(islice(rows, reception.events)) for reception in receptions]
