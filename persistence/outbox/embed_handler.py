"""The built-in effect type EMBED: makes the vectors of memories, many at once."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from persistence.errors import ConfigurationError
from persistence.outbox.delivery import Delivery, PermanentFailure, RetryLater, Snooze
from persistence.outbox.worker import Worker
from persistence.repositories.memories import EMBED
from persistence.stores.memory import Backends, Embedder, ModelFailed, Overloaded, Request, StoreFailed, Unembeddable

_TIMEOUT: Final = 300.0
_SOON: Final = 0.05
_MAX_ATTEMPTS: Final = 20


def add_embed_handler(worker: Worker, backends: Backends) -> Worker:
    """Gives a worker the handler for EMBED. Of a configuration that changes it takes on all but ``mode``, ``batch`` and ``sync_interval``."""
    embedder = Embedder(backends)
    config = backends.config
    within = config.sync_interval.total_seconds() if config.mode == "batched" else _SOON

    async def embed(deliveries: Sequence[Delivery]) -> list[Any]:
        by_tenant: dict[UUID, list[Delivery]] = {}
        for delivery in deliveries:
            by_tenant.setdefault(delivery.tenant_id, []).append(delivery)
        answered = await asyncio.gather(*(_of_tenant(embedder, tenant_id, those) for tenant_id, those in by_tenant.items()))
        outcomes = {effect_id: outcome for answers in answered for effect_id, outcome in answers.items()}
        return [outcomes[delivery.effect_id] for delivery in deliveries]

    worker.handler(EMBED, timeout=_TIMEOUT + within, concurrency=4, max_attempts=_MAX_ATTEMPTS, batch=config.batch, within=within)(
        embed
    )
    return worker


async def _of_tenant(embedder: Embedder, tenant_id: UUID, deliveries: Sequence[Delivery]) -> dict[UUID, Any]:
    """What came of a tenant's deliveries. What goes wrong for one tenant is not said of another."""
    outcomes: dict[UUID, Any] = {}
    requests: dict[UUID, Request] = {}
    for delivery in deliveries:
        try:
            requests[delivery.effect_id] = _request(delivery)
        except (PermanentFailure, KeyError, ValueError, TypeError, AttributeError) as error:
            outcomes[delivery.effect_id] = PermanentFailure(f"EMBED asks for memory_id and index_id: {error}")
    try:
        answers: Sequence[Any] = await embedder.embed(tenant_id, list(requests.values())) if requests else ()
    except Exception as error:
        answers = [error] * len(requests)
    return outcomes | {effect_id: _said(answer) for effect_id, answer in zip(requests, answers, strict=True)}


def _request(delivery: Delivery) -> Request:
    spec = delivery.payload
    index_id = spec.get("index_id")
    return Request(
        UUID(spec["memory_id"]), None if index_id is None else UUID(index_id), delivery.causation_id, delivery.correlation_id
    )


def _said(answer: Any) -> Any:
    """What came of a request, as the outbox takes it: that a model takes nothing now is no failure, that it refuses a text is one for good."""
    if isinstance(answer, Overloaded):
        return Snooze(answer.after)
    if isinstance(answer, Unembeddable):
        return PermanentFailure(answer.message)
    if isinstance(answer, ModelFailed | StoreFailed | ConfigurationError):
        return RetryLater(str(answer))
    return answer
