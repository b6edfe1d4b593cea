"""Parameters that several operations take."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query

Limit = Annotated[int, Query(ge=1, le=200, description="At most so many.")]
Cursor = Annotated[UUID | None, Query(description="The ``next`` of the page before.")]
Since = Annotated[datetime | None, Query(description="Not older than this moment.")]
Until = Annotated[datetime | None, Query(description="Older than this moment.")]
