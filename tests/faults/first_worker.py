"""What the first release's worker says to the database, kept as it was then. Do not change it: later releases must understand it."""

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import asyncpg

CLAIM = """
SELECT
  tenant_id, id AS effect_id, effect_type, idempotency_key, attempts AS attempt, correlation_id, causation_id, requested_at,
  $2 AS lease_token, payload::text AS payload_text, ordering_key, destination
FROM persistence.claim_outbox($1, $2, $3, $4, $5)
"""
SETTLE = "SELECT persistence.settle_outbox($1, $2, $3, $4, $5, $6, $7::text[]::jsonb[], $8)"
EXTEND = "SELECT persistence.extend_leases($1, $2, $3, $4)"
RELEASE = "SELECT persistence.release_leases($1, $2, $3)"


class FirstWorker:
    """Claims three, hands one back, extends the others, and settles them."""

    def __init__(self, connection: asyncpg.Connection, effect_type: str) -> None:
        self._connection = connection
        self._effect_type = effect_type

    async def drain(self, deliver: Callable[[str], None]) -> int:
        done = 0
        while rows := await self._connection.fetch(CLAIM, "first", uuid4(), [self._effect_type], [3], timedelta(seconds=60)):
            if len(rows) == 3:
                released, rows = rows[-1:], rows[:-1]
                assert await self._connection.fetchval(RELEASE, *_names(released)) == [released[0]["effect_id"]]
            assert len(await self._connection.fetchval(EXTEND, *_names(rows), timedelta(seconds=60))) == len(rows)
            for row in rows:
                deliver(row["idempotency_key"])
            settled = await self._connection.fetchval(
                SETTLE, "system:outbox-worker/first", *_names(rows), [uuid4() for _ in rows], ["EXECUTED"] * len(rows),
                ["null"] * len(rows), [timedelta(0)] * len(rows),
            )  # fmt: skip
            done += len(settled)
        return done


def _names(rows: list[asyncpg.Record]) -> tuple[list[object], list[object], list[object]]:
    return [row["tenant_id"] for row in rows], [row["effect_id"] for row in rows], [row["lease_token"] for row in rows]
