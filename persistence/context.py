"""For whom, by whom and from where: what every event of a transaction carries."""

import re
from uuid import UUID

from pydantic import BaseModel, ConfigDict, field_validator

from persistence.canon import CANON

WORKERS = "system:outbox-worker/"
"""How the actors of outbox workers begin. No service may write as one (CANON-TRACE-001 §3.2)."""

RESERVED_SOURCES = frozenset({"outbox", "operator"})


class Context(BaseModel):
    """The circumstances of a transaction.

    tenant_id: the tenant that is worked for.
    user_id: the user in whose name; must belong to the tenant.
    actor: who acts, as ``agent:…``, ``user:…``, ``system:…`` or ``external:…`` (CANON-TRACE-001); at most 100 characters.
    source: the component that writes, such as the service's name; at most 200 characters.
    correlation_id: given to what begins here without a cause of its own; none: a new one each.
    causation_id: the event that caused this transaction, where it is not one of the objects passed in.
    """

    model_config = ConfigDict(frozen=True)

    tenant_id: UUID
    user_id: UUID
    actor: str
    source: str = "service"
    correlation_id: UUID | None = None
    causation_id: UUID | None = None

    @field_validator("actor")
    @classmethod
    def _check_actor(cls, actor: str) -> str:
        if not re.match(CANON.rules.actor_pattern, actor) or len(actor) > 100:
            raise ValueError("must be agent:…, user:…, system:… or external:…, at most 100 characters")
        if actor.startswith(WORKERS):
            raise ValueError(f"{WORKERS}… belongs to outbox workers")
        return actor

    @field_validator("source")
    @classmethod
    def _check_source(cls, source: str) -> str:
        if not 0 < len(source) <= 200:
            raise ValueError("must have 1 to 200 characters")
        if source in RESERVED_SOURCES:
            raise ValueError(f"{source} belongs to functions of the plane")
        return source
