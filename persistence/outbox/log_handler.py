"""The built-in effect type LOG: writes a line to the worker's log."""

import structlog

from persistence.outbox.delivery import Delivery
from persistence.outbox.worker import Worker

EFFECT_TYPE = "LOG"

_log = structlog.get_logger("persistence.effects")


async def deliver_log(delivery: Delivery) -> None:
    """Logs the effect's spec, with tenant, correlation and effect ids."""
    _log.info(
        "effect",
        tenant_id=str(delivery.tenant_id),
        correlation_id=str(delivery.correlation_id),
        effect_id=str(delivery.effect_id),
        attempt=delivery.attempt,
        spec=delivery.payload,
    )


def add_log_handler(worker: Worker) -> None:
    worker.handler(EFFECT_TYPE, timeout=5, concurrency=50)(deliver_log)
