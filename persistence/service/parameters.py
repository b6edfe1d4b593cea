"""Parameters that several operations take."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from persistence.models.base import in_utc

Limit = Annotated[int, Query(ge=1, le=200, description="At most so many.")]
Cursor = Annotated[UUID | None, Query(description="The ``next`` of the page before.")]


def _in_utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else in_utc(moment)


Since = Annotated[
    datetime | None, AfterValidator(_in_utc), Query(description="Not older than this moment; without a time zone in UTC.")
]
Until = Annotated[
    datetime | None, AfterValidator(_in_utc), Query(description="Older than this moment; without a time zone in UTC.")
]


class Reason(BaseModel):
    """Why something is given up or refused."""

    model_config = ConfigDict(extra="forbid")

    message: str = Field(min_length=1, max_length=1000, examples=["the order was withdrawn"])
