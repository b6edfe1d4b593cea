"""The database's side of the outbox: claim, settle, extend, release."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

import asyncpg

from persistence.context import WORKERS
from persistence.database.retry import fetched
from persistence.models import new_id
from persistence.outbox.breaker import DestinationReport
from persistence.outbox.delivery import Delivery, SecretReader
from persistence.settings import Settings
from persistence.telemetry import CLAIMED, LEASES_LOST, OUTCOMES, SETTLED, span

# Leases due entries, for each type up to its limit, fairly among tenants.
_CLAIM = """
SELECT
  tenant_id, id AS effect_id, effect_type, idempotency_key, attempts AS attempt, correlation_id, causation_id, requested_at,
  $2 AS lease_token, payload::text AS payload_text, ordering_key, destination, traceparent, is_suspect,
  was_lost
FROM persistence.claim_outbox($1, $2, $3, $4, $5)
"""

# Settles entries that are still leased under these tokens; returns their ids.
_SETTLE = "SELECT persistence.settle_outbox($1, $2, $3, $4, $5, $6, $7::text[]::jsonb[], $8)"

# Prolongs leases; returns the ids of those that are still ours, and of those that were cancelled.
_EXTEND = "SELECT persistence.extend_leases($1, $2, $3, $4) AS ours, persistence.cancelled_leases($1, $2, $3) AS cancelled"

# Hands back what was not begun; returns the ids.
_RELEASE = "SELECT persistence.release_leases($1, $2, $3, $4)"

# Gives the next entry of ordering keys its turn.
_ADVANCE = "SELECT persistence.advance_keys($1, $2)"

# Looks at all that is queued of some types; false when another worker is at it.
_SWEEP = "SELECT persistence.sweep_outbox($1)"

# Whether anything is pending of some types that does not wait for a person.
_HAS_PENDING = "SELECT persistence.has_pending($1)"

# Gives turns to ordering keys that lost theirs; how many.
_SWEEP_KEYS = "SELECT persistence.sweep_keys()"

# Effect types with work that nobody took for a while, besides those that are known.
_UNKNOWN = "SELECT persistence.unknown_types($1, $2)"

# Tells how destinations answered; returns those that rest now.
_REPORT = "SELECT persistence.report_destinations($1, $2, $3, $4, $5, $6)"

Outcome = Literal["EXECUTED", "FAILED", "DEAD", "BLOCKED"]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What came of an attempt.

    outcome: see settle_outbox. detail: JSON text, the result or the error. delay: seconds until the next attempt of a failed one.
    answered: whether the destination gave an answer, be it a refusal; None: it was not asked.
    """

    delivery: Delivery
    outcome: Outcome
    detail: str
    delay: float = 0.0
    answered: bool | None = True


class OutboxQueue:
    """Entries of all tenants, as a worker sees them. Its login needs persistence_worker."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, worker: str, secrets: SecretReader | None = None) -> None:
        self._pool = pool
        self._secrets = secrets
        self._settings = settings
        self._worker = worker

    async def claim(self, limits: Mapping[str, int], lease: float) -> list[Delivery]:
        """Leases due entries for ``lease`` seconds, at most ``limits[effect_type]`` of each type."""
        # Not retried: a claim whose answer was lost costs its entries an attempt, once their leases have run out. A second one would cost more.
        with span("persistence.claim", worker=self._worker):
            async with self._pool.acquire() as connection:
                rows = await connection.fetch(
                    _CLAIM, self._worker, new_id(), list(limits), list(limits.values()), timedelta(seconds=lease)
                )
        deliveries = [Delivery(**row, secrets=self._secrets) for row in rows]
        for effect_type, number in Counter(delivery.effect_type for delivery in deliveries).items():
            CLAIMED.labels(effect_type).inc(number)
        return deliveries

    async def settle(self, settlements: Sequence[Settlement]) -> set[UUID]:
        """Records what came of attempts. Returns the effects that were settled; the others had lost their lease."""
        # Always in one order, so that two statements over the same entries wait for each other, and never both.
        settlements = sorted(settlements, key=lambda settlement: settlement.delivery.effect_id)
        deliveries = [settlement.delivery for settlement in settlements]
        event_ids = [new_id() for _ in settlements]
        with span("persistence.settle", worker=self._worker, entries=len(settlements)):
            settled = await self._call(
                _SETTLE,
                f"{WORKERS}{self._worker}"[:100],
                [delivery.tenant_id for delivery in deliveries],
                [delivery.effect_id for delivery in deliveries],
                [delivery.lease_token for delivery in deliveries],
                event_ids,
                [settlement.outcome for settlement in settlements],
                [settlement.detail for settlement in settlements],
                [timedelta(seconds=settlement.delay) for settlement in settlements],
            )
        _count(settlements, settled)
        return settled

    async def extend(self, deliveries: Sequence[Delivery], lease: float) -> set[UUID]:
        """Prolongs leases to ``lease`` seconds from now. Returns the effects that are still ours, and tells the deliveries that were cancelled."""
        [row] = await fetched(self._pool, self._settings, _EXTEND, *_names(deliveries), timedelta(seconds=lease))
        for delivery in deliveries:
            if delivery.effect_id in row["cancelled"]:
                delivery.cancelled.set()
        return set(row["ours"])

    async def release(self, deliveries: Sequence[Delivery], delays: Sequence[float] = ()) -> set[UUID]:
        """Hands back entries; the attempt does not count. delays: seconds after which each is due again; at once, where nothing is said."""
        after = dict(zip((delivery.effect_id for delivery in deliveries), delays, strict=False))
        tenants, ids, tokens = _names(deliveries)
        return await self._call(_RELEASE, tenants, ids, tokens, [timedelta(seconds=after.get(effect_id, 0.0)) for effect_id in ids])

    async def advance_keys(self, keys: Collection[tuple[UUID, str]]) -> None:
        """Gives the next entry of these tenants' ordering keys its turn."""
        names = sorted(keys)
        await fetched(self._pool, self._settings, _ADVANCE, [tenant for tenant, _ in names], [key for _, key in names])

    async def sweep(self, effect_types: Sequence[str]) -> bool:
        """Sees where the work begins, and gives turns that were lost. False when another worker is at the first."""
        rows = await fetched(self._pool, self._settings, _SWEEP, list(effect_types))
        await fetched(self._pool, self._settings, _SWEEP_KEYS)
        swept: bool = rows[0][0]
        return swept

    async def has_pending(self, effect_types: Sequence[str]) -> bool:
        """Whether something of these types will still be due, or is under somebody's lease."""
        rows = await fetched(self._pool, self._settings, _HAS_PENDING, list(effect_types))
        found: bool = rows[0][0]
        return found

    async def unknown_types(self, known: Sequence[str], grace: float) -> list[str]:
        """Effect types besides ``known`` with entries that have been due for more than ``grace`` seconds."""
        rows = await fetched(self._pool, self._settings, _UNKNOWN, list(known), timedelta(seconds=grace))
        return list(rows[0][0])

    async def report(self, reports: Sequence[DestinationReport]) -> list[str]:
        """Tells how destinations answered. Returns those that rest now."""
        rows = await fetched(
            self._pool,
            self._settings,
            _REPORT,
            [report.tenant_id for report in reports],
            [report.destination for report in reports],
            [report.answered for report in reports],
            [report.failures for report in reports],
            [report.breaker.failures for report in reports],
            [timedelta(seconds=report.breaker.rest) for report in reports],
        )
        return list(rows[0][0])

    async def _call(self, statement: str, *arguments: Any) -> set[UUID]:
        rows = await fetched(self._pool, self._settings, statement, *arguments)
        return set(rows[0][0])


def _count(settlements: Sequence[Settlement], settled: Collection[UUID]) -> None:
    done = Counter((s.delivery.effect_type, s.outcome if s.delivery.effect_id in settled else None) for s in settlements)
    for (effect_type, outcome), number in done.items():
        if outcome is None:
            LEASES_LOST.labels(effect_type).inc(number)
        else:
            SETTLED.labels(effect_type, OUTCOMES[outcome]).inc(number)


def _names(deliveries: Sequence[Delivery]) -> tuple[list[UUID], list[UUID], list[UUID]]:
    deliveries = sorted(deliveries, key=lambda delivery: delivery.effect_id)
    return (
        [delivery.tenant_id for delivery in deliveries],
        [delivery.effect_id for delivery in deliveries],
        [delivery.lease_token for delivery in deliveries],
    )
