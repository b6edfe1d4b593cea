"""What the vault keeps for a tenant: keys, secrets, and who was given them. Never a value."""

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

from persistence.models.base import AggregateModel

SecretKind = Literal["api_key", "agent_config", "token", "pii_cache"]


class DataKey(AggregateModel):
    """A key that seals. subject: the tag of whose data; empty: the tenant's own, for its secrets. digest: SHA-256 of the wrapped key, for the log."""

    kind: ClassVar[str] = "DATA_KEY"

    subject: str
    term: int
    vault_id: UUID
    vault_term: int
    digest: str


class Secret(AggregateModel):
    """A version of a secret. number: counts them from 1. secret_kind: what it is. expires_at, max_reads: until when and how often it may be read."""

    kind: ClassVar[str] = "SECRET"

    name: str
    number: int
    secret_kind: str
    key_id: UUID
    digest: str
    expires_at: datetime | None = None
    max_reads: int | None = None


class VaultAccess(AggregateModel):
    """Somebody (actor) was given a secret's value, or the key of a subject's data."""

    kind: ClassVar[str] = "VAULT_ACCESS"

    secret_id: UUID | None = None
    key_id: UUID | None = None
    purpose: str
