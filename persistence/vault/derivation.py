"""From what somebody knows or holds to a key that wraps: PBKDF2-HMAC-SHA256 (RFC 8018), Argon2id (RFC 9106), HKDF (RFC 5869)."""

import base64
import os
from typing import Annotated, Final, Literal

from cryptography.hazmat.primitives.hashes import SHA256, HashAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from persistence.vault.aead import KEY_BYTES, authentication_code
from persistence.vault.key_memory import Bytes, Key, wipe

SALT_BYTES: Final = 16
DEFAULT_ITERATIONS: Final = 600_000
FEWEST_ITERATIONS: Final = 100_000
MOST_ITERATIONS: Final = 10_000_000


def to_text(raw: Bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(raw).decode()


def from_text(text: str) -> bytes:
    """The bytes of base64, which is written in one way only. Raises ValueError."""
    raw = base64.b64decode(text, validate=True)
    if to_text(raw) != text:
        raise ValueError("is no base64 as this package writes it")
    return raw


def _salt(text: str) -> str:
    if len(from_text(text)) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes")
    return text


Salt = Annotated[str, AfterValidator(_salt)]


def new_salt() -> str:
    return to_text(os.urandom(SALT_BYTES))


class _Derivation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    salt: Salt


class Pbkdf2(_Derivation):
    """PBKDF2-HMAC-SHA256. The upper bound keeps a planted header from keeping a process busy for hours."""

    name: Literal["pbkdf2-hmac-sha256"] = "pbkdf2-hmac-sha256"
    iterations: int = Field(default=DEFAULT_ITERATIONS, ge=FEWEST_ITERATIONS, le=MOST_ITERATIONS)

    def derive(self, passphrase: Bytes, into: bytearray) -> None:
        pbkdf2(SHA256(), passphrase, from_text(self.salt), self.iterations, into)


def pbkdf2(algorithm: HashAlgorithm, passphrase: Bytes, salt: bytes, iterations: int, into: bytearray) -> None:
    """PBKDF2-HMAC (RFC 8018 section 5.2)."""
    PBKDF2HMAC(algorithm, len(into), salt, iterations).derive_into(passphrase, into)


class Argon2(_Derivation):
    """Argon2id. memory: KiB."""

    name: Literal["argon2id"] = "argon2id"
    iterations: int = Field(default=2, ge=1, le=64)
    lanes: int = Field(default=1, ge=1, le=16)
    memory: int = Field(default=19_456, ge=19_456, le=1_048_576)

    def derive(self, passphrase: Bytes, into: bytearray) -> None:
        kdf = Argon2id(
            salt=from_text(self.salt), length=len(into), iterations=self.iterations, lanes=self.lanes, memory_cost=self.memory
        )
        kdf.derive_into(passphrase, into)  # type: ignore[arg-type]  # it takes what is like bytes


class Expansion(_Derivation):
    """HKDF-SHA256: for keys of 256 random bits, which need no slowing down."""

    name: Literal["hkdf-sha256"] = "hkdf-sha256"

    def derive(self, passphrase: Bytes, into: bytearray) -> None:
        HKDF(SHA256(), len(into), from_text(self.salt), b"persistence.vault unlocker").derive_into(passphrase, into)


Derivation = Annotated[Pbkdf2 | Argon2 | Expansion, Field(discriminator="name")]


def derived(how: Pbkdf2 | Argon2 | Expansion, secret: Bytes) -> tuple[Key, bytes]:
    """The key that wraps, and a value that tells whether a secret is the right one without telling the key."""
    material = bytearray(KEY_BYTES)
    how.derive(secret, material)
    key = Key.taking(expanded(material, "wrapping key"))
    check = bytes(expanded(material, "check value"))
    wipe(material)
    return key, check


def expanded(key: Bytes, purpose: str) -> bytearray:
    """A key for one purpose, made from another, which is uniformly random: one block of HKDF-Expand (RFC 5869 section 2.3)."""
    block = authentication_code(key, f"persistence.vault {purpose}".encode(), b"\x01")
    into = bytearray(block)
    wipe(block)
    return into
