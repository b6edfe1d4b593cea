"""Tokens: access of people and programs to a tenant, over the network."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from persistence.models.base import Model


class Role(StrEnum):
    """reader: sees. operator: also writes, requeues, discards, cancels. admin: also issues and revokes tokens. keeper: sees, and sets and reads
    secrets, whose values no other role is given.
    """

    READER = "reader"
    OPERATOR = "operator"
    ADMIN = "admin"
    KEEPER = "keeper"

    def covers(self, needed: "Role") -> bool:
        """Whether this role may do what ``needed`` may."""
        if Role.KEEPER in {self, needed}:
            return needed in {self, Role.READER}
        order = (Role.READER, Role.OPERATOR, Role.ADMIN)
        return order.index(self) >= order.index(needed)


class ApiToken(Model):
    """What is known of a token; never its secret. acts_as: the actor of whatever is done with it; user_id: in whose name."""

    tenant_id: UUID
    id: UUID
    name: str
    role: Role
    acts_as: str
    user_id: UUID
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime


class Bearer(Model):
    """Whoever came with a token that holds. expires_at: None: until it is revoked."""

    tenant_id: UUID
    tenant: str
    token_id: UUID
    name: str
    role: Role
    acts_as: str
    user_id: UUID
    expires_at: datetime | None
