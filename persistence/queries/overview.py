"""How a tenant is doing: what happened in the last minutes, how its runs stand, which types of runs are slow or fail."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from persistence.canon import CANON
from persistence.models import Model, Run, first_id_at, made_at
from persistence.transaction import Transaction

MOST: Final = 10_000
"""Counting ends here: "10,000 or more" is as good as the number."""
RECENT_RUNS: Final = 2_000
_MOST_EVENTS: Final = 20_000
_WINDOW: Final = timedelta(minutes=1)

# The newest events since a moment, by type, and the first of them. Ids carry the time they were made at.
_EVENTS = """
SELECT e.event_type, count(*) AS events, min(e.id::text)::uuid AS first_id
FROM (
  SELECT e.event_type, e.id
  FROM persistence.orchestration_events AS e
  WHERE e.tenant_id = $1
    AND e.id >= $2
  ORDER BY e.id DESC
  LIMIT $3
) AS e
GROUP BY e.event_type
"""

# How many runs have each status, up to a limit each.
_STATUSES = """
SELECT s.status, (
  SELECT count(*)
  FROM (
    SELECT
    FROM persistence.runs AS r
    WHERE r.tenant_id = $1
      AND r.status = s.status
    LIMIT $3
  ) AS counted
) AS runs
FROM unnest($2::text[]) AS s (status)
"""

# The newest runs by type: how many failed, and how long they took.
_TYPES = """
SELECT
  r.run_type, count(*) AS runs, count(*) FILTER (WHERE r.status = 'FAILED') AS failed,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM r.completed_at - r.started_at))::double precision AS median_seconds,
  percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM r.completed_at - r.started_at))::double precision AS p95_seconds
FROM (
  SELECT r.run_type, r.status, r.started_at, r.completed_at
  FROM persistence.runs AS r
  WHERE r.tenant_id = $1
  ORDER BY r.id DESC
  LIMIT $2
) AS r
GROUP BY r.run_type
ORDER BY failed DESC, p95_seconds DESC NULLS LAST, r.run_type
LIMIT 50
"""


class TypeSummary(Model):
    """The newest runs of one type: how many, how many failed, and how long those that ended took, in seconds."""

    run_type: str
    runs: int
    failed: int
    median_seconds: float | None
    p95_seconds: float | None


class Overview(Model):
    """at: the moment of it. events: by type, in the ``seconds`` before: a minute, or less where very much happens. runs: by status,
    counted up to MOST. types: of the newest RECENT_RUNS runs.
    """

    at: datetime
    seconds: float
    events: Mapping[str, int]
    runs: Mapping[str, int]
    types: Sequence[TypeSummary]

    @property
    def events_a_second(self) -> float:
        return sum(self.events.values()) / self.seconds


async def overview(tx: Transaction) -> Overview:
    """How the tenant is doing."""
    now = datetime.now(UTC)
    tenant_id = tx.context.tenant_id
    events = await tx.fetch(_EVENTS, tenant_id, first_id_at(now - _WINDOW), _MOST_EVENTS)
    statuses = await tx.fetch(_STATUSES, tenant_id, list(CANON.aggregates[Run.kind].statuses), MOST)
    types = await tx.fetch(_TYPES, tenant_id, RECENT_RUNS)
    seconds = _WINDOW.total_seconds()
    if sum(row["events"] for row in events) == _MOST_EVENTS:
        seconds = max(0.001, now.timestamp() - min(made_at(row["first_id"]) for row in events))
    return Overview(
        at=now,
        seconds=seconds,
        events={row["event_type"]: row["events"] for row in events},
        runs={row["status"]: row["runs"] for row in statuses},
        types=[TypeSummary.made(**row) for row in types],
    )
