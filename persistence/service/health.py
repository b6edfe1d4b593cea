"""/healthz, /readyz, /metrics: for machines that watch."""

import asyncio
from hmac import compare_digest
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from persistence.database.failures import DATABASE_ERRORS
from persistence.database.migrator import head_revision
from persistence.database.pool import check_connection, connected
from persistence.errors import PersistenceError
from persistence.service.access import plane_of
from persistence.service.parameters import StrictRoute
from persistence.service.problems import Problem, Refused, problem

router = APIRouter(tags=["health"], route_class=StrictRoute)

_metrics_token = HTTPBearer(auto_error=False, scheme_name="metrics token", description="The value of PERSISTENCE_METRICS_TOKEN.")
_SECONDS = 0.9


class Health(BaseModel):
    status: str = Field(examples=["ok"])


@router.get("/healthz", response_model=Health, summary="Whether the process lives")
async def healthz() -> Health:
    """Says ok as long as the process answers at all."""
    return Health(status="ok")


@router.get(
    "/readyz", response_model=Health, summary="Whether it can work", responses={503: {"model": Problem, "description": "Not now"}}
)
async def readyz(request: Request) -> Response | Health:
    """Says ok when the database answers and has the schema of this version."""
    try:
        async with asyncio.timeout(_SECONDS):
            plane = plane_of(request)
            # On a connection of its own: a pool that is busy is no reason to be taken out of service.
            async with connected(plane.server.dsn, plane.settings) as connection:
                await check_connection(connection, head_revision())
    except (PersistenceError, TimeoutError, *DATABASE_ERRORS) as error:
        return problem(503, str(error) or "the database does not answer")
    return Health(status="ok")


@router.get(
    "/metrics",
    summary="Metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text format"},
        401: {"model": Problem, "description": "Without the metrics token"},
        404: {"model": Problem, "description": "Metrics are not offered here"},
    },
)
async def metrics(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_metrics_token)] = None
) -> Response:
    """Counters and histograms of this process, and the state of the database. They tell of all tenants: the token is one of its own."""
    wanted = plane_of(request).settings.metrics_token
    if wanted is None:
        raise Refused(404, "metrics are not offered here", "set PERSISTENCE_METRICS_TOKEN")
    if credentials is None or not compare_digest(credentials.credentials.encode(), wanted.get_secret_value().encode()):
        raise Refused(401, "this takes the metrics token", "send PERSISTENCE_METRICS_TOKEN as a bearer token")
    collector = request.app.state.collector
    if collector is not None:
        await collector.refresh()
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
