"""What the log has of a run that is taken up again: its steps by their positions, and what has come of what it waits for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from persistence.database.pool import enter_tenant
from persistence.database.retry import retried
from persistence.encoding import decode
from persistence.settings import Settings

# The steps of a run, as far as its flow asks.
STEPS = """
SELECT
  s.id, s.step_index, s.step_type, s.position, s.status, s.version, s.last_event_id, s.retry_count, s.wait_until, s.signal_type, s.signal_key,
  s.started_at, s.input_data::text AS input, coalesce(s.output_result, c.tool_result)::text AS output, s.error_details::text AS error,
  c.id AS call_id, c.status AS call_status, c.version AS call_version, c.last_event_id AS call_event
FROM persistence.steps AS s
LEFT JOIN LATERAL (
  SELECT c.*
  FROM persistence.tool_calls AS c
  WHERE c.tenant_id = s.tenant_id
    AND c.step_id = s.id
    AND starts_with(s.step_type, 'tool:')
  ORDER BY c.id DESC
  LIMIT 1
) AS c ON true
WHERE s.tenant_id = $1
  AND s.run_id = $2
  AND s.position IS NOT NULL
ORDER BY s.step_index
"""

# A run as it is.
RUN = "SELECT r.status, r.version, r.last_event_id FROM persistence.runs AS r WHERE r.tenant_id = $1 AND r.id = $2"

# What has come of the effects and children that a run waits for.
OUTCOMES = """
SELECT 'EFFECT' AS kind, true AS is_ours, e.id, e.step_id, e.status, e.version, e.last_event_id, e.execution_result::text AS output,
e.error_details::text AS error FROM persistence.effects AS e
WHERE e.tenant_id = $1
  AND e.step_id = ANY ($2::uuid[])
UNION ALL
SELECT 'EFFECT', false, e.id, k.step_id, e.status, e.version, e.last_event_id, e.execution_result::text, e.error_details::text
FROM unnest($3::uuid[], $4::text[]) AS k (step_id, idempotency_key)
JOIN persistence.outbox_events AS o ON o.tenant_id = $1 AND o.idempotency_key = k.idempotency_key
JOIN persistence.effects AS e ON e.tenant_id = $1 AND e.id = o.id
WHERE e.step_id IS DISTINCT FROM k.step_id
UNION ALL
SELECT 'RUN', true, r.id, NULL, r.status, r.version, r.last_event_id, r.output_result::text, r.error_details::text
FROM persistence.runs AS r
WHERE r.tenant_id = $1
  AND r.id = ANY ($5::uuid[])
"""

# Signals that were received and not given to anybody, the oldest first.
SIGNALS = """
SELECT s.id, s.signal_type, s.signal_key, s.version, s.correlation_id, s.last_event_id, s.payload::text AS payload
FROM unnest($2::text[], $3::text[]) AS w (signal_type, signal_key)
CROSS JOIN LATERAL (
  SELECT s.*
  FROM persistence.signals AS s
  WHERE s.tenant_id = $1
    AND s.signal_type = w.signal_type
    AND s.signal_key = w.signal_key
    AND s.status = 'RECEIVED'
  ORDER BY s.id
  LIMIT 100
) AS s
"""


@dataclass(slots=True)
class Seen:
    """A step as the log has it."""

    id: UUID
    index: int
    step_type: str
    status: str
    version: int
    last_event_id: UUID
    input: Any
    output: Any
    error: dict[str, Any] | None
    retry_count: int = 0
    wait_until: datetime | None = None
    started_at: datetime | None = None
    call: tuple[UUID, str, int, UUID] | None = None


@dataclass(frozen=True, slots=True)
class Came:
    """What came of an effect or of a child."""

    id: UUID
    status: str
    version: int
    last_event_id: UUID
    output: Any
    error: dict[str, Any] | None
    is_ours: bool = True


@dataclass(frozen=True, slots=True)
class Told:
    """A signal that nobody was given yet."""

    id: UUID
    signal_type: str
    signal_key: str
    version: int
    correlation_id: UUID
    last_event_id: UUID
    payload: Any


@dataclass(slots=True)
class Facts:
    """What has come since. by_step: effects; by_run: children."""

    by_step: dict[UUID, Came] = field(default_factory=dict)
    by_run: dict[UUID, Came] = field(default_factory=dict)
    signals: dict[tuple[str, str], list[Told]] = field(default_factory=dict)


class Historian:
    """Reads what the log has of runs, each in its tenant."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings

    async def steps(self, tenant_id: UUID, run_id: UUID) -> dict[str, Seen]:
        """Its steps by their positions."""
        [rows] = await self._read(tenant_id, (STEPS, (tenant_id, run_id)))
        return {row["position"]: _seen(row) for row in rows}

    async def run(self, tenant_id: UUID, run_id: UUID) -> tuple[str, int, UUID]:
        """Its status, version and last event."""
        [[row]] = await self._read(tenant_id, (RUN, (tenant_id, run_id)))
        return row["status"], row["version"], row["last_event_id"]

    async def facts(
        self,
        tenant_id: UUID,
        *,
        effects: Sequence[tuple[UUID, str]],
        children: Sequence[UUID],
        signals: Sequence[tuple[str, str]],
    ) -> Facts:
        """What has come. effects: those of these steps, with their keys; children: their ids; signals: their types and keys."""
        steps, keys = [step for step, _ in effects], [key for _, key in effects]
        questions: list[tuple[str, tuple[Any, ...]]] = []
        if effects or children:
            questions.append((OUTCOMES, (tenant_id, steps, steps, keys, list(children))))
        if signals:
            questions.append((SIGNALS, (tenant_id, [kind for kind, _ in signals], [key for _, key in signals])))
        facts = Facts()
        for rows in await self._read(tenant_id, *questions):
            for row in rows:
                if "payload" in row.keys():  # noqa: SIM118  a record is no mapping
                    values = {**row, "payload": decode(row["payload"])}
                    facts.signals.setdefault((row["signal_type"], row["signal_key"]), []).append(Told(**values))
                    continue
                came = Came(
                    row["id"],
                    row["status"],
                    row["version"],
                    row["last_event_id"],
                    decode(row["output"]),
                    decode(row["error"]),
                    row["is_ours"],
                )
                if row["kind"] == "RUN":
                    facts.by_run[came.id] = came
                else:
                    facts.by_step.setdefault(row["step_id"], came)
        return facts

    async def _read(self, tenant_id: UUID, *questions: tuple[str, tuple[Any, ...]]) -> list[Sequence[asyncpg.Record]]:
        if not questions:
            return []

        async def once() -> list[Sequence[asyncpg.Record]]:
            async with self._pool.acquire() as connection, connection.transaction(readonly=True):
                await enter_tenant(connection, self._settings, tenant_id, self._settings.service_user)
                return [await connection.fetch(statement, *arguments) for statement, arguments in questions]

        return await retried(once, self._settings)


def _seen(row: asyncpg.Record) -> Seen:
    call = None if row["call_id"] is None else (row["call_id"], row["call_status"], row["call_version"], row["call_event"])
    return Seen(
        row["id"],
        row["step_index"],
        row["step_type"],
        row["status"],
        row["version"],
        row["last_event_id"],
        decode(row["input"]),
        decode(row["output"]),
        decode(row["error"]),
        row["retry_count"],
        row["wait_until"],
        row["started_at"],
        call,
    )
