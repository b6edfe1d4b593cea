"""/v1/effects: what is to be done outside, and why it has or has not been."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from persistence.models import Effect, Page
from persistence.queries.effect_diagnosis import EffectDiagnosis, diagnose_effect
from persistence.repositories import Filters
from persistence.service.access import Operating, Reading
from persistence.service.conditions import IfMatch, check_match, tag
from persistence.service.parameters import Cursor, Limit, StrictRoute
from persistence.service.problems import responses

router = APIRouter(prefix="/v1/effects", tags=["effects"], route_class=StrictRoute)

EffectId = Annotated[UUID, Path(description="Id of an effect.")]


class Cancellation(BaseModel):
    """Why an effect is taken back."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(None, max_length=1000, examples=["the order was withdrawn"])


@router.get("", response_model=Page[Effect], summary="List effects", responses=responses())
async def list_(
    caller: Reading,
    limit: Limit = 50,
    cursor: Cursor = None,
    run_id: Annotated[UUID | None, Query(description="Only of this run.")] = None,
    step_id: Annotated[UUID | None, Query(description="Only of this step.")] = None,
) -> Page[Effect]:
    """Effects, the newest first."""
    filters: Filters = {}
    if run_id is not None:
        filters["run_id"] = run_id
    if step_id is not None:
        filters["step_id"] = step_id
    async with caller.reading() as tx:
        return await tx.effects.list(limit=limit, after=cursor, newest_first=True, **filters)


@router.get("/{effect_id}", response_model=Effect, summary="Read an effect", responses=responses(404))
async def read(caller: Reading, effect_id: EffectId, response: Response) -> Effect:
    """One effect, with its version as ETag."""
    async with caller.reading() as tx:
        effect = await tx.effects.get(effect_id)
    tag(response, effect)
    return effect


@router.get("/{effect_id}/diagnosis", response_model=EffectDiagnosis, summary="Diagnose an effect", responses=responses(404))
async def diagnose(caller: Reading, effect_id: EffectId) -> EffectDiagnosis:
    """Why it has happened, or has not happened yet, in words, with every attempt."""
    async with caller.reading() as tx:
        return await diagnose_effect(tx, effect_id)


@router.post(
    "/{effect_id}/cancel", response_model=Effect, summary="Cancel an effect", responses=responses(400, 404, 409, 412, 413, 428)
)
async def cancel(
    caller: Operating, effect_id: EffectId, body: Cancellation, response: Response, if_match: IfMatch = None
) -> Effect:
    """Takes an effect back before it is delivered. One that is being delivered at this moment is a 409."""
    async with caller.transaction() as tx:
        effect = await tx.effects.get(effect_id)
        check_match(if_match, effect)
        effect = tx.effects.cancel(effect, body.reason)
    tag(response, effect)
    return effect
