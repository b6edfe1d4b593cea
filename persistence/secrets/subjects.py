"""Personal data in events: sealed by a key of their subject, so that destroying the key erases them from a log that never changes.

What is sealed looks like ``{"sealed_by": KEY, "sealed": TEXT}`` wherever JSON may be: in a signal's payload, a run's input,
a result, an effect's spec.
Digests, replay and backups go on over that text, whether anybody can still read it or not. The same data sealed again with the same key give the same
text, so that what is sent twice is the same twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg

from persistence.context import Context
from persistence.database.retry import retried
from persistence.database.signing import proof_of
from persistence.encoding import check, decode, encode_bytes
from persistence.errors import Conflict, Erased, InvalidInput, NotFound, VaultDamaged
from persistence.models import DataKey, new_id
from persistence.secrets.recorded_vault import RecordedVault
from persistence.secrets.store import Begin, access_event, check_text
from persistence.settings import Settings
from persistence.vault.aead import Unsealable, bound_to, seal_alike, unseal
from persistence.vault.derivation import expanded, from_text, to_text
from persistence.vault.key_memory import Key, wipe
from persistence.vault.keys import Keys

ERASED: Final = {"erased": True}
"""What stands in place of what nobody can read any more."""

_TRIES: Final = 8
_FIELDS: Final = {"sealed_by", "sealed"}

# Gives the wrapped key of a subject's data, and records who is given it and what for.
_READ = """
SELECT data_key_id, tag, term, vault_id, vault_term, sealed_key
FROM persistence.read_subject_key($1, $2, $3, $4, $5::text::jsonb, $6)
"""


class SubjectKey:
    """The key of one subject's data. Use it while the vault is open; ``wipe`` ends it, and so does leaving a ``with`` block."""

    def __init__(self, tenant_id: UUID, key_id: UUID, key: Key) -> None:
        self.tenant_id = tenant_id
        self.key_id = key_id
        self._key = Key(key.view)
        self._nonces = Key.taking(expanded(key.view, "nonces of sealed fields"))

    def seal(self, value: Any) -> dict[str, str]:
        """JSON in place of this JSON, which only this key opens. Raises InvalidInput for what is no JSON."""
        check(value, "value")
        place = bound_to("field", self.tenant_id, self.key_id)
        return {
            "sealed_by": str(self.key_id),
            "sealed": to_text(seal_alike(self._key.view, self._nonces.view, encode_bytes(value), place)),
        }

    def open(self, sealed: dict[str, Any]) -> Any:
        """What was sealed. Raises InvalidInput for something else, VaultDamaged for what was changed or moved here."""
        if not is_sealed(sealed) or sealed["sealed_by"] != str(self.key_id):
            raise InvalidInput("sealed: is not sealed by this key", field="sealed")
        try:
            plain = unseal(self._key.view, from_text(sealed["sealed"]), bound_to("field", self.tenant_id, self.key_id))
        except (Unsealable, ValueError) as error:
            raise VaultDamaged(f"a field sealed by {self.key_id}: {error}") from error
        value = decode(bytes(plain))
        wipe(plain)
        return value

    def derived(self, purpose: str) -> Key:
        """A key of its own for something other than fields, made from this one. Whoever has it wipes it."""
        return Key.taking(expanded(self._key.view, purpose))

    def wipe(self) -> None:
        self._key.wipe()
        self._nonces.wipe()

    def __enter__(self) -> "SubjectKey":
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return f"SubjectKey({self.key_id})"


@dataclass(frozen=True)
class Erasure:
    """What became of a subject's data. keys: those that were destroyed now; their last events are the proof."""

    tag: str
    keys: tuple[DataKey, ...]


def is_sealed(value: Any) -> bool:
    """Whether this is a sealed field."""
    return isinstance(value, dict) and value.keys() == _FIELDS and all(isinstance(part, str) for part in value.values())


class Subjects:
    """Keys of subjects' data, of all tenants. A subject is whoever the data are of, by the name that the caller has for them: ``customer:4711``.

    The name itself is nowhere: the database has a tag of it that only this vault can make.
    """

    def __init__(self, vault: RecordedVault, begin: Begin, context: Any, pool: asyncpg.Pool, settings: Settings) -> None:
        self._vault = vault
        self._begin = begin
        self._context = context
        self._pool = pool
        self._settings = settings

    async def key(
        self,
        tenant_id: UUID,
        subject: str,
        *,
        purpose: str,
        actor: str,
        user_id: UUID | None = None,
        source: str = "service",
        because: UUID | None = None,
        correlation_id: UUID | None = None,
    ) -> SubjectKey:
        """The key of a subject's data, made where there is none yet. Who is given it and what for is on the record first.

        Raises VaultLocked, VaultDamaged.
        """
        tag = await self._tag(tenant_id, subject)
        context = self._context(tenant_id, actor, user_id, source, correlation_id, because)
        for _ in range(_TRIES):
            found = await self._read(context, purpose, tag=tag)
            if found is not None:
                return found
            try:
                await self._make(context, tag)
            except Conflict:
                continue
        raise Conflict("the subject's key is being made by many at once", hint="try again in a moment")

    async def key_by_id(
        self,
        tenant_id: UUID,
        key_id: UUID,
        *,
        purpose: str,
        actor: str,
        user_id: UUID | None = None,
        source: str = "service",
    ) -> SubjectKey:
        """A key that something was sealed with. Raises NotFound, Erased, VaultLocked, VaultDamaged."""
        found = await self._read(self._context(tenant_id, actor, user_id, source, None, None), purpose, key_id=key_id)
        if found is None:
            raise NotFound(f"there is no key {key_id} in this tenant")
        return found

    async def reveal(
        self,
        tenant_id: UUID,
        document: Any,
        *,
        purpose: str,
        actor: str,
        user_id: UUID | None = None,
        source: str = "service",
        because: UUID | None = None,
        correlation_id: UUID | None = None,
    ) -> Any:
        """The same JSON with every sealed field opened. Arguments as for ``key``.

        ``{"erased": true}`` stands where the key was destroyed; what only looks sealed, or was sealed elsewhere, becomes ``{"unreadable": why}``, so
        that it does not hide what stands beside it. Raises InvalidInput for what is nested too deep.
        """
        check(document, "document")
        context = self._context(tenant_id, actor, user_id, source, correlation_id, because)
        opened: dict[str, SubjectKey | dict[str, Any]] = {}
        for field in _sealed_fields(document):
            name = field["sealed_by"]
            if name not in opened:
                try:
                    found = await self._read(context, purpose, key_id=_id(name))
                    opened[name] = {"unreadable": "there is no such key"} if found is None else found
                except Erased:
                    opened[name] = dict(ERASED)
                except (NotFound, InvalidInput, VaultDamaged) as error:
                    opened[name] = {"unreadable": error.message}
        try:
            return _revealed(document, opened)
        finally:
            for key in opened.values():
                if isinstance(key, SubjectKey):
                    key.wipe()

    async def erase(
        self, tenant_id: UUID, subject: str, reason: str, *, actor: str, user_id: UUID | None = None, source: str = "service"
    ) -> Erasure:
        """Destroys the keys of a subject's data for good: whatever they sealed, wherever it is, nobody can read any more.

        The vault remembers which keys they were, so that a backup that brings one back does not bring back the data. Raises NotFound for a subject of
        whom there is no key, VaultLocked, and Conflict or Unavailable where the vault's file cannot be written: then nothing is erased.
        """
        tag = await self._tag(tenant_id, subject)
        circumstances: dict[str, Any] = {"actor": actor, "user_id": user_id, "source": source}
        async with self._begin(tenant_id, **circumstances) as tx:
            known = await tx.data_keys.all(subject=tag)
        if not known:
            raise NotFound(
                "there is no key of this subject's data in this tenant",
                hint="is the name the one it was sealed with?",
                field="subject",
            )
        ids = [key.id for key in known]
        await self._vault.changed("subjects_erased", step=lambda keys: keys.with_erased(tenant_id, ids))
        async with self._begin(tenant_id, **circumstances) as tx:
            gone = tuple(tx.data_keys.destroy(key, reason) for key in known if key.status == "ACTIVE")
        return Erasure(tag, gone)

    async def _read(
        self, context: Context, purpose: str, *, tag: str | None = None, key_id: UUID | None = None
    ) -> SubjectKey | None:
        check_text("purpose", purpose, 1000)
        await self._vault.ready()

        async def once() -> asyncpg.Record | None:
            event = access_event(
                context, "SUBJECT_READ", purpose
            )  # another one each time: an answer that was lost may have been recorded
            proof = proof_of(self._settings, context.tenant_id, context.user_id)
            async with self._pool.acquire() as connection:
                return await connection.fetchrow(_READ, context.tenant_id, context.user_id, tag, key_id, event, proof)

        found = await retried(once, self._settings)
        if found is None:
            return None
        row = dict(found.items())

        def opened(keys: Keys) -> SubjectKey:
            key = keys.data_key(context.tenant_id, row["data_key_id"], row["tag"], row["vault_term"], row["sealed_key"])
            return SubjectKey(context.tenant_id, row["data_key_id"], key)

        return await self._vault.use(opened)

    async def _make(self, context: Context, tag: str) -> None:
        key_id = new_id()
        wrapped, vault_term, vault_id = await self._vault.use(
            lambda keys: (*keys.new_data_key(context.tenant_id, key_id, tag), keys.document.vault_id)
        )
        async with self._begin(context.tenant_id, actor=context.actor, user_id=context.user_id, source=context.source) as tx:
            known = await tx.data_keys.all(subject=tag)
            if any(key.status == "ACTIVE" for key in known):
                return  # somebody else was faster
            term = max((key.term for key in known), default=0) + 1
            tx.data_keys.create(key_id, wrapped, subject=tag, term=term, vault_id=vault_id, vault_term=vault_term)

    async def _tag(self, tenant_id: UUID, subject: str) -> str:
        if not 1 <= len(subject) <= 1000:
            raise InvalidInput("subject: must have 1 to 1000 characters", field="subject")
        return await self._vault.use(lambda keys: keys.tag(tenant_id, subject))


def _sealed_fields(document: Any) -> Iterator[dict[str, str]]:
    todo = [document]
    while todo:
        item = todo.pop()
        if is_sealed(item):
            yield item
        elif isinstance(item, dict):
            todo.extend(item.values())
        elif isinstance(item, list | tuple):
            todo.extend(item)


def _revealed(document: Any, keys: dict[str, SubjectKey | dict[str, Any]]) -> Any:
    if is_sealed(document):
        key = keys[document["sealed_by"]]
        if not isinstance(key, SubjectKey):
            return key
        try:
            return key.open(document)
        except VaultDamaged as error:
            return {"unreadable": error.message}
    if isinstance(document, dict):
        return {name: _revealed(value, keys) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [_revealed(value, keys) for value in document]
    return document


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput(f"sealed_by: {text[:50]!r} is no id of a key", field="sealed_by") from None
