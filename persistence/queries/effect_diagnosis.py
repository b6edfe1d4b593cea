"""Why an effect has happened, or has not happened yet: in one sentence, with what to do next."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from persistence.models import Effect, Event, Model
from persistence.queries.dead_letters import attempts_of
from persistence.queries.words import error_text
from persistence.transaction import Transaction

_UNATTENDED = timedelta(minutes=5)
_UNSEEN: Final = timedelta(seconds=30)
"""So long it may take until a worker is first seen with a new type."""
"""Workers say at least every minute which types they handle."""

# Where an entry stands in the work list, with what may keep it there; no row: the work list does not have it.
_STANDING = """
SELECT
  now() AS moment, q.due_at, q.leased_until, q.leased_by, q.attempts, q.held_by, q.ordering_key, q.destination, q.priority, s.handled_at,
  d.open_until, d.failures,
  (
    SELECT k.id
    FROM persistence.outbox_queue AS k
    WHERE q.held_by = 'KEY'
      AND k.tenant_id = q.tenant_id
      AND k.ordering_key = q.ordering_key
      AND k.position < q.position
    ORDER BY k.position
    LIMIT 1
  ) AS waits_for
FROM persistence.outbox_queue AS q
LEFT JOIN persistence.outbox_streams AS s ON s.tenant_id = q.tenant_id AND s.effect_type = q.effect_type
LEFT JOIN persistence.outbox_destinations AS d ON d.tenant_id = q.tenant_id AND d.destination = q.destination
WHERE q.tenant_id = $1
  AND q.id = $2
"""

# Limits that hold for an effect type of a tenant.
_LIMITS = """
SELECT l.effect_type, l.max_concurrency, l.max_rate
FROM persistence.outbox_limits AS l
WHERE l.tenant_id = $1
  AND l.effect_type IN ($2, '*')
  AND (l.max_concurrency IS NOT NULL OR l.max_rate IS NOT NULL)
"""


class EffectDiagnosis(Model):
    """state: one word for how it stands. conclusion: why, in words. next: what to do, if anything. attempts: all there was, in order."""

    effect: Effect
    state: str
    conclusion: str
    next: str | None
    attempts: Sequence[Event]


async def diagnose_effect(tx: Transaction, effect_id: UUID) -> EffectDiagnosis:
    """Why the effect is where it is. Raises NotFound."""
    effect = await tx.effects.get(effect_id)
    attempts = await attempts_of(tx, effect_id)
    if effect.status == "PENDING":
        rows = await tx.fetch(_STANDING, tx.context.tenant_id, effect_id)
        limits = await tx.fetch(_LIMITS, tx.context.tenant_id, effect.effect_type)
        state, conclusion, advice = _pending(effect, rows[0] if rows else None, limits)
    else:
        state, conclusion, advice = _settled(effect, attempts[-1] if attempts else None)
    return EffectDiagnosis(effect=effect, state=state, conclusion=conclusion, next=advice, attempts=attempts)


def _settled(effect: Effect, last: Event | None) -> tuple[str, str, str | None]:
    if last is None:
        return "broken", f"It is {effect.status}, but the log does not say how.", "persistence fit"
    when = _clock(last.occurred_at)
    reason = last.event_data.get("reason")
    if effect.status == "EXECUTED":
        failed = f", after {_times(effect.retry_count, 'failed attempt')}" if effect.retry_count else ""
        late = f" It had been cancelled at {_clock(effect.cancel_requested_at)}." if effect.cancel_requested_at else ""
        return "delivered", f"It was delivered at {when} by {last.actor}{failed}.{late}", None
    if effect.status == "DEAD_LETTER":
        blocks = " Nothing of its ordering key goes past it." if last.event_data.get("blocks_key") else ""
        return (
            "dead",
            f"It was given up at {when} after {_times(effect.retry_count, 'attempt')}: {error_text(effect.error_details)}.{blocks}",
            f"persistence dlq requeue {effect.id} once the cause is gone, or persistence dlq discard {effect.id} --reason …",
        )
    done = "cancelled" if effect.status == "CANCELLED" else "discarded"
    return done, f"It was {done} at {when} by {last.actor}{f': {reason}' if reason else ''}.", None


def _pending(effect: Effect, standing: Any, limits: Sequence[Any]) -> tuple[str, str, str | None]:
    if standing is None:
        return "broken", "It is pending, but the work list does not have it: no worker will find it.", "persistence fit"
    now = standing["moment"]
    if standing["held_by"] == "KEY":
        first = f"effect {standing['waits_for']}" if standing["waits_for"] else "the one before it"
        advice = f"persistence diagnose effect {standing['waits_for']}" if standing["waits_for"] else None
        return "waiting for its turn", f"It waits behind {first} of the ordering key {standing['ordering_key']!r}.", advice
    if standing["held_by"] == "CANCELLED":
        return (
            "being cancelled",
            f"It was cancelled at {_clock(effect.cancel_requested_at or effect.created_at or now)}, while {standing['leased_by'] or 'a worker'} "
            "was delivering it. What comes of that attempt is recorded; there is no other.",
            None,
        )
    if standing["held_by"] == "RESTORE":
        return (
            "held",
            "A backup was restored: whether it was delivered in the time that was lost nobody has said yet.",
            "persistence restore release, or discard it",
        )
    failed = (
        f"{_times(effect.retry_count, 'attempt')} failed, the last with {error_text(effect.error_details)}. "
        if effect.retry_count
        else ""
    )
    if standing["leased_until"] is not None and standing["leased_until"] > now:
        return (
            "being delivered",
            f"{failed}{standing['leased_by']} is delivering it, attempt {standing['attempts']}; "
            f"its lease ends at {_clock(standing['leased_until'])}.",
            None,
        )
    if standing["open_until"] is not None and standing["open_until"] > now:
        return (
            "destination rests",
            f"{failed}{standing['destination']} has failed {standing['failures']} times in a row and is left in peace until "
            f"{_clock(standing['open_until'])}; then one entry goes there to see.",
            None,
        )
    if standing["due_at"] > now:
        what = "retried" if effect.retry_count else "delivered"
        return "waiting", f"{failed}It will be {what} at {_clock(standing['due_at'])}, not before.", None
    since = f"It has been due since {_clock(standing['due_at'])}"
    is_new = standing["handled_at"] is None and now - standing["due_at"] < _UNSEEN
    if not is_new and (standing["handled_at"] is None or now - standing["handled_at"] > _UNATTENDED):
        seen = f"since {_clock(standing['handled_at'])}" if standing["handled_at"] else "yet"
        return (
            "no worker",
            f"{failed}{since}, but no worker that handles {effect.effect_type} has been seen {seen}.",
            f"start a worker with a handler for {effect.effect_type}",
        )
    if limits:
        told = "; ".join(_limit(limit) for limit in limits)
        return "due", f"{failed}{since} and waits for its share of what is allowed: {told}.", "persistence limits list"
    return "due", f"{failed}{since}; the next worker that is free takes it.", None


def _limit(limit: Any) -> str:
    what = "all effects" if limit["effect_type"] == "*" else limit["effect_type"]
    parts = [f"{limit['max_concurrency']} at a time"] if limit["max_concurrency"] is not None else []
    parts += [f"{limit['max_rate']:g} a second"] if limit["max_rate"] is not None else []
    return f"{what}: {', '.join(parts)}"


def _times(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
