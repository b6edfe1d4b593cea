"""The keys of an open vault, and what is done with them. No files, no clocks that lock: see ``vault``.

passphrase, environment, key file ─ derivation ─► wrapping key ─► root key ─► master keys, one a term ─► data keys, one a tenant and term,
or one a subject ─► secrets, personal data
"""

import hmac
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

from persistence.errors import InvalidInput, NotFound, VaultDamaged
from persistence.vault.aead import KEY_BYTES, Unsealable, authentication_code, bound_to, seal, unseal
from persistence.vault.derivation import Argon2, Expansion, Pbkdf2, derived, expanded, from_text, new_salt, to_text
from persistence.vault.document import FORMAT, Document, Entry, EntryKind, Kind, Term, Unlocker, check_mac, encode
from persistence.vault.key_memory import Key, wipe

MOST_KEYS: Final = 1_000
"""Data keys that are kept open at a time: each takes a page of memory that is not swapped out."""


@dataclass(frozen=True)
class Opener:
    """What somebody opens the vault with. secret: the passphrase, or 32 bytes. name: of the unlocker that it is for; none: any of its kind."""

    kind: Kind
    secret: bytearray
    name: str | None = None


class Keys:
    """The keys of one document, as it was when they were opened."""

    def __init__(self, document: Document, root: Key, *, opened_by: str) -> None:
        self.document = document
        self.opened_by = opened_by
        self._root = root
        self._masters = {term.term: self._unwrapped(term.wrapped, "master key", term.term) for term in document.terms}
        self._index = self._unwrapped(document.index_key, "index key")
        self._erased = frozenset(document.erased)
        self._data_keys: OrderedDict[tuple[UUID, UUID, str, int], Key] = OrderedDict()

    @classmethod
    def made(cls, openers: Sequence[Opener], derivation: type[Pbkdf2 | Argon2], iterations: int | None) -> "Keys":
        """A new vault, its first term begun."""
        vault_id, root = uuid4(), Key(os.urandom(KEY_BYTES))
        document = Document(
            format=FORMAT,
            version=1,
            vault_id=vault_id,
            generation=1,
            created_at=_now(),
            unlockers=tuple(_unlocker(vault_id, opener, root, derivation, iterations) for opener in openers),
            second_factor=None,
            index_key=_wrapped(root, _random_key(), vault_id, "index key"),
            terms=(Term(term=1, begun_at=_now(), wrapped=_wrapped(root, _random_key(), vault_id, "master key", 1)),),
            entries={},
            erased=(),
        )
        return cls(document, root, opened_by=document.unlockers[0].name)

    @classmethod
    def opened(cls, document: Document, raw: bytes, opener: Opener, where: str) -> "Keys | None":
        """The keys, if this opens the vault; None where no unlocker knows it. Raises VaultDamaged."""
        for unlocker in document.unlockers:
            if unlocker.kind != opener.kind or opener.name not in {None, unlocker.name}:
                continue
            key, check = derived(unlocker.derivation, opener.secret)
            try:
                if not hmac.compare_digest(check, from_text(unlocker.check)):
                    continue
                root = _unwrap(key, unlocker.wrapped, document.vault_id, "root key", unlocker.kind, unlocker.name)
            finally:
                key.wipe()
            mac_key = expanded(root.view, "mac")
            check_mac(raw, mac_key, where)
            wipe(mac_key)
            return cls(document, root, opened_by=unlocker.name)
        return None

    def reopened(self, document: Document, raw: bytes, where: str) -> "Keys":
        """The keys of another generation of the same file, with the root key that is known. Raises VaultDamaged, also where it was rekeyed."""
        mac_key = expanded(self._root.view, "mac")
        check_mac(raw, mac_key, where)
        wipe(mac_key)
        return Keys(document, Key(self._root.view), opened_by=self.opened_by)

    def wipe(self) -> None:
        """Empties every key."""
        for key in (self._root, self._index, *self._masters.values(), *self._data_keys.values()):
            key.wipe()
        self._data_keys.clear()

    def encoded(self) -> bytes:
        """The file's bytes."""
        mac_key = expanded(self._root.view, "mac")
        raw = encode(self.document, mac_key)
        wipe(mac_key)
        return raw

    # Changes of the document: each gives another generation of it, which counts once it is written.

    def rotated(self) -> "Keys":
        """A new term begins: what is wrapped from now on is wrapped with its key."""
        term = self.document.last_term + 1
        wrapped = _wrapped(self._root, _random_key(), self.document.vault_id, "master key", term)
        return self._next(terms=(*self.document.terms, Term(term=term, begun_at=_now(), wrapped=wrapped)))

    def without_terms_before(self, term: int) -> "Keys":
        """Older terms end: what is still wrapped with their keys is lost, so nothing may be."""
        used = {entry.term for entry in self.document.entries.values()}
        if used and min(used) < term:
            raise InvalidInput(f"an entry is still sealed in term {min(used)}", hint="persistence vault rewrap", field="term")
        return self._next(terms=tuple(item for item in self.document.terms if item.term >= term))

    def rekeyed(self, openers: Sequence[Opener], derivation: type[Pbkdf2 | Argon2], iterations: int | None) -> "Keys":
        """A new root key, wrapped for these openers alone: what opened the file before opens no later one."""
        old, root, vault_id = self.document, Key(os.urandom(KEY_BYTES)), self.document.vault_id
        second = old.second_factor and _wrapped(
            root, self._opened_value(old.second_factor, "second factor"), vault_id, "second factor"
        )
        news = {
            "unlockers": tuple(_unlocker(vault_id, opener, root, derivation, iterations) for opener in openers),
            "second_factor": second,
            "index_key": _wrapped(root, bytearray(self._index.view), vault_id, "index key"),
            "terms": tuple(
                item.model_copy(
                    update={"wrapped": _wrapped(root, bytearray(self._masters[item.term].view), vault_id, "master key", item.term)}
                )
                for item in old.terms
            ),
        }
        return Keys(self._changed(**news), root, opened_by=self.opened_by)

    def with_unlocker(self, opener: Opener, derivation: type[Pbkdf2 | Argon2], iterations: int | None) -> "Keys":
        """One more way to open it."""
        made = _unlocker(self.document.vault_id, opener, self._root, derivation, iterations)
        if made.name in {item.name for item in self.document.unlockers}:
            raise InvalidInput(f"name: there is an unlocker {made.name!r} already", hint="give it another name", field="name")
        return self._next(unlockers=(*self.document.unlockers, made))

    def with_second_factor(self, secret: bytearray | None) -> "Keys":
        """The secret of one-time codes, or none any more."""
        wrapped = secret and _wrapped(self._root, secret, self.document.vault_id, "second factor")
        return self._next(second_factor=wrapped)

    def with_entry(self, name: str, kind: EntryKind, value: bytearray) -> "Keys":
        """An entry of the file itself, set anew."""
        return self._next(entries={**self.document.entries, name: self._sealed_entry(name, kind, value)})

    def without_entry(self, name: str) -> "Keys":
        entries = dict(self.document.entries)
        if entries.pop(name, None) is None:
            raise NotFound(f"there is no entry {name!r} in this vault", hint="persistence vault config list")
        return self._next(entries=entries)

    def with_erased(self, tenant_id: UUID, key_ids: Sequence[UUID]) -> "Keys":
        """Data keys that nobody is to open any more, wherever a copy of them may turn up."""
        return self._next(erased=tuple(sorted({*self.document.erased, *(f"{tenant_id}/{key_id}" for key_id in key_ids)})))

    def rewrapped_entries(self) -> "Keys":
        """Entries of older terms sealed in the last one."""
        entries = {}
        for name, entry in self.document.entries.items():
            if entry.term < self.document.last_term:
                value = self.entry(name)
                entries[name] = self._sealed_entry(name, entry.kind, value)
                wipe(value)
        return self._next(entries={**self.document.entries, **entries}) if entries else self

    # What they open.

    def entry(self, name: str) -> bytearray:
        """Raises NotFound, or VaultDamaged."""
        entry, vault_id = self.document.entries.get(name), self.document.vault_id
        if entry is None:
            raise NotFound(f"there is no entry {name!r} in this vault", hint="persistence vault config list")
        try:
            return unseal(
                self._masters[entry.term].view, from_text(entry.sealed), bound_to("entry", vault_id, name, entry.kind, entry.term)
            )
        except (Unsealable, KeyError) as error:
            raise VaultDamaged(f"entry {name!r}: {error}", hint="put the file back from a copy that you trust") from error

    def second_factor(self) -> bytearray | None:
        """The secret of one-time codes."""
        return None if self.document.second_factor is None else self._opened_value(self.document.second_factor, "second factor")

    def new_data_key(self, tenant_id: UUID, key_id: UUID, subject: str) -> tuple[str, int]:
        """A new data key, wrapped, and the term it is wrapped in. subject: the tag of whose it is; empty: the tenant's own."""
        material = _random_key()
        wrapped = self.wrap_data_key(tenant_id, key_id, subject, material)
        self._keep((tenant_id, key_id, subject, self.document.last_term), Key.taking(material))
        return wrapped, self.document.last_term

    def wrap_data_key(self, tenant_id: UUID, key_id: UUID, subject: str, material: bytearray) -> str:
        """Wrapped in the last term."""
        term = self.document.last_term
        return to_text(seal(self._masters[term].view, material, self._data_key_place(tenant_id, key_id, subject, term)))

    def data_key(self, tenant_id: UUID, key_id: UUID, subject: str, term: int, wrapped: str) -> Key:
        """Opens a data key. Raises VaultDamaged, or NotFound for one of a term that is over."""
        if f"{tenant_id}/{key_id}" in self._erased:
            raise VaultDamaged(
                f"data key {key_id} was destroyed, and this is a copy of it from before",
                hint="persistence vault check says which; --mend",
            )
        place = tenant_id, key_id, subject, term
        known = self._data_keys.get(place)
        if known is not None:
            self._data_keys.move_to_end(place)
            return known
        master = self._masters.get(term)
        if master is None:
            raise NotFound(f"data key {key_id} is of term {term}, which this vault has not", hint="is it this database's vault?")
        try:
            material = unseal(master.view, from_text(wrapped), self._data_key_place(tenant_id, key_id, subject, term))
        except (Unsealable, ValueError) as error:
            raise VaultDamaged(
                f"data key {key_id}: {error}", hint="somebody changed or moved it, or it is another vault's"
            ) from error
        return self._keep(place, Key.taking(material))

    def tag(self, tenant_id: UUID, subject: str) -> str:
        """What stands for a subject's name, which itself may say whose it is. Always the same in this vault; another in each tenant."""
        return authentication_code(self._index.view, bound_to("subject", tenant_id, subject)).hex()

    def _sealed_entry(self, name: str, kind: EntryKind, value: bytearray) -> Entry:
        term = self.document.last_term
        sealed = to_text(seal(self._masters[term].view, value, bound_to("entry", self.document.vault_id, name, kind, term)))
        return Entry(kind=kind, term=term, changed_at=_now(), sealed=sealed)

    def _data_key_place(self, tenant_id: UUID, key_id: UUID, subject: str, term: int) -> bytes:
        return bound_to("data key", self.document.vault_id, tenant_id, key_id, subject, term)

    def _keep(self, place: tuple[UUID, UUID, str, int], key: Key) -> Key:
        self._data_keys[place] = key
        if len(self._data_keys) > MOST_KEYS:
            _, oldest = self._data_keys.popitem(last=False)
            oldest.wipe()
        return key

    def _unwrapped(self, wrapped: str, kind: str, *parts: object) -> Key:
        return _unwrap(self._root, wrapped, self.document.vault_id, kind, *parts)

    def _opened_value(self, wrapped: str, kind: str) -> bytearray:
        try:
            return unseal(self._root.view, from_text(wrapped), bound_to(kind, self.document.vault_id))
        except Unsealable as error:
            raise VaultDamaged(f"{kind}: {error}") from error

    def _changed(self, **news: object) -> Document:
        return self.document.model_copy(update={**news, "generation": self.document.generation + 1})

    def _next(self, **news: object) -> "Keys":
        return Keys(self._changed(**news), Key(self._root.view), opened_by=self.opened_by)


def _unlocker(vault_id: UUID, opener: Opener, root: Key, derivation: type[Pbkdf2 | Argon2], iterations: int | None) -> Unlocker:
    name = opener.name or opener.kind
    how: Pbkdf2 | Argon2 | Expansion
    if opener.kind != "passphrase":
        how = Expansion(salt=new_salt())
    elif derivation is Pbkdf2 and iterations is not None:
        how = Pbkdf2(salt=new_salt(), iterations=iterations)
    else:
        how = derivation(salt=new_salt())
    key, check = derived(how, opener.secret)
    wrapped = to_text(seal(key.view, root.view, bound_to("root key", vault_id, opener.kind, name)))
    key.wipe()
    return Unlocker(name=name, kind=opener.kind, derivation=how, check=to_text(check), wrapped=wrapped)


def _wrapped(key: Key, material: bytearray, vault_id: UUID, kind: str, *parts: object) -> str:
    """Material wrapped by a key; what it came in is emptied."""
    sealed = to_text(seal(key.view, material, bound_to(kind, vault_id, *parts)))
    wipe(material)
    return sealed


def _unwrap(key: Key, wrapped: str, vault_id: UUID, kind: str, *parts: object) -> Key:
    try:
        return Key.taking(unseal(key.view, from_text(wrapped), bound_to(kind, vault_id, *parts)))
    except Unsealable as error:
        raise VaultDamaged(f"{kind}: {error}", hint="put the file back from a copy that you trust") from error


def _random_key() -> bytearray:
    return bytearray(os.urandom(KEY_BYTES))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
