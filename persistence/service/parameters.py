"""Parameters that several operations take."""

from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from persistence.errors import InvalidInput
from persistence.models.base import in_utc

_KNOWN: dict[str, frozenset[str]] = {}
"""The names of each operation's query parameters, by its id."""

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


class StrictRoute(APIRoute):
    """Refuses query parameters that its operation does not know: what they were meant to leave out would be answered."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_known(request: Request) -> Response:
            _check_names(request)
            return await handle(request)

        return handle_known


def _check_names(request: Request) -> None:
    """Raises InvalidInput."""
    if not request.query_params:
        return
    route = request.scope["route"]
    known = _KNOWN.get(route.unique_id)
    if known is None:
        known = _KNOWN[route.unique_id] = _query_names(route.dependant)
    for name in request.query_params:
        if name not in known:
            raise InvalidInput(
                f"{name}: is no parameter of this operation", hint=f"it has {', '.join(sorted(known)) or 'none'}", field=name
            )


def _query_names(dependant: Dependant) -> frozenset[str]:
    own = (field.alias for field in dependant.query_params)
    return frozenset(own).union(*(_query_names(part) for part in dependant.dependencies))


class Reason(BaseModel):
    """Why something is given up or refused."""

    model_config = ConfigDict(extra="forbid")

    message: str = Field(min_length=1, max_length=1000, examples=["the order was withdrawn"])
