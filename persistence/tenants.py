"""Making tenants and letting users work for them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg

from persistence.database.pool import enter_tenant
from persistence.database.retry import fetched, retried
from persistence.errors import IdempotencyMismatch, InvalidInput
from persistence.models import Tenant, new_id
from persistence.settings import Settings

# Makes a tenant with its first user.
_CREATE = "SELECT tenant_id, name, actor, created_at, updated_at FROM persistence.create_tenant($1, $2, $3, $4)"

# The tenant that was entered.
_GET = "SELECT t.tenant_id, t.name, t.actor, t.created_at, t.updated_at FROM persistence.tenants AS t WHERE t.tenant_id = $1"

# Lets a user work for a tenant; false when the user could already.
_ADD_USER = "SELECT persistence.add_tenant_user($1, $2, $3)"

# Ends a user's membership; false when there was none.
_REMOVE_USER = "SELECT persistence.remove_tenant_user($1, $2, $3)"

# Tenants in the order of their ids.
_LIST = "SELECT tenant_id, name, actor, created_at, updated_at FROM persistence.list_tenants($1, $2)"


class TenantAdministration:
    """For operators: the login needs persistence_operator."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings

    async def create(self, name: str, *, actor: str, tenant_id: UUID | None = None, user_id: UUID | None = None) -> Tenant:
        """Makes a tenant. user_id: its first user; none: the one that the settings name.

        Raises IdempotencyMismatch when the name is taken, InvalidInput for one that nobody could say.
        """
        _check_name(name)
        rows = await self._call(_CREATE, tenant_id or new_id(), name, user_id or self._settings.service_user, actor)
        return Tenant.made(**rows[0])

    async def ensure(self, name: str, *, actor: str) -> Tenant:
        """The tenant of this name, made if there is none. The settings' user is let work for it."""
        found = await self.find(name)
        if found is None:
            try:
                return await self.create(name, actor=actor)
            except IdempotencyMismatch:  # somebody else made it meanwhile
                found = await self.find(name)
                assert found is not None
        await self.add_user(found.tenant_id, self._settings.service_user, actor=actor)
        return found

    async def get(self, tenant_id: UUID) -> Tenant:
        """The tenant of this id, as one of its users sees it: the login needs persistence_app. Raises TenantDenied."""

        async def read() -> Any:
            async with self._pool.acquire() as connection, connection.transaction(readonly=True):
                await enter_tenant(connection, self._settings, tenant_id, self._settings.service_user)
                return await connection.fetchrow(_GET, tenant_id)

        return Tenant.made(**await retried(read, self._settings))

    async def find(self, name: str) -> Tenant | None:
        """The tenant of this name, or None."""
        after: UUID | None = None
        while page := await self.list(after=after):
            for tenant in page:
                if tenant.name == name:
                    return tenant
            after = page[-1].tenant_id
        return None

    async def add_user(self, tenant_id: UUID, user_id: UUID, *, actor: str) -> bool:
        """Lets a user work for a tenant. False when the user could already. Raises NotFound."""
        rows = await self._call(_ADD_USER, tenant_id, user_id, actor)
        return bool(rows[0][0])

    async def remove_user(self, tenant_id: UUID, user_id: UUID, *, actor: str) -> bool:
        """Ends a user's membership of a tenant. False when there was none."""
        rows = await self._call(_REMOVE_USER, tenant_id, user_id, actor)
        return bool(rows[0][0])

    async def list(self, *, after: UUID | None = None, limit: int = 1000) -> list[Tenant]:
        """Tenants in the order of their ids, beginning after one."""
        return [Tenant.made(**row) for row in await self._call(_LIST, after, limit)]

    async def _call(self, statement: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        return await fetched(self._pool, self._settings, statement, *arguments)


def _check_name(name: str) -> None:
    """What the table asks of a name, in words."""
    if not isinstance(name, str) or not 1 <= len(name) <= 200:
        raise InvalidInput(f"name: {str(name)[:40]!r} has not between 1 and 200 characters", field="name")
    if name != name.strip() or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise InvalidInput(
            f"name: {name!r} begins or ends with a space, or has a control character", hint="leave that out", field="name"
        )
    try:
        UUID(name)
    except ValueError:
        return
    raise InvalidInput(
        f"name: {name} is written like an id", hint="tenants are also named by their ids: give it a name", field="name"
    )
