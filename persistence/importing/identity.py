"""Ids that are the same each time the same thing is read."""

from datetime import datetime
from hashlib import sha256
from uuid import UUID

from persistence.models.base import first_id_at


def stable_id(moment: datetime, *parts: str) -> UUID:
    """A UUIDv7 whose time is ``moment`` and whose random bits are drawn from ``parts``: in the order of time, and always the same.

    Moments before 1970 count as 1970.
    """
    digest = int.from_bytes(sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).digest()[:10], "big")
    value = first_id_at(moment).int | 0x7 << 76 | (digest >> 68 & 0xFFF) << 64 | 0b10 << 62 | digest & ((1 << 62) - 1)
    return UUID(int=value)
