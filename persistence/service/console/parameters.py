"""What comes in the address of a page, as text that may be empty."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query

from persistence.errors import InvalidInput
from persistence.models.base import in_utc

Text = Annotated[str, Query(max_length=1000)]


def id_of(text: str, field: str) -> UUID:
    """Raises InvalidInput."""
    try:
        return UUID(text.strip())
    except ValueError:
        raise InvalidInput(f"{field}: {text!r} is no id", field=field) from None


def moment_in(text: str, field: str) -> datetime | None:
    """A time as a browser's field gives it; without a time zone it is in UTC. Raises InvalidInput."""
    if not text.strip():
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInput(f"{field}: {text!r} is no time", hint="such as 2026-01-31T12:00", field=field) from None
    return in_utc(moment)
