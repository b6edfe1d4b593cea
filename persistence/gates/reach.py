"""How far back checks have to look: what was looked at once, and was lawful, cannot have changed but by a hand that goes past the database's rules.

A run of the gates over all that is there, and each that goes on where one ended, says so in its event; the next one begins there. It is a whole pass
again where the checks are others, the log is in another epoch, or the last one was red in what could have been confined: what is red stays so
until all is green.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import asyncpg

from persistence.database.failures import DATABASE_ERRORS, translated
from persistence.database.migrator import head_revision
from persistence.database.pool import connected
from persistence.encoding import decode
from persistence.gates.checks import Check
from persistence.settings import Settings

# What this moment's snapshot has seen for certain: transactions before this one, in this epoch of the log.
_PRESENT: Final = """
SELECT
  pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS transaction,
  (SELECT max(e.epoch) FROM canon.log_epochs AS e) AS epoch,
  now() AS moment
"""

# The newest run that said how far it reaches.
_LAST: Final = """
SELECT e.event_data::text
FROM persistence.orchestration_events AS e
WHERE e.tenant_id = persistence.system_tenant_id()
  AND e.aggregate_id = persistence.system_tenant_id()
  AND e.event_type = 'GATES_RUN'
  AND e.event_data ? 'reach'
ORDER BY e.aggregate_version DESC
LIMIT 1
"""

# When the oldest transaction began that a run of that reach may not have seen.
_NEWS: Final = """
SELECT min(n.created_at)
FROM (SELECT t.tenant_id FROM persistence.tenants AS t UNION SELECT persistence.system_tenant_id()) AS t
CROSS JOIN LATERAL (
  SELECT min(e.created_at) AS created_at
  FROM persistence.orchestration_events AS e
  WHERE e.tenant_id = t.tenant_id
    AND e.transaction_id >= $1::bigint::text::xid8
) AS n
"""


@dataclass(frozen=True)
class Reach:
    """What a run has seen, with those that it goes on from: all transactions before ``transaction``, in this epoch, by these checks (a digest)."""

    transaction: int
    epoch: int
    checks: str


async def reach_of(dsn: str, settings: Settings, checks: Sequence[Check]) -> tuple[Reach, datetime | None]:
    """What checks that begin now will have seen, and since when they have to look: None: always.

    dsn: a login with persistence_auditor. Raises one of this package's exceptions.
    """
    try:
        async with connected(dsn, settings) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            [present] = await connection.fetch(_PRESENT)
            reach = Reach(present["transaction"], present["epoch"], _digest(checks))
            former = await _lawful(connection, reach, checks)
            if former is None:
                return reach, None
            return reach, await connection.fetchval(_NEWS, former["transaction"]) or present["moment"]
    except DATABASE_ERRORS as error:
        raise translated(error) from error


async def _lawful(connection: asyncpg.Connection, reach: Reach, checks: Sequence[Check]) -> dict[str, Any] | None:
    """The reach of the last run, if these checks may go on from it."""
    text = await connection.fetchval(_LAST)
    if text is None:
        return None
    run: dict[str, Any] = decode(text)
    former: dict[str, Any] = run["reach"]
    if (former["epoch"], former["checks"]) != (reach.epoch, reach.checks) or former["transaction"] > reach.transaction:
        return None
    broken = {check["id"] for check in run["checks"] if check["verdict"] in {"violated", "failed"}}
    return None if broken & {check.id for check in checks if check.is_confined} else former


def _digest(checks: Sequence[Check]) -> str:
    texts = sorted(f"{check.id} {check.sql}" for check in checks)
    return sha256("\n".join([head_revision(), *texts]).encode()).hexdigest()
