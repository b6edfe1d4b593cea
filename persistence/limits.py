"""How much of the outbox's work a tenant, or an effect type, may have at a time."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from persistence.canon import CANON
from persistence.database.retry import fetched
from persistence.errors import InvalidInput
from persistence.models import Limit
from persistence.settings import Settings

ALL_TYPES: Final = "*"

# Sets a limit; false when it was so already.
_SET = "SELECT persistence.set_outbox_limit($1, $2, $3, $4, $5, $6)"

# All limits.
_LIST = "SELECT tenant_id, effect_type, weight, max_concurrency, max_rate, updated_at FROM persistence.list_outbox_limits()"


class Limits:
    """Limits hold across all workers from their next claim on. For operators: the login needs persistence_operator."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings

    async def set(
        self,
        effect_type: str,
        *,
        tenant_id: UUID | None = None,
        weight: int = 1,
        max_concurrency: int | None = None,
        max_rate: float | None = None,
        actor: str,
    ) -> bool:
        """Sets the limit of an effect type, for one tenant or (None) for all together; ``'*'``: for all that a tenant has. An event records it.

        weight: 1 to 1000, a tenant's share of what workers claim, against 1 of the others. max_concurrency: attempts at the same time; 0 stops
        them. max_rate: attempts a second, on average; a second's worth may come at once. With nothing given the limit goes.
        Returns False when it was so already. Raises InvalidInput, NotFound for a tenant that is not there.
        """
        if not 1 <= len(effect_type) <= 200:
            raise InvalidInput(
                "effect_type: must have 1 to 200 characters", hint="name an effect type, or '*' for all", field="effect_type"
            )
        if tenant_id is None and (effect_type == ALL_TYPES or weight != 1):
            raise InvalidInput(
                "tenant: weights and limits of all types are for one tenant",
                hint="name the tenant, or give one effect type a concurrency or a rate",
                field="tenant",
            )
        for field, value, is_right in (
            ("weight", weight, 1 <= weight <= 1000),
            ("max_concurrency", max_concurrency, max_concurrency is None or 0 <= max_concurrency < 2**31),
            ("max_rate", max_rate, max_rate is None or 0 < max_rate < float("inf")),
        ):
            if not is_right:
                raise InvalidInput(f"{field}: {value} is out of range", hint="see persistence limits set --help", field=field)
        owner = tenant_id or UUID(CANON.rules.system_tenant)
        rows = await self._call(_SET, owner, effect_type, weight, max_concurrency, max_rate, actor)
        return bool(rows[0][0])

    async def list(self) -> list[Limit]:
        """All limits; those for all tenants together come first and have no tenant."""
        system = UUID(CANON.rules.system_tenant)
        found = [Limit.made(**row) for row in await self._call(_LIST)]
        return [limit.model_copy(update={"tenant_id": None}) if limit.tenant_id == system else limit for limit in found]

    async def _call(self, statement: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        return await fetched(self._pool, self._settings, statement, *arguments)
