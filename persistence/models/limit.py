"""Limits on the outbox's work."""

from datetime import datetime
from uuid import UUID

from persistence.models.base import Model


class Limit(Model):
    """What a tenant (None: all together) may have at a time of an effect type ('*': of all). weight: its share against 1 of the others.

    max_concurrency: attempts at the same time. max_rate: attempts a second.
    """

    tenant_id: UUID | None
    effect_type: str
    weight: int
    max_concurrency: int | None
    max_rate: float | None
    updated_at: datetime
