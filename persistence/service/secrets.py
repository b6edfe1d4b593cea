"""/v1/secrets, /v1/subjects: what the vault seals for the tenant."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from persistence.errors import InvalidInput, NotFound
from persistence.models import Secret, VaultAccess
from persistence.models.vault import SecretKind
from persistence.service.access import Administering, Keeping, KnowingSecrets
from persistence.service.parameters import StrictRoute
from persistence.service.problems import responses

router = APIRouter(prefix="/v1", tags=["secrets"], route_class=StrictRoute)

Name = Annotated[str, Path(min_length=1, max_length=200, description="Name of a secret.")]


class SecretIn(BaseModel):
    """A new version of a secret. expires_at, max_reads: until when, and how often, it may be read. keep: so many versions stay."""

    model_config = ConfigDict(extra="forbid")

    value: SecretStr = Field(min_length=1, max_length=65536, examples=["sk_live_…"])
    secret_kind: SecretKind = "api_key"  # noqa: S105
    expires_at: datetime | None = None
    max_reads: int | None = Field(None, ge=1, le=2_147_483_647)
    keep: int = Field(10, ge=1, le=1000)


class ReadIn(BaseModel):
    """purpose: what for; it is on the record. version: which one; none: the last."""

    model_config = ConfigDict(extra="forbid")

    purpose: str = Field(min_length=1, max_length=1000, examples=["calling the payment provider by hand"])
    version: int | None = Field(None, ge=1, le=2_147_483_647)


class SecretOut(BaseModel):
    """A secret's value; in base64 where it is no text."""

    name: str
    version: int
    value: str
    encoding: Literal["utf-8", "base64"] = "utf-8"


class DestroyIn(BaseModel):
    """reason: why; it is on the record. version: which one; none: all."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=1000, examples=["the provider was changed"])
    version: int | None = Field(None, ge=1, le=2_147_483_647)


class EraseIn(BaseModel):
    """subject: whose data, by the name that they were sealed under. reason: why; it is on the record for ever."""

    model_config = ConfigDict(extra="forbid")

    subject: str = Field(min_length=1, max_length=1000, examples=["customer:4711"])
    reason: str = Field(min_length=1, max_length=1000, examples=["request 2026-114"])


class Erased(BaseModel):
    """The events that prove it: each says that a key was destroyed. None: it was erased before."""

    proofs: list[str]


@router.get("/secrets", response_model=list[Secret], summary="List secrets", responses=responses())
async def list_(caller: KnowingSecrets) -> Sequence[Secret]:
    """All versions of the tenant's secrets, by name, the newest first; never their values."""
    who = caller.circumstances
    return await caller.plane.secrets.list(caller.bearer.tenant_id, actor=who["actor"], user_id=who["user_id"])


@router.post(
    "/secrets/{name}", status_code=201, response_model=Secret, summary="Set a secret", responses=responses(400, 409, 413, 503)
)
async def set_(caller: Keeping, name: Name, body: SecretIn) -> Secret:
    """Keeps a new version of a secret."""
    return await caller.plane.secrets.set(
        caller.bearer.tenant_id,
        name,
        body.value.get_secret_value(),
        secret_kind=body.secret_kind,
        expires_at=body.expires_at,
        max_reads=body.max_reads,
        keep=body.keep,
        **caller.circumstances,
    )


@router.post(
    "/secrets/{name}/read", response_model=SecretOut, summary="Read a secret", responses=responses(400, 404, 410, 413, 503)
)
async def read(caller: Keeping, response: Response, name: Name, body: ReadIn) -> SecretOut:
    """A secret's value, once it is on the record who reads it and what for."""
    response.headers["Cache-Control"] = "no-store"
    with await caller.plane.secrets.read(
        caller.bearer.tenant_id, name, purpose=body.purpose, number=body.version, **caller.circumstances
    ) as value:
        try:
            return SecretOut(name=value.name, version=value.number, value=value.text)
        except InvalidInput:
            return SecretOut(name=value.name, version=value.number, value=b64encode(value.view).decode(), encoding="base64")


@router.get("/secrets/{name}/accesses", response_model=list[VaultAccess], summary="Who read a secret", responses=responses(404))
async def accesses(caller: KnowingSecrets, name: Name) -> Sequence[VaultAccess]:
    """Who was given a secret's value, when and what for, the newest last."""
    who = caller.circumstances
    return await caller.plane.secrets.accesses(caller.bearer.tenant_id, name, actor=who["actor"], user_id=who["user_id"])


@router.post(
    "/secrets/{name}/destroy", response_model=list[Secret], summary="Destroy a secret", responses=responses(400, 404, 409, 413)
)
async def destroy(caller: KnowingSecrets, name: Name, body: DestroyIn) -> Sequence[Secret]:
    """Destroys a secret's values for good: of one version, or of all. Returns what went."""
    gone = await caller.plane.secrets.destroy(
        caller.bearer.tenant_id, name, body.reason, number=body.version, **caller.circumstances
    )
    if body.version is not None and not gone:
        raise NotFound(
            f"there is no version {body.version} of {name!r} to destroy", hint="GET /v1/secrets lists them", field="version"
        )
    return gone


@router.post("/subjects/erase", response_model=Erased, summary="Erase a person", responses=responses(400, 404, 409, 413, 503))
async def erase(caller: Administering, body: EraseIn) -> Erased:
    """Destroys the key of a subject's data: nobody can read them again, although the log stays as it is."""
    done = await caller.plane.subjects.erase(caller.bearer.tenant_id, body.subject, body.reason, **caller.circumstances)
    return Erased(proofs=[str(key.last_event_id) for key in done.keys])
