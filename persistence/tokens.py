"""Access over the network: tokens of a tenant, of which only digests are kept."""

import base64
import binascii
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import asyncpg

from persistence.context import Context
from persistence.database.retry import fetched
from persistence.errors import InvalidInput, NotAuthenticated, first_problem
from persistence.models import ApiToken, Bearer, Role, new_id
from persistence.settings import Settings
from persistence.transaction import Transaction

CHANNEL: Final = "persistence_tokens"
"""Where revocations are told, by the ids of the tokens."""

_PREFIX: Final = "pp_"
_SECRET_BYTES: Final = 32

# Records a token.
_ISSUE = "SELECT persistence.issue_token($1, $2, $3, $4, $5, $6, $7, $8, $9)"

# Ends a token; false when there is none to end.
_REVOKE = "SELECT persistence.revoke_token($1, $2, $3)"

# Whose token it is.
_AUTHENTICATE = "SELECT tenant, name, role, acts_as, user_id, expires_at FROM persistence.authenticate_token($1, $2, $3)"

# A tenant's tokens, the newest first.
_LIST = """
SELECT t.tenant_id, t.id, t.name, t.role, t.acts_as, t.user_id, t.expires_at, t.revoked_at, t.created_at
FROM persistence.api_tokens AS t
WHERE t.tenant_id = $1
ORDER BY t.id DESC
"""


class Tokens:
    """Tokens of all tenants. Issuing and revoking need persistence_operator."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings

    async def issue(
        self,
        tenant_id: UUID,
        name: str,
        *,
        role: Role,
        acts_as: str,
        actor: str,
        lasts: timedelta | None = None,
        user_id: UUID | None = None,
    ) -> tuple[str, ApiToken]:
        """A new token. Returns its text, which nobody can ever be told again, and what is known of it.

        acts_as: the actor of what is done with it, as ``user:…`` or ``agent:…``. lasts: none: until it is revoked.
        Raises InvalidInput, or NotFound when the user does not belong to the tenant.
        """
        if not 1 <= len(name) <= 200:
            raise InvalidInput("name: must have 1 to 200 characters", field="name")
        if lasts is not None and lasts <= timedelta(0):
            raise InvalidInput("lasts: must be more than nothing", field="lasts")
        user = user_id or self._settings.service_user
        try:
            Context(tenant_id=tenant_id, user_id=user, actor=acts_as)
        except ValueError as error:
            raise InvalidInput(f"acts_as: {first_problem(error)[1]}", field="acts_as") from error
        secret, now = secrets.token_bytes(_SECRET_BYTES), datetime.now(UTC)
        token = ApiToken(
            tenant_id=tenant_id,
            id=new_id(),
            name=name,
            role=role,
            acts_as=acts_as,
            user_id=user,
            expires_at=now + lasts if lasts else None,
            revoked_at=None,
            created_at=now,
        )
        digest = sha256(secret).digest()
        await self._call(_ISSUE, tenant_id, token.id, name, role.value, acts_as, user, digest, token.expires_at, actor)
        return _text(token, secret), token

    async def revoke(self, tenant_id: UUID, token_id: UUID, *, actor: str) -> bool:
        """Ends a token for good, at once. False when there is none such, or it was revoked before."""
        rows = await self._call(_REVOKE, tenant_id, token_id, actor)
        return bool(rows[0][0])

    async def authenticate(self, text: str) -> Bearer:
        """Whose token this is. Raises NotAuthenticated for one that is unknown, expired or revoked."""
        tenant_id, token_id, secret = _parts(text)
        rows = await self._call(_AUTHENTICATE, tenant_id, token_id, sha256(secret).digest())
        if not rows:
            raise NotAuthenticated("the token is unknown, expired or revoked", hint="persistence token issue makes a new one")
        return Bearer(tenant_id=tenant_id, token_id=token_id, **rows[0])

    async def _call(self, statement: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        return await fetched(self._pool, self._settings, statement, *arguments)


def check_token(text: str) -> None:
    """Raises NotAuthenticated for a text that no token can be."""
    _parts(text)


async def tokens_of(tx: Transaction) -> list[ApiToken]:
    """The tokens of the transaction's tenant, the newest first."""
    return [ApiToken(**row) for row in await tx.fetch(_LIST, tx.context.tenant_id)]


def _text(token: ApiToken, secret: bytes) -> str:
    packed = base64.urlsafe_b64encode(token.tenant_id.bytes + token.id.bytes + secret)
    return _PREFIX + packed.decode().rstrip("=")


def _parts(text: str) -> tuple[UUID, UUID, bytes]:
    try:
        packed = base64.b64decode(text.removeprefix(_PREFIX) + "==", altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        packed = b""
    if not text.startswith(_PREFIX) or len(packed) != 32 + _SECRET_BYTES:
        raise NotAuthenticated("this is no token", hint="persistence token issue makes one; it begins with pp_")
    return UUID(bytes=packed[:16]), UUID(bytes=packed[16:32]), packed[32:]
