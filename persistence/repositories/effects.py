"""Effects: the part of the machine EFFECT that services write. Delivery is the worker's."""

from datetime import datetime
from typing import Any, Unpack
from uuid import UUID

from persistence.database.tables import EFFECTS
from persistence.models import Effect, Run, Step
from persistence.repositories.base import AggregateRepository, Details


class EffectRepository(AggregateRepository[Effect]):
    """What is to be done in the outside world, through the outbox."""

    table = EFFECTS
    model = Effect

    def request(
        self,
        origin: Step | Run,
        effect_type: str,
        *,
        spec: dict[str, Any],
        idempotency_key: str,
        deliver_after: datetime | None = None,
        effect_id: UUID | None = None,
        **details: Unpack[Details],
    ) -> Effect:
        """Asks for something to be done outside, once for each idempotency key.

        spec: a JSON object for the handler of ``effect_type``. idempotency_key: 1 to 300 characters; a key that is known with the
        same type and spec asks for nothing new (see Transaction.existing), with another it is an IdempotencyMismatch.
        deliver_after: not before this moment.
        """
        run_id = origin.run_id if isinstance(origin, Step) else origin.id
        spec = {**spec, "idempotency_key": idempotency_key}
        data = {
            "run_id": run_id,
            "step_id": origin.id if isinstance(origin, Step) else None,
            "effect_type": effect_type,
            "effect_spec": spec,
            "next_retry_at": None if deliver_after is None else deliver_after.isoformat(),
        }
        fields = {"idempotency_key": idempotency_key}
        effect = self._begin("EFFECT_REQUESTED", data, details, cause=origin, item_id=effect_id, fields=fields)
        return effect.model_copy(update={"next_retry_at": deliver_after})

    def cancel(self, effect: Effect, reason: str | None = None, **details: Unpack[Details]) -> Effect:
        """Takes an effect back before it is delivered. One that is being delivered at that moment raises DeliveryUnderway when sent."""
        return self._advance(effect, "EFFECT_CANCELLED", {"reason": reason}, details)
