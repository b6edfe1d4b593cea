"""/v1/tokens: access to the tenant."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from persistence.errors import NotFound
from persistence.models import ApiToken, Role
from persistence.service.access import Administering
from persistence.service.parameters import StrictRoute
from persistence.service.problems import responses
from persistence.tokens import tokens_of

router = APIRouter(prefix="/v1/tokens", tags=["tokens"], route_class=StrictRoute)


class TokenIn(BaseModel):
    """A token to be issued. acts_as: the actor of what is done with it. days: how long it holds; none: until it is revoked."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200, examples=["dashboard"])
    role: Role = Role.READER
    acts_as: str = Field(min_length=1, max_length=100, examples=["user:ada"])
    days: float | None = Field(None, gt=0, le=3650, examples=[90])


class Issued(BaseModel):
    """token: its text, told this once. about: what is known of it."""

    token: str
    about: ApiToken


@router.get("", response_model=list[ApiToken], summary="List tokens", responses=responses())
async def list_(caller: Administering) -> Sequence[ApiToken]:
    """The tenant's tokens, the newest first; never their secrets."""
    async with caller.transaction() as tx:
        return await tokens_of(tx)


@router.post("", status_code=201, response_model=Issued, summary="Issue a token", responses=responses(400, 413))
async def issue(caller: Administering, body: TokenIn) -> Issued:
    """A new token for the tenant. Its text is told this once."""
    text, token = await caller.plane.tokens.issue(
        caller.bearer.tenant_id,
        body.name,
        role=body.role,
        acts_as=body.acts_as,
        actor=caller.bearer.acts_as,
        lasts=timedelta(days=body.days) if body.days else None,
        user_id=caller.bearer.user_id,
    )
    return Issued(token=text, about=token)


@router.delete("/{token_id}", status_code=204, summary="Revoke a token", responses=responses(404, 413))
async def revoke(caller: Administering, request: Request, token_id: Annotated[UUID, Path(description="Id of a token.")]) -> None:
    """Ends a token for good, at once."""
    if not await caller.plane.tokens.revoke(caller.bearer.tenant_id, token_id, actor=caller.bearer.acts_as):
        raise NotFound(f"there is no token {token_id} to revoke in this tenant", hint="GET /v1/tokens lists them")
    request.app.state.token_cache.forget(token_id)
