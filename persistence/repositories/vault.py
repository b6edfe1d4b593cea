"""Keys, secrets and who was given them: the machines DATA_KEY, SECRET and VAULT_ACCESS of the canon. What comes in is sealed: see ``secrets``."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Unpack
from uuid import UUID

from persistence.database.tables import DATA_KEYS, SECRETS, VAULT_ACCESSES
from persistence.errors import InvalidInput
from persistence.models import DataKey, Secret, VaultAccess
from persistence.models.vault import SecretKind
from persistence.repositories.base import AggregateRepository, Details
from persistence.repositories.rows import RowReader


def _digest(sealed: str) -> str:
    return sha256(sealed.encode()).hexdigest()


class DataKeyRepository(AggregateRepository[DataKey]):
    """Keys that seal, each wrapped by the vault."""

    table = DATA_KEYS
    model = DataKey

    def create(
        self,
        key_id: UUID,
        wrapped: str,
        *,
        subject: str,
        term: int,
        vault_id: UUID,
        vault_term: int,
        **details: Unpack[Details],
    ) -> DataKey:
        """Notes a key that was made. subject: a tag, or empty. term: counts the keys of that subject. vault_term: what it is wrapped in."""
        data = {"subject": subject, "term": term, "vault_id": vault_id, "vault_term": vault_term, "digest": _digest(wrapped)}
        return self._begin("DATA_KEY_CREATED", data, details, item_id=key_id, attachment=wrapped)

    def rewrap(self, key: DataKey, wrapped: str, *, vault_id: UUID, vault_term: int, **details: Unpack[Details]) -> DataKey:
        """Notes that a key is wrapped in a later term."""
        data = {"vault_id": vault_id, "vault_term": vault_term, "digest": _digest(wrapped)}
        return self._advance(key, "DATA_KEY_REWRAPPED", data, details, attachment=wrapped)

    def destroy(self, key: DataKey, reason: str, **details: Unpack[Details]) -> DataKey:
        """Destroys a key for good: nobody can read any more what it sealed. Refused (InvalidTransition) while it seals secrets."""
        return self._advance(key, "DATA_KEY_DESTROYED", {"reason": reason}, details)


class SecretRepository(AggregateRepository[Secret]):
    """Versions of secrets: what they are called, never their values."""

    table = SECRETS
    model = Secret

    def set(
        self,
        name: str,
        sealed: str,
        *,
        number: int,
        secret_kind: SecretKind,
        key_id: UUID,
        expires_at: datetime | None = None,
        max_reads: int | None = None,
        secret_id: UUID | None = None,
        **details: Unpack[Details],
    ) -> Secret:
        """Keeps a version of a secret. number: one more than the last one's; two that come at once are a Conflict for one of them."""
        if expires_at is not None:
            if expires_at.tzinfo is None:
                raise InvalidInput("expires_at: has no time zone", hint="say in which, such as UTC", field="expires_at")
            try:
                expires_at = expires_at.astimezone(UTC)
            except OverflowError:
                raise InvalidInput("expires_at: is beyond the year 9999", field="expires_at") from None
        data = {
            "name": name,
            "number": number,
            "secret_kind": secret_kind,
            "key_id": key_id,
            "digest": _digest(sealed),
            "expires_at": expires_at.isoformat() if expires_at else None,
            "max_reads": max_reads,
        }
        secret = self._begin("SECRET_SET", data, details, item_id=secret_id, attachment=sealed)
        return secret.model_copy(update={"expires_at": expires_at})

    def rewrap(self, secret: Secret, sealed: str, *, key_id: UUID, **details: Unpack[Details]) -> Secret:
        """Notes that a secret is sealed with another key."""
        return self._advance(secret, "SECRET_REWRAPPED", {"key_id": key_id, "digest": _digest(sealed)}, details, attachment=sealed)

    def destroy(self, secret: Secret, reason: str, **details: Unpack[Details]) -> Secret:
        """Destroys a version's value for good."""
        return self._advance(secret, "SECRET_DESTROYED", {"reason": reason}, details)


class VaultAccessRepository(RowReader[VaultAccess]):
    """Who was given what is sealed."""

    table = VAULT_ACCESSES
    model = VaultAccess
