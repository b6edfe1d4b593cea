"""Errors as RFC 9457 problem details: what happened, and what to do next."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from persistence.errors import (
    AppendOnly,
    ConfigurationError,
    Conflict,
    DeliveryUnderway,
    Erased,
    IdempotencyMismatch,
    InvalidInput,
    InvalidTransition,
    MalformedData,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    PersistenceError,
    SecretUnavailable,
    SignalKnown,
    StorageFull,
    TenantDenied,
    TooLarge,
    Unavailable,
    UnlockRefused,
    VaultDamaged,
    VaultLocked,
)
from persistence.snapshots.manifest import SnapshotAway, SnapshotRefused

_log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

# The first that fits: subclasses before what they are.
_STATUSES: tuple[tuple[type[PersistenceError], int], ...] = (
    (NotAuthenticated, 401),
    (TenantDenied, 401),
    (PermissionDenied, 403),
    (NotFound, 404),
    (Conflict, 409),
    (SignalKnown, 409),
    (DeliveryUnderway, 409),
    (InvalidTransition, 409),
    (AppendOnly, 409),
    (IdempotencyMismatch, 422),
    (TooLarge, 413),
    (MalformedData, 400),
    (StorageFull, 507),
    (InvalidInput, 422),
    (ConfigurationError, 422),
    (SnapshotAway, 503),
    (SnapshotRefused, 409),
    (SecretUnavailable, 410),
    (Erased, 410),
    (Unavailable, 503),
    (VaultLocked, 503),
    (UnlockRefused, 503),
    (VaultDamaged, 503),
)


class Problem(BaseModel):
    """RFC 9457. type: ``about:blank`` (the title says all there is); detail: what happened; hint: what to do next; field: which input it is about."""

    type: str = "about:blank"
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["Run 0198c5f0-0000-7000-8000-000000000000 does not exist in this tenant"])
    hint: str | None = Field(None, examples=["check the id and the tenant"])
    field: str | None = Field(default=None, examples=[None])
    error: str | None = Field(default=None, examples=[None], description="CONTENT_TOO_LARGE, where that is what is wrong.")
    message: str | None = Field(default=None, examples=[None], description="As detail; only beside ``error``.")


class Refused(Exception):
    """Refused by the service itself, with a status of its own."""

    def __init__(self, status: int, detail: str, hint: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.hint = hint
        self.headers = headers


def problem(
    status: int, detail: str, hint: str | None = None, field: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """A response that says what is wrong."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, hint=hint, field=field)
    more = {"WWW-Authenticate": 'Bearer realm="persistence"', **(headers or {})} if status == HTTPStatus.UNAUTHORIZED else headers
    return JSONResponse(body.model_dump(exclude_none=True), status, headers=dict(more or {}), media_type=MEDIA_TYPE)


def too_large(detail: str) -> Response:
    """413."""
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    body = Problem(
        title=status.phrase,
        status=status,
        detail=detail,
        hint="send less, or keep large things elsewhere and record where",
        error="CONTENT_TOO_LARGE",
        message=detail,
    )
    return JSONResponse(body.model_dump(exclude_none=True), status, media_type=MEDIA_TYPE)


def status_of(error: PersistenceError) -> int:
    """The HTTP status that an error of the package has."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document: the problems that an operation may answer with, besides those that all may."""
    return {
        status: {"description": HTTPStatus(status).phrase, "model": Problem, "content": {MEDIA_TYPE: {}}}
        for status in sorted({*statuses, 401, 403, 422, 429, 503})
    }


def install(app: FastAPI) -> None:
    """Makes the application answer every error with a problem."""

    @app.exception_handler(PersistenceError)
    async def known(_: Request, error: Exception) -> Response:
        assert isinstance(error, PersistenceError)
        status = status_of(error)
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return too_large(error.message)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("request_failed", error=str(error))
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:  # what the database says may name statements and tables
            return problem(status, "the service could not do this; its log says why")
        if isinstance(error, VaultDamaged):  # which names folders of this machine
            return problem(status, "the vault cannot be used; the service's log says why")
        return problem(status, error.message, error.hint, error.field)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return problem(error.status, error.detail, error.hint, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        sent = request.headers.get("content-type", "nothing")
        if first["loc"] == ("body",) and "json" not in sent:
            return problem(
                422, f"body: is sent as {sent}, not as JSON", "send it with Content-Type: application/json", field="body"
            )
        if first["type"] == "json_invalid":
            return problem(422, f"body: is no JSON at character {first['loc'][-1]}: {first['ctx']['error']}", field="body")
        field = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return problem(422, f"{field}: {first['msg']}", field=field)

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return too_large(str(error.detail))
        if error.detail == "There was an error parsing the body":  # FastAPI's, for what Python's parser gives up on
            return problem(error.status_code, "body: cannot be read as JSON", "is it nested too deep?", field="body")
        return problem(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> Response:
        _log.exception("request_broke", path=request.url.path, error=str(error))
        return problem(500, "something went wrong here; the log says what")
