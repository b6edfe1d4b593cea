"""Sealing bytes so that nobody without the key reads or changes them: AES-256-GCM (NIST SP 800-38D).

What this package seals itself is XAES-256-GCM (https://c2sp.org/XAES-256-GCM): a nonce of 192 bits, whose first half chooses a key of its own for
the message and whose second half is the nonce of AES-256-GCM under it. So random nonces do not meet, however much one key seals.
"""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from persistence.vault.key_memory import Bytes, wipe

KEY_BYTES: Final = 32
TAG_BYTES: Final = 16
NONCE_BYTES: Final = 24
_HALF: Final = NONCE_BYTES // 2
_SHORTEST_NONCE: Final = 8
_LONGEST_NONCE: Final = 128


class Unsealable(Exception):
    """It was not sealed with this key for this place, or it was changed since."""


def bound_to(kind: str, *parts: object) -> bytes:
    """What a sealed text belongs to, as associated data: each part with its length, so that no two places read alike."""
    texts = [str(part).encode() for part in ("persistence.vault", kind, *parts)]
    return b"".join(len(text).to_bytes(4, "big") + text for text in texts)


def seal(key: Bytes, plaintext: Bytes, place: bytes) -> bytes:
    """Nonce, ciphertext and tag. key: 32 bytes. place: see ``bound_to``; the same has to be said to open it."""
    return _sealed(key, os.urandom(NONCE_BYTES), plaintext, place)


def seal_alike(key: Bytes, nonce_key: Bytes, plaintext: Bytes, place: bytes) -> bytes:
    """The same, and the same again for the same plaintext and place: the nonce is an HMAC of both. Two of them show whether they are equal."""
    nonce = authentication_code(nonce_key, len(place).to_bytes(8, "big") + place, plaintext)[:NONCE_BYTES]
    return _sealed(key, nonce, plaintext, place)


def authentication_code(key: Bytes, *parts: Bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104) of the parts, one after the other."""
    code = HMAC(key, SHA256())
    for part in parts:
        code.update(part)
    return code.finalize()


def unseal(key: Bytes, sealed: Bytes, place: bytes) -> bytearray:
    """What was sealed. The caller wipes it when it is done with it. Raises Unsealable."""
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise Unsealable("it is too short to have been sealed")
    nonce = bytes(sealed[:NONCE_BYTES])
    message_key = _message_key(key, nonce)
    try:
        return decrypt(message_key, nonce[_HALF:], sealed[NONCE_BYTES:-TAG_BYTES], sealed[-TAG_BYTES:], place)
    finally:
        wipe(message_key)


def decrypt(key: Bytes, nonce: Bytes, ciphertext: Bytes, tag: Bytes, associated_data: bytes) -> bytearray:
    """Opens a message of AES-256-GCM.

    key: 32 bytes; nonce: 8 to 128; tag: 16, never less: a shortened tag is a guessable one. Raises Unsealable, and never returns a part.
    """
    if len(key) != KEY_BYTES:
        raise Unsealable(f"the key has {len(key)} bytes, not {KEY_BYTES}")
    if len(tag) != TAG_BYTES:
        raise Unsealable(f"the tag has {len(tag)} bytes, not {TAG_BYTES}")
    if not _SHORTEST_NONCE <= len(nonce) <= _LONGEST_NONCE:
        raise Unsealable(f"the nonce has {len(nonce)} bytes, not {_SHORTEST_NONCE} to {_LONGEST_NONCE}")
    plaintext = bytearray(len(ciphertext))
    try:
        AESGCM(key).decrypt_into(nonce, bytes(ciphertext) + bytes(tag), associated_data, plaintext)
    except InvalidTag:
        wipe(plaintext)
        raise Unsealable("it was sealed with another key, for another place, or was changed since") from None
    return plaintext


def _sealed(key: Bytes, nonce: bytes, plaintext: Bytes, place: bytes) -> bytes:
    message_key = _message_key(key, nonce)
    try:
        return nonce + AESGCM(message_key).encrypt(nonce[_HALF:], plaintext, place)
    finally:
        wipe(message_key)


def _message_key(key: Bytes, nonce: bytes) -> bytearray:
    """The key of one message: NIST SP 800-108, counter mode, with AES-CMAC."""
    if len(key) != KEY_BYTES:
        raise Unsealable(f"the key has {len(key)} bytes, not {KEY_BYTES}")
    message_key = bytearray()
    for counter in (1, 2):
        code = CMAC(AES(key))
        code.update(bytes((0, counter)) + b"X\0" + nonce[:_HALF])
        half = code.finalize()
        message_key += half
        wipe(half)
    return message_key
