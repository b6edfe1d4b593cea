"""Whether a story is short enough to be told in one piece."""

from typing import Final
from uuid import UUID

from persistence.errors import TooLarge
from persistence.transaction import Transaction

MOST_EVENTS: Final = 20_000

# How many events a correlation has, up to one more than is bearable.
_EVENTS = """
SELECT count(*) AS events
FROM (
  SELECT
  FROM persistence.orchestration_events AS e
  WHERE e.tenant_id = $1
    AND e.correlation_id = $2
  LIMIT $3
) AS e
"""


async def check_size(tx: Transaction, run_id: UUID) -> None:
    """Raises TooLarge for a run whose correlation has more than MOST_EVENTS events, NotFound for one that there is not."""
    run = await tx.runs.get(run_id)
    [row] = await tx.fetch(_EVENTS, tx.context.tenant_id, run.correlation_id, MOST_EVENTS + 1)
    if row["events"] > MOST_EVENTS:
        raise TooLarge(
            f"the story of run {run_id} has more than {MOST_EVENTS} events",
            hint=f"persistence trace --run {run_id} tells it, or read its events page by page",
        )
