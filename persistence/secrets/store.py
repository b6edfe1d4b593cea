"""Secrets of tenants: set, read, destroyed; their keys rotated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg

from persistence.context import Context
from persistence.database.retry import fetched, retried
from persistence.database.signing import proof_of
from persistence.encoding import encode
from persistence.errors import Conflict, InvalidInput, NotFound, VaultDamaged
from persistence.logs.redaction import SHARED
from persistence.models import DataKey, Secret, VaultAccess, new_id
from persistence.models.vault import SecretKind
from persistence.secrets.recorded_vault import RecordedVault
from persistence.secrets.values import SecretValue
from persistence.settings import Settings
from persistence.transaction import Transaction
from persistence.vault.aead import Unsealable, bound_to, seal, unseal
from persistence.vault.derivation import from_text, to_text
from persistence.vault.keys import Keys

LARGEST_VALUE: Final = 64 * 1024
_TRIES: Final = 8

# Gives a sealed secret with its key, and records who reads it and what for.
_READ = """
SELECT secret_name, secret_number, sealed, key_id, term, vault_id, vault_term, sealed_key
FROM persistence.read_secret($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8)
"""

# The wrapped key that a tenant's secrets are sealed with now.
_PRESENT_KEY = "SELECT key_id, term, vault_id, vault_term, sealed_key FROM persistence.present_data_key($1, $2, $3)"


@dataclass(frozen=True)
class TenantKey:
    """A tenant's data key, wrapped."""

    key_id: UUID
    term: int
    vault_id: UUID
    vault_term: int
    sealed_key: str

    def opened(self, keys: Keys, tenant_id: UUID) -> memoryview:
        """The key itself, for as long as the vault is open. Raises VaultDamaged."""
        if self.vault_id != keys.document.vault_id:
            raise VaultDamaged(
                f"data key {self.key_id} is of vault {self.vault_id}, and this is vault {keys.document.vault_id}",
                hint="mount the vault that this database was used with",
            )
        return keys.data_key(tenant_id, self.key_id, "", self.vault_term, self.sealed_key).view


Begin = Callable[..., Transaction]


class Secrets:
    """The secrets of all tenants. Values never are in the log, in a traceback or in what lists return."""

    def __init__(
        self, vault: RecordedVault, begin: Begin, context: Callable[..., Context], pool: asyncpg.Pool, settings: Settings
    ) -> None:
        """begin: makes a transaction, context: checks who asks; both as the plane does."""
        self._vault = vault
        self._begin = begin
        self._context = context
        self._pool = pool
        self._settings = settings

    async def set(
        self,
        tenant_id: UUID,
        name: str,
        value: str | bytes | bytearray,
        *,
        actor: str,
        secret_kind: SecretKind = "api_key",  # noqa: S107
        expires_at: datetime | None = None,
        max_reads: int | None = None,
        keep: int = 10,
        user_id: UUID | None = None,
        source: str = "service",
        because: UUID | None = None,
        correlation_id: UUID | None = None,
    ) -> Secret:
        """Keeps a new version of a secret.

        value: at most 64 KiB. expires_at, max_reads: until when, and how often, it may be read. keep: so many versions
        stay; older ones are destroyed.
        because: the event that caused it; then correlation_id is that event's. Raises InvalidInput, VaultLocked.
        """
        raw = _bytes_of(value)
        _check(name, raw, expires_at, max_reads, keep)
        circumstances: dict[str, Any] = {"actor": actor, "user_id": user_id, "source": source}
        for _ in range(_TRIES):
            key = await self._present_key(tenant_id, circumstances)
            async with self._begin(tenant_id, correlation_id=correlation_id, causation_id=because, **circumstances) as tx:
                there = await tx.secrets.list(limit=1000, newest_first=True, name=name)
            number = max((known.number for known in there.items), default=0) + 1
            secret_id = new_id()
            sealed = await self._vault.use(partial(_sealed, tenant_id=tenant_id, name=name, number=number, value=raw, key=key))
            try:
                async with self._begin(tenant_id, correlation_id=correlation_id, causation_id=because, **circumstances) as tx:
                    secret = tx.secrets.set(
                        name,
                        sealed,
                        number=number,
                        secret_kind=secret_kind,
                        key_id=key.key_id,
                        expires_at=expires_at,
                        max_reads=max_reads,
                        secret_id=secret_id,
                    )
                    for old in sorted((known for known in there.items if known.status == "HELD"), key=lambda known: -known.number)[
                        keep - 1 :
                    ]:
                        tx.secrets.destroy(old, f"version {number} came, and {keep} are kept")
            except Conflict:
                continue
            return secret
        raise Conflict(f"secret {name!r} is being set by many at once", hint="try again in a moment")

    async def read(
        self,
        tenant_id: UUID,
        name: str,
        *,
        purpose: str,
        actor: str,
        number: int | None = None,
        user_id: UUID | None = None,
        source: str = "service",
        because: UUID | None = None,
        correlation_id: UUID | None = None,
    ) -> SecretValue:
        """A secret's value, once it is on the record who reads it and what for.

        number: the version; none: the last one that is held. because, correlation_id: as for ``set``.
        Raises NotFound, SecretUnavailable for one that is over, VaultLocked, VaultDamaged.
        """
        context = self._context(tenant_id, actor, user_id, source, correlation_id, because)
        check_text("purpose", purpose, 1000)
        vault_id, terms = await self._vault.use(lambda keys: (keys.document.vault_id, [term.term for term in keys.document.terms]))

        async def once() -> dict[str, Any]:
            event = access_event(
                context, "SECRET_READ", purpose
            )  # another one each time: an answer that was lost may have been recorded
            proof = proof_of(self._settings, context.tenant_id, context.user_id)
            async with self._pool.acquire() as connection:
                found = await connection.fetchrow(_READ, tenant_id, context.user_id, name, number, vault_id, terms, event, proof)
            assert found is not None
            return dict(found.items())

        row = await retried(once, self._settings)
        key = TenantKey(*(row[field] for field in ("key_id", "term", "vault_id", "vault_term", "sealed_key")))
        name, number = row["secret_name"], row["secret_number"]
        place = place_of(key.vault_id, tenant_id, name, number, key)

        def opened(keys: Keys) -> bytearray:
            return unseal(key.opened(keys, tenant_id), from_text(row["sealed"]), place)

        try:
            value = await self._vault.use(opened)
        except Unsealable as error:
            raise VaultDamaged(
                f"secret {name!r}, version {number}: {error}", hint="somebody changed or moved it: set it again"
            ) from error
        SHARED.register(bytes(value))
        return SecretValue(name, number, value)

    async def list(self, tenant_id: UUID, *, actor: str, user_id: UUID | None = None, name: str | None = None) -> Sequence[Secret]:
        """Versions of a tenant's secrets, the newest first; never values. name: of that one alone."""
        async with self._begin(tenant_id, actor=actor, user_id=user_id) as tx:
            found = await (tx.secrets.all() if name is None else tx.secrets.all(name=name))
        return sorted(found, key=lambda secret: (secret.name, -secret.number))

    async def accesses(self, tenant_id: UUID, name: str, *, actor: str, user_id: UUID | None = None) -> Sequence[VaultAccess]:
        """Who read a secret, the newest last. Raises NotFound."""
        async with self._begin(tenant_id, actor=actor, user_id=user_id) as tx:
            versions = await tx.secrets.all(name=name)
            if not versions:
                raise NotFound(f"there is no secret {name!r} in this tenant", hint="persistence secret list")
            return await tx.vault_accesses.all(secret_id=[secret.id for secret in versions])

    async def destroy(
        self,
        tenant_id: UUID,
        name: str,
        reason: str,
        *,
        actor: str,
        number: int | None = None,
        user_id: UUID | None = None,
        source: str = "service",
    ) -> Sequence[Secret]:
        """Destroys the values of a secret: of one version, or of all. Returns what went. Raises NotFound."""
        check_text("reason", reason, 1000)
        async with self._begin(tenant_id, actor=actor, user_id=user_id, source=source) as tx:
            found = [secret for secret in await tx.secrets.all(name=name) if number in {None, secret.number}]
            if not found:
                raise NotFound(f"there is no secret {name!r} in this tenant", hint="persistence secret list")
            return [tx.secrets.destroy(secret, reason) for secret in found if secret.status == "HELD"]

    async def rotate(self, tenant_id: UUID, *, actor: str, user_id: UUID | None = None, source: str = "service") -> DataKey:
        """A new key for what is sealed from now on. What was sealed before stays readable: see ``rewrap``."""
        circumstances: dict[str, Any] = {"actor": actor, "user_id": user_id, "source": source}
        present = await self._present_key(tenant_id, circumstances)
        return await self._new_key(tenant_id, present.term + 1, circumstances)

    async def _present_key(self, tenant_id: UUID, circumstances: dict[str, Any]) -> TenantKey:
        """The key to seal with; made where there is none yet."""
        context = self._context(tenant_id, circumstances["actor"], circumstances["user_id"], circumstances["source"])
        for _ in range(_TRIES):
            proof = proof_of(self._settings, context.tenant_id, context.user_id)
            rows = await fetched(self._pool, self._settings, _PRESENT_KEY, tenant_id, context.user_id, proof)
            if rows:
                return TenantKey(**rows[0])
            async with self._begin(tenant_id, **circumstances) as tx:
                terms = [key.term for key in await tx.data_keys.all(subject="")]  # of keys that are destroyed
            try:
                await self._new_key(tenant_id, max(terms, default=0) + 1, circumstances)
            except Conflict:
                continue
        raise Conflict("the tenant's first key is being made by many at once", hint="try again in a moment")

    async def _new_key(self, tenant_id: UUID, term: int, circumstances: dict[str, Any]) -> DataKey:
        key_id = new_id()
        wrapped, vault_term, vault_id = await self._vault.use(
            lambda keys: (*keys.new_data_key(tenant_id, key_id, ""), keys.document.vault_id)
        )
        async with self._begin(tenant_id, **circumstances) as tx:
            return tx.data_keys.create(key_id, wrapped, subject="", term=term, vault_id=vault_id, vault_term=vault_term)


def access_event(context: Context, event_type: str, purpose: str) -> str:
    """The event of an access, as the functions that give what is sealed take it."""
    return encode(
        {
            "id": new_id(),
            "event_type": event_type,
            "event_version": 1,
            "aggregate_type": VaultAccess.kind,
            "aggregate_id": new_id(),
            "aggregate_version": 1,
            "event_data": {"purpose": purpose},
            "correlation_id": context.correlation_id or new_id(),
            "causation_id": context.causation_id,
            "actor": context.actor,
            "source": context.source,
        }
    )


def _bytes_of(value: str | bytes | bytearray) -> bytearray:
    if isinstance(value, str):
        try:
            return bytearray(value.encode())
        except UnicodeEncodeError:
            raise InvalidInput("value: holds half of a surrogate pair", hint="give it as bytes", field="value") from None
    if not isinstance(value, bytes | bytearray):
        raise InvalidInput(f"value: is a {type(value).__name__}, neither text nor bytes", field="value")
    return bytearray(value)


def place_of(vault_id: UUID, tenant_id: UUID, name: str, number: int, key: TenantKey) -> bytes:
    """What a secret's value is bound to."""
    return bound_to("secret", vault_id, tenant_id, name, number, key.key_id, key.term)


def _sealed(keys: Keys, *, tenant_id: UUID, name: str, number: int, value: bytearray, key: TenantKey) -> str:
    return to_text(seal(key.opened(keys, tenant_id), value, place_of(keys.document.vault_id, tenant_id, name, number, key)))


def _check(name: str, value: bytearray, expires_at: datetime | None, max_reads: int | None, keep: int) -> None:
    check_text("name", name, 200)
    if not 1 <= len(value) <= LARGEST_VALUE:
        raise InvalidInput(f"value: has {len(value)} bytes, not 1 to {LARGEST_VALUE}", field="value")
    if expires_at is not None and expires_at.tzinfo is not None and expires_at <= datetime.now(UTC):
        raise InvalidInput("expires_at: is over", hint="say a moment that is to come", field="expires_at")
    if max_reads is not None and max_reads < 1:
        raise InvalidInput("max_reads: must be at least 1", field="max_reads")
    if keep < 1:
        raise InvalidInput("keep: must be at least 1", field="keep")


def check_text(field: str, text: str, most: int) -> None:
    """Raises InvalidInput for a text that is empty, too long, or not to be printed."""
    if not 1 <= len(text) <= most or not text.isprintable():
        raise InvalidInput(f"{field}: must have 1 to {most} printable characters", field=field)
