"""What the vault's file says: JSON that anybody may read, in which every value that matters is sealed.

The file is the document, written in one way only (sorted keys, two blanks): a byte that was changed anywhere shows, by its form or by the MAC over
all of it. Another encoding would be another pair of ``encode`` and ``decode``; nothing else knows of JSON.
"""

import hmac
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from persistence.errors import VaultDamaged, first_problem
from persistence.vault.aead import authentication_code
from persistence.vault.derivation import Derivation, from_text, to_text
from persistence.vault.key_memory import Bytes

FORMAT: Final = "persistence.vault"
LARGEST: Final = 16 * 1024 * 1024


def _is_base64(text: str) -> str:
    from_text(text)
    return text


Sealed = Annotated[str, AfterValidator(_is_base64)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Kind = Literal["passphrase", "environment", "key-file"]
EntryKind = Literal["api_key", "agent_config", "token", "pii_cache"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Unlocker(_Part):
    """One way to open the vault: the root key, wrapped by a key that somebody can derive. check: tells a wrong secret."""

    name: Name
    kind: Kind
    derivation: Derivation
    check: Sealed
    wrapped: Sealed


class Term(_Part):
    """A master key, wrapped by the root key. The last one seals; all of them open."""

    term: int = Field(ge=1)
    begun_at: str
    wrapped: Sealed


class Entry(_Part):
    """A value that this file keeps itself."""

    kind: EntryKind
    term: int = Field(ge=1)
    changed_at: str
    sealed: Sealed


class Document(_Part):
    """generation: counts the changes. index_key: makes tags of subjects' names, and stays. erased: data keys that were destroyed, each with its
    tenant.
    """

    format: Literal["persistence.vault"]
    version: Literal[1]
    vault_id: UUID
    generation: int = Field(ge=1)
    created_at: str
    unlockers: tuple[Unlocker, ...] = Field(min_length=1, max_length=16)
    second_factor: Sealed | None
    index_key: Sealed
    terms: tuple[Term, ...] = Field(min_length=1)
    entries: dict[Name, Entry]
    erased: tuple[Annotated[str, Field(pattern=r"^[0-9a-f-]{36}/[0-9a-f-]{36}$")], ...]

    @property
    def last_term(self) -> int:
        return self.terms[-1].term


def encode(document: Document, mac_key: Bytes) -> bytes:
    """The file's bytes. mac_key: 32 bytes."""
    content = document.model_dump(mode="json")
    return _written({**content, "mac": to_text(_mac(content, mac_key))})


def decode(raw: bytes, where: str) -> Document:
    """Reads a file's bytes. What it says is to be believed once ``check_mac`` was content. Raises VaultDamaged.

    where: the file's name, for people.
    """
    try:
        content = orjson.loads(raw)
        if not isinstance(content, dict) or not isinstance(content.pop("mac", None), str):
            raise VaultDamaged(f"{where}: is no vault", hint=_HINT)
        return Document.model_validate(content)
    except ValidationError as error:
        field, problem = first_problem(error)
        if field == "version":
            raise VaultDamaged(f"{where}: is of a version that this package does not know", hint="use a newer package") from error
        raise VaultDamaged(f"{where}: {field}: {problem}", hint=_HINT) from error
    except ValueError as error:
        raise VaultDamaged(f"{where}: is no vault: {error}", hint=_HINT) from error


def check_mac(raw: bytes, mac_key: Bytes, where: str) -> None:
    """Raises VaultDamaged unless these bytes are what was written with this key."""
    content = orjson.loads(raw)
    mac = content.pop("mac")
    if not hmac.compare_digest(mac, to_text(_mac(content, mac_key))) or _written({**content, "mac": mac}) != raw:
        raise VaultDamaged(f"{where}: was changed since this package wrote it", hint=_HINT)


def _mac(content: dict[str, Any], key: Bytes) -> bytes:
    return authentication_code(key, _written(content))


def _written(content: dict[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


_HINT: Final = "put the file back from a copy that you trust"
