"""Tenants."""

from datetime import datetime
from uuid import UUID

from persistence.models.base import Model


class Tenant(Model):
    """One of those who share the database and never see each other."""

    tenant_id: UUID
    name: str
    actor: str
    created_at: datetime
    updated_at: datetime
