"""Proofs of whom a transaction may work for, where contexts are signed: SQL that was smuggled in can claim a tenant, but prove none.

A proof is ``EXPIRES:HMAC``: HMAC-SHA256 (RFC 2104) of tenant, user and expiry under a secret that the services have and the database cannot
tell them (CANON-PERSISTENCE-001 §4.8). The function ``is_proven`` checks it.
"""

import hmac
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from typing import Final, LiteralString
from uuid import UUID

import psycopg

from persistence.database.pinned import connect_pinned
from persistence.errors import PermissionDenied, ServerError
from persistence.settings import Settings

_VALID_SECONDS: Final = 1800

# The keys that are there, as they were padded.
_KEYS: Final[LiteralString] = "SELECT inner_pad, outer_pad, added_at FROM canon.context_keys ORDER BY added_at"

# Makes others of them.
_SET: Final[LiteralString] = "SELECT persistence.set_context_keys(%s::bytea[], %s::bytea[], %s)"


def proof_of(settings: Settings, tenant_id: UUID, user_id: UUID) -> str | None:
    """What lets a transaction enter the tenant in the name of this user; None where no secret is set. It holds for half an hour to an hour."""
    if settings.context_secret is None:
        return None
    expires = str((int(time.time()) // _VALID_SECONDS + 2) * _VALID_SECONDS)
    secret = settings.context_secret.get_secret_value().encode()
    return f"{expires}:{hmac.digest(secret, f'{tenant_id}{user_id}{expires}'.encode(), 'sha256').hex()}"


def padded(secret: str) -> tuple[bytes, bytes]:
    """A secret as HMAC-SHA256 uses it: the inner and the outer pad."""
    raw = secret.encode()
    key = (raw if len(raw) <= 64 else sha256(raw).digest()).ljust(64, b"\0")
    return bytes(byte ^ 0x36 for byte in key), bytes(byte ^ 0x5C for byte in key)


class ContextKeys:
    """The keys that a database checks proofs with. The methods raise ServerError, or PermissionDenied for a login that may not migrate."""

    def __init__(self, admin_dsn: str) -> None:
        self._dsn = admin_dsn

    def list(self) -> list[tuple[bytes, bytes, datetime]]:
        """The keys that are there, as they were padded, and since when. None: contexts need no proof."""
        with self._as_owner() as connection:
            return connection.execute(_KEYS).fetchall()

    def set(self, pads: Sequence[tuple[bytes, bytes]], *, actor: str) -> bool:
        """Replaces them, with an event that says how many there are now. False when they were so already."""
        with self._as_owner() as connection:
            inner, outer = [pair[0] for pair in pads], [pair[1] for pair in pads]
            row = connection.execute(_SET, (inner, outer, actor)).fetchone()
            assert row is not None
            return bool(row[0])

    @contextmanager
    def _as_owner(self) -> Iterator[psycopg.Connection]:
        try:
            with connect_pinned(self._dsn, autocommit=False) as connection:
                connection.execute("SET ROLE persistence_owner")
                yield connection
        except psycopg.errors.InsufficientPrivilege as error:
            raise PermissionDenied(
                f"the login may not change whose contexts hold: {error}".strip(),
                hint="use the one that migrates: PERSISTENCE_ADMIN_DSN",
            ) from error
        except psycopg.Error as error:
            raise ServerError(
                f"the database refused: {str(error).strip() or type(error).__name__}", hint="check PERSISTENCE_ADMIN_DSN"
            ) from error
