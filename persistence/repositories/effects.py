"""Effects: the part of the machine EFFECT that services write. Delivery is the worker's."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Unpack
from urllib.parse import urlsplit
from uuid import UUID

from persistence.database.tables import EFFECTS
from persistence.errors import InvalidInput
from persistence.models import Effect, Memory, Run, Step
from persistence.repositories.base import AggregateRepository, Details, checked, moment
from persistence.repositories.work import Work
from persistence.telemetry import traceparent


class EffectRepository(AggregateRepository[Effect]):
    """What is to be done in the outside world, through the outbox."""

    table = EFFECTS
    model = Effect

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.requested: dict[UUID, Effect] = {}
        """Those that ``request`` returned, by the ids of their events."""

    def request(
        self,
        origin: Step | Run | Memory,
        effect_type: str,
        *,
        spec: dict[str, Any],
        idempotency_key: str,
        deliver_after: datetime | None = None,
        ordering_key: str | None = None,
        priority: int = 0,
        destination: str | None = None,
        awaited: bool = False,
        effect_id: UUID | None = None,
        **details: Unpack[Details],
    ) -> Effect:
        """Asks for something to be done outside, once for each idempotency key.

        origin: what it is for. spec: a JSON object for the handler of ``effect_type``, who gets the key in it, too, as ``idempotency_key``.
        idempotency_key: 1 to 300 characters; a key that is known with the same type and spec asks for nothing new, whatever else is said here: once
        the transaction is over the effect that was returned is the one that is there (see also Transaction.existing). With another type or spec it is
        an IdempotencyMismatch.
        deliver_after: not before this moment. ordering_key: 1 to 300 characters; the tenant's effects of one key are delivered one at a
        time, in the order in which they were committed. priority: -100 to 100; what has the lower number is delivered first.
        destination: whom it goes to, at most 300 characters; while deliveries there keep failing it is left in peace (see Breaker). An HTTP_POST goes
        to the host of its URL unless this says otherwise. awaited: the run, one of a flow, is woken by what comes of it.
        """
        checked(origin, "origin", Step, Run, Memory)
        spec = _keyed(spec, idempotency_key)
        data = {
            **_parts(origin),
            "effect_type": effect_type,
            "effect_spec": spec,
            "next_retry_at": moment(deliver_after, "deliver_after"),
            "ordering_key": ordering_key,
            "priority": priority or None,
            "destination": destination or _host(effect_type, spec),
            "traceparent": traceparent(),
            "is_awaited": awaited or None,
        }
        fields = {"idempotency_key": idempotency_key}
        effect = self._begin("EFFECT_REQUESTED", data, details, cause=origin, item_id=effect_id, fields=fields)
        effect = effect.model_copy(update={"next_retry_at": deliver_after})
        self.requested[effect.last_event_id] = effect
        return effect

    def request_many(
        self,
        origin: Step | Run | Memory,
        effect_type: str,
        specs: Mapping[str, dict[str, Any]],
        *,
        deliver_after: datetime | None = None,
        ordering_key: str | None = None,
        priority: int = 0,
        destination: str | None = None,
        **details: Unpack[Details],
    ) -> list[UUID]:
        """As ``request``, for many effects of one type at a third of the cost: specs by idempotency key. Returns the effects' ids in that order.

        What was asked for before keeps its own id: see Transaction.existing.
        """
        checked(origin, "origin", Step, Run, Memory)
        shared: dict[str, Any] = {"effect_type": effect_type, **{name: str(part) for name, part in _parts(origin).items()}}
        optional = {
            "next_retry_at": moment(deliver_after, "deliver_after"),
            "ordering_key": ordering_key,
            "priority": priority or None,
            "attributes": details.get("attributes") or None,
            "traceparent": traceparent(),
        }
        shared |= {name: value for name, value in optional.items() if value is not None}
        return self._begin_many(
            "EFFECT_REQUESTED",
            (
                {
                    **shared,
                    "effect_spec": _keyed(spec, key),
                    **({"destination": place} if (place := destination or _host(effect_type, spec)) else {}),
                }
                for key, spec in specs.items()
            ),
            details,
            cause=origin,
        )

    def cancel(self, effect: Effect, reason: str | None = None, **details: Unpack[Details]) -> Effect:
        """Takes an effect back before it is delivered. One that is being delivered at that moment raises DeliveryUnderway when sent."""
        return self._advance(effect, "EFFECT_CANCELLED", {"reason": reason}, details)


def _parts(origin: Step | Run | Memory) -> dict[str, UUID]:
    """What an effect says that it is for."""
    if isinstance(origin, Step):
        return {"run_id": origin.run_id, "step_id": origin.id}
    return {"memory_id" if isinstance(origin, Memory) else "run_id": origin.id}


def _host(effect_type: str, spec: Mapping[str, Any]) -> str | None:
    """Where a webhook goes. A URL that cannot be read is for its handler to refuse."""
    url = spec.get("url")
    if effect_type != "HTTP_POST" or not isinstance(url, str):
        return None
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()[:300] or None
    except ValueError:
        return None


def _keyed(spec: object, key: str) -> dict[str, Any]:
    """A spec as handlers get it: with its key."""
    if not isinstance(spec, Mapping):
        raise InvalidInput(f"spec: is a {type(spec).__name__}, not a JSON object", field="spec")
    if spec.get("idempotency_key", key) != key:
        raise InvalidInput(
            "spec.idempotency_key: says otherwise than idempotency_key",
            hint="leave it out: handlers get the key there",
            field="spec",
        )
    return {**spec, "idempotency_key": key}
