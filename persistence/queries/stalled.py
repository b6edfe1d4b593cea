"""What does not get on: runs under way in which nothing has happened for a while, and tool calls that nobody ended."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from persistence.errors import InvalidInput
from persistence.models import Model
from persistence.transaction import Transaction

QUIET: Final = timedelta(hours=1)
"""From here on silence is worth a look, unless one says otherwise."""
MOST_LOOKED_AT: Final = 10_000
"""So many runs of a status are looked at, the oldest first."""
_AT_ONCE: Final = 1000

# Runs in which nothing has moved since a moment: neither they, nor a step, tool call or effect of theirs. Where a child run is open, that one
# is looked at instead.
_RUNS = """
SELECT 'RUN' AS kind, r.id AS run_id, r.run_type, r.status, r.actor, r.wait_reason, NULL::uuid AS tool_call_id, NULL AS tool_name, moved.moved_at
FROM (
  SELECT r.tenant_id, r.id, r.run_type, r.status, r.actor, r.wait_reason, r.updated_at
  FROM persistence.runs AS r
  WHERE r.tenant_id = $1
    AND r.status = ANY ($2)
  ORDER BY r.id
  LIMIT $5
) AS r
CROSS JOIN LATERAL (
  SELECT greatest(
    r.updated_at,
    (SELECT max(s.updated_at) FROM persistence.steps AS s WHERE s.tenant_id = $1 AND s.run_id = r.id),
    (SELECT max(c.updated_at) FROM persistence.tool_calls AS c WHERE c.tenant_id = $1 AND c.run_id = r.id),
    (SELECT max(e.updated_at) FROM persistence.effects AS e WHERE e.tenant_id = $1 AND e.run_id = r.id)
  ) AS moved_at
) AS moved
WHERE r.updated_at < $3
  AND moved.moved_at < $3
  AND NOT EXISTS (
    SELECT
    FROM persistence.runs AS child
    WHERE child.tenant_id = $1
      AND child.parent_run_id = r.id
      AND child.status IN ('RUNNING', 'WAITING')
  )
ORDER BY moved.moved_at
LIMIT $4
"""

# Tool calls of open runs that began before a moment and have not ended.
_TOOL_CALLS = """
SELECT
  'TOOL_CALL' AS kind, r.id AS run_id, r.run_type, c.status, c.actor, NULL AS wait_reason, c.id AS tool_call_id, c.tool_name,
  c.updated_at AS moved_at
FROM (
  SELECT r.id, r.run_type
  FROM persistence.runs AS r
  WHERE r.tenant_id = $1
    AND r.status = ANY ($2)
  ORDER BY r.id
  LIMIT $5
) AS r
JOIN persistence.tool_calls AS c ON c.tenant_id = $1 AND c.run_id = r.id
WHERE c.status IN ('PENDING', 'RUNNING')
  AND c.updated_at < $3
ORDER BY c.updated_at
LIMIT $4
"""


class Stalled(Model):
    """A run, or a tool call of one, without progress. moved_at: when something happened in it last. actor: who moved it last."""

    kind: Literal["RUN", "TOOL_CALL"]
    run_id: UUID
    run_type: str
    status: str
    actor: str
    wait_reason: str | None
    tool_call_id: UUID | None
    tool_name: str | None
    moved_at: datetime
    seconds: float


async def stalled(tx: Transaction, quiet: timedelta = QUIET, *, waiting: bool = False, limit: int = 50) -> Sequence[Stalled]:
    """What has not got on for ``quiet``, the longest silence first; at most ``limit`` (1 to 1000) runs and as many tool calls.

    waiting: runs that were suspended, too. They wait for somebody, and say for what. Raises InvalidInput.
    """
    if not 1 <= limit <= _AT_ONCE:
        raise InvalidInput(f"limit: {limit} is not between 1 and {_AT_ONCE}", field="limit")
    if quiet < timedelta(0):
        raise InvalidInput("quiet: is less than nothing", field="quiet")
    now = datetime.now(UTC)
    statuses = ["RUNNING", "WAITING"] if waiting else ["RUNNING"]
    rows = [
        *await tx.fetch(_RUNS, tx.context.tenant_id, statuses, now - quiet, limit, MOST_LOOKED_AT),
        *await tx.fetch(_TOOL_CALLS, tx.context.tenant_id, ["RUNNING", "WAITING"], now - quiet, limit, MOST_LOOKED_AT),
    ]
    return [Stalled.made(**row, seconds=(now - row["moved_at"]).total_seconds()) for row in rows]
