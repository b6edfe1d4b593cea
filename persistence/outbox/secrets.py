"""Secrets for handlers: read in the tenant and the story of the effect that is being delivered."""

import asyncio
from concurrent.futures import Future
from typing import Any

from persistence.outbox.delivery import Delivery
from persistence.plane import Plane


class WorkerSecrets:
    """The secrets of the tenants that a worker works for."""

    def __init__(self, plane: Plane, worker: str) -> None:
        self._plane = plane
        self._actor = f"system:handlers/{worker}"[:100]
        self._loop = asyncio.get_running_loop()

    async def read(self, delivery: Delivery, name: str) -> str:
        value = await self._plane.secrets.read(delivery.tenant_id, name, **self._circumstances(delivery))
        with value:
            return value.text

    async def reveal(self, delivery: Delivery, document: Any) -> Any:
        return await self._plane.subjects.reveal(delivery.tenant_id, document, **self._circumstances(delivery))

    def read_from_thread(self, delivery: Delivery, name: str) -> Future[str]:
        return asyncio.run_coroutine_threadsafe(self.read(delivery, name), self._loop)

    def _circumstances(self, delivery: Delivery) -> dict[str, Any]:
        """Who asks, what for and because of what."""
        return {
            "purpose": f"attempt {delivery.attempt} at effect {delivery.effect_id} ({delivery.effect_type})",
            "actor": self._actor,
            "source": "worker",
            "because": delivery.causation_id,
            "correlation_id": delivery.correlation_id,
        }
