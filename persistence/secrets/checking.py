"""The vault and the database held to each other: what opens, what does not, what is brought into the last term.

It reads what is sealed as an auditor does: services have no way to it without a record of who reads it.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final
from uuid import UUID

import asyncpg

from persistence.database.failures import DATABASE_ERRORS, translated
from persistence.errors import ConfigurationError, NotFound, PersistenceError, VaultDamaged
from persistence.models import DataKey, Secret
from persistence.secrets.recorded_vault import RecordedVault
from persistence.secrets.store import TenantKey, place_of
from persistence.settings import Settings
from persistence.transaction import Transaction
from persistence.vault.aead import Unsealable, seal, unseal
from persistence.vault.derivation import from_text, to_text
from persistence.vault.key_memory import wipe
from persistence.vault.keys import Keys

_PAGE: Final = 500

# Wrapped keys of all tenants, after one.
_KEYS: Final = """
SELECT k.tenant_id, k.id, k.subject, k.term, k.vault_id, k.vault_term, k.sealed
FROM persistence.data_keys AS k
WHERE k.status = 'ACTIVE'
  AND (k.tenant_id, k.id) > ($1, $2)
ORDER BY k.tenant_id, k.id
LIMIT $3
"""

# Sealed secrets of all tenants with their keys, after one.
_SECRETS: Final = """
SELECT
  s.tenant_id, s.id, s.name, s.number, s.sealed, k.id AS key_id, k.term, k.vault_id, k.vault_term, k.sealed AS sealed_key,
  (SELECT max(l.term) FROM persistence.data_keys AS l WHERE l.tenant_id = k.tenant_id AND l.subject = '' AND l.status = 'ACTIVE') AS last_term
FROM persistence.secrets AS s
JOIN persistence.data_keys AS k ON k.tenant_id = s.tenant_id AND k.id = s.key_id
WHERE s.status = 'HELD'
  AND (s.tenant_id, s.id) > ($1, $2)
ORDER BY s.tenant_id, s.id
LIMIT $3
"""

# The present key of a tenant's secrets.
_PRESENT: Final = """
SELECT k.id AS key_id, k.term, k.vault_id, k.vault_term, k.sealed AS sealed_key
FROM persistence.data_keys AS k
WHERE k.tenant_id = $1
  AND k.subject = ''
  AND k.status = 'ACTIVE'
ORDER BY k.term DESC
LIMIT 1
"""

# Keys of earlier terms that seal nothing any more.
_IDLE: Final = """
SELECT k.tenant_id, k.id
FROM persistence.data_keys AS k
WHERE k.subject = ''
  AND k.status = 'ACTIVE'
  AND k.term < (SELECT max(l.term) FROM persistence.data_keys AS l WHERE l.tenant_id = k.tenant_id AND l.subject = '' AND l.status = 'ACTIVE')
  AND NOT EXISTS (SELECT FROM persistence.secrets AS s WHERE s.tenant_id = k.tenant_id AND s.key_id = k.id AND s.status = 'HELD')
"""

# Keys that were erased, and are there again.
_RISEN: Final = """
SELECT k.tenant_id, k.id
FROM persistence.data_keys AS k
JOIN unnest($1::uuid[], $2::uuid[]) AS e (tenant_id, id) ON e.tenant_id = k.tenant_id AND e.id = k.id
WHERE k.status = 'ACTIVE'
"""

# A vault that wrapped a key.
# fit: allow tenant_in_statement because a vault is of all tenants
_VAULTS: Final = "SELECT k.vault_id FROM persistence.data_keys AS k WHERE k.status = 'ACTIVE' LIMIT 1"

# Keys that another vault wrapped.
_FOREIGN: Final = "SELECT k.tenant_id, k.id FROM persistence.data_keys AS k WHERE k.status = 'ACTIVE' AND k.vault_id <> $1"

Begin = Callable[..., Transaction]


async def check_all(audit_dsn: str, vault: RecordedVault) -> dict[str, Any]:
    """How many keys, secrets and entries open, and in words which do not. audit_dsn: of a login with persistence_auditor."""
    found: dict[str, Any] = {"keys": 0, "secrets": 0, "entries": 0, "problems": []}

    def tried(kind: str, what: str, work: Callable[[Keys], Any]) -> None:
        try:
            vault.vault.use(work)
            found[kind] += 1
        except (Unsealable, VaultDamaged, NotFound, ValueError) as error:
            found["problems"].append(f"{what}: {error.message if isinstance(error, PersistenceError) else error}")

    await vault.ready()
    for name in vault.vault.document().entries:
        tried("entries", f"entry {name!r}", lambda keys, name=name: wipe(keys.entry(name)))  # type: ignore[misc]
    async for row in _pages(audit_dsn, _KEYS):
        what = f"key {row['id']} of tenant {row['tenant_id']}"
        tried("keys", what, lambda keys, row=row: _key(keys, row))  # type: ignore[misc]
    async for row in _pages(audit_dsn, _SECRETS):
        what = f"secret {row['name']!r}, version {row['number']}, of tenant {row['tenant_id']}"
        tried("secrets", what, lambda keys, row=row: wipe(_value(keys, row)))  # type: ignore[misc]
    return found


async def check_no_other(audit_dsn: str) -> None:
    """Raises ConfigurationError where the database has keys of a vault already: a second one could open nothing of them."""
    rows = await _rows(audit_dsn, _VAULTS)
    if rows:
        raise ConfigurationError(
            f"this database has keys of vault {rows[0]['vault_id']}, and its file is not here",
            hint="put that file where vault_config.yaml or the data directory has it; lost for good: persistence vault init --lost",
        )


async def give_up(audit_dsn: str, vault_id: UUID, begin: Begin, *, actor: str) -> dict[str, int]:
    """Destroys what other vaults than this one sealed: they are lost, and nobody can open it. Returns how many."""
    done = {"secrets": 0, "keys": 0}
    reason = "the vault that sealed it is lost"
    for row in await _rows(audit_dsn, _FOREIGN, vault_id):
        async with begin(row["tenant_id"], actor=actor) as tx:
            secrets = [secret for secret in await tx.secrets.all(key_id=row["id"]) if secret.status == "HELD"]
            for secret in secrets:
                tx.secrets.destroy(secret, reason)
        async with begin(row["tenant_id"], actor=actor) as tx:
            tx.data_keys.destroy(await tx.data_keys.get(row["id"]), reason)
        done["secrets"] += len(secrets)
        done["keys"] += 1
    return done


async def mend(audit_dsn: str, vault: RecordedVault, begin: Begin, *, actor: str, also: Iterable[str] = ()) -> int:
    """Destroys keys again that were erased and came back with a backup. also: erasures that a later file of this vault knows, and this one is
    told. Returns how many.
    """
    await vault.ready()
    known = set(vault.vault.document().erased)
    for place in sorted(set(also) - known):
        tenant_id, key_id = (UUID(part) for part in place.split("/"))
        await vault.changed("subjects_erased", step=lambda keys, at=tenant_id, of=key_id: keys.with_erased(at, [of]))  # type: ignore[misc]
    erased = [tuple(UUID(part) for part in place.split("/")) for place in vault.vault.document().erased]
    risen = await _rows(audit_dsn, _RISEN, [tenant for tenant, _ in erased], [key for _, key in erased])
    for row in risen:
        async with begin(row["tenant_id"], actor=actor) as tx:
            key: DataKey = await tx.data_keys.get(row["id"])
            tx.data_keys.destroy(key, "it was erased before, and came back with a backup")
    return len(risen)


async def rewrap_all(audit_dsn: str, settings: Settings, vault: RecordedVault, begin: Begin, *, actor: str) -> dict[str, int]:
    """Wraps keys of earlier terms in the vault's last, seals secrets with their tenants' last keys, and destroys keys that seal nothing any more.

    Each is an event of its own, so it may be ended anywhere and called again. Returns how many.
    """
    done = {"keys": 0, "secrets": 0, "destroyed": 0, "problems": 0}
    document = await vault.use(lambda keys: keys.document)
    async for row in _pages(audit_dsn, _KEYS):
        if row["vault_term"] >= document.last_term or f"{row['tenant_id']}/{row['id']}" in document.erased:
            continue
        try:
            wrapped = await vault.use(lambda keys, row=row: _rewrapped(keys, row))  # type: ignore[misc]
        except (VaultDamaged, NotFound):
            done["problems"] += 1  # check_all says which; one tenant's keys are no reason to leave the others'
            continue
        async with begin(row["tenant_id"], actor=actor) as tx:
            key: DataKey = await tx.data_keys.get(row["id"])
            if key.vault_term == row["vault_term"] and key.status == "ACTIVE":
                tx.data_keys.rewrap(key, wrapped, vault_id=document.vault_id, vault_term=document.last_term)
                done["keys"] += 1
    async for row in _pages(audit_dsn, _SECRETS):
        if row["term"] >= row["last_term"]:
            continue
        [present] = await _rows(audit_dsn, _PRESENT, row["tenant_id"])
        try:
            sealed = await vault.use(lambda keys, row=row, present=present: _resealed(keys, row, TenantKey(**present)))  # type: ignore[misc]
        except (VaultDamaged, NotFound, Unsealable):
            done["problems"] += 1
            continue
        async with begin(row["tenant_id"], actor=actor) as tx:
            secret: Secret = await tx.secrets.get(row["id"])
            if secret.key_id == row["key_id"] and secret.status == "HELD":
                tx.secrets.rewrap(secret, sealed, key_id=present["key_id"])
                done["secrets"] += 1
    for row in await _rows(audit_dsn, _IDLE):
        async with begin(row["tenant_id"], actor=actor) as tx:
            tx.data_keys.destroy(await tx.data_keys.get(row["id"]), "nothing is sealed by it any more")
            done["destroyed"] += 1
    return done


def _key(keys: Keys, row: Any) -> None:
    keys.data_key(row["tenant_id"], row["id"], row["subject"], row["vault_term"], row["sealed"])


def _value(keys: Keys, row: Any) -> bytearray:
    key = TenantKey(row["key_id"], row["term"], row["vault_id"], row["vault_term"], row["sealed_key"])
    place = place_of(key.vault_id, row["tenant_id"], row["name"], row["number"], key)
    return unseal(key.opened(keys, row["tenant_id"]), from_text(row["sealed"]), place)


def _rewrapped(keys: Keys, row: Any) -> str:
    key = keys.data_key(row["tenant_id"], row["id"], row["subject"], row["vault_term"], row["sealed"])
    material = bytearray(key.view)
    try:
        return keys.wrap_data_key(row["tenant_id"], row["id"], row["subject"], material)
    finally:
        wipe(material)


def _resealed(keys: Keys, row: Any, key: TenantKey) -> str:
    value = _value(keys, row)
    try:
        place = place_of(key.vault_id, row["tenant_id"], row["name"], row["number"], key)
        return to_text(seal(key.opened(keys, row["tenant_id"]), value, place))
    finally:
        wipe(value)


async def _rows(dsn: str, statement: str, *arguments: Any) -> list[Any]:
    try:
        connection = await asyncpg.connect(dsn)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()
    except DATABASE_ERRORS as error:
        raise translated(error) from error


async def _pages(dsn: str, statement: str) -> Any:
    tenant_id, last = UUID(int=0), UUID(int=0)
    while rows := await _rows(dsn, statement, tenant_id, last, _PAGE):
        for row in rows:
            yield row
        tenant_id, last = rows[-1]["tenant_id"], rows[-1]["id"]
