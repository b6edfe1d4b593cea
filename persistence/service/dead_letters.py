"""/v1/dead-letters: what could not be delivered, and what becomes of it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from persistence.dead_letters import DeadLetters
from persistence.errors import NotFound
from persistence.models import Event, OutboxEntry
from persistence.queries.dead_letters import (
    DeadLetterFilter,
    DeadLetterGroup,
    DeadLetterPage,
    attempts_of,
    dead_letter_groups,
    dead_letter_ids,
    dead_letters,
)
from persistence.service.access import Caller, Operating, Reading
from persistence.service.parameters import Limit, Since, StrictRoute, Until
from persistence.service.problems import responses

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"], route_class=StrictRoute)


class DeadLetter(BaseModel):
    """A dead letter with every attempt, requeueing and cancellation there was, in order."""

    entry: OutboxEntry
    attempts: Sequence[Event]


class Choice(BaseModel):
    """Which dead letters are meant: ids, or those that a filter finds (an empty filter: all)."""

    model_config = ConfigDict(extra="forbid")

    ids: list[UUID] | None = Field(None, min_length=1, max_length=1000)
    filter: DeadLetterFilter | None = Field(None, examples=[{"effect_type": "SEND_EMAIL"}])
    dry_run: bool = Field(False, description="Say which it would be, and change nothing.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("give either ids or filter")
        return self


class Requeueing(Choice):
    reason: str | None = Field(None, max_length=1000, examples=["the mail server is back"])


class Discarding(Choice):
    reason: str = Field(min_length=1, max_length=1000, examples=["sent by hand"])


class Moved(BaseModel):
    """moved: the dead letters that were moved, or would be. left: ids that are no dead letters."""

    moved: Sequence[UUID]
    left: Sequence[UUID]


def _filter(
    effect_type: Annotated[str | None, Query(description="Only this effect type.")] = None,
    error_type: Annotated[str | None, Query(description="Only with this class of error.", examples=["ConnectError"])] = None,
    destination: Annotated[str | None, Query(description="Only to this destination.")] = None,
    since: Since = None,
    until: Until = None,
) -> DeadLetterFilter:
    return DeadLetterFilter(effect_type=effect_type, error_type=error_type, destination=destination, since=since, until=until)


Wanted = Annotated[DeadLetterFilter, Depends(_filter)]


@router.get("", response_model=list[DeadLetterGroup], summary="Group dead letters", responses=responses())
async def groups(caller: Reading, wanted: Wanted) -> list[DeadLetterGroup]:
    """Dead letters by effect type, error and destination, the largest group first."""
    async with caller.reading() as tx:
        return await dead_letter_groups(tx, wanted)


@router.get("/entries", response_model=DeadLetterPage, summary="List dead letters", responses=responses())
async def entries(
    caller: Reading,
    wanted: Wanted,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(max_length=100, description="The ``next`` of the page before.")] = None,
) -> DeadLetterPage:
    """Dead letters one by one, those that have been dead longest first."""
    async with caller.reading() as tx:
        return await dead_letters(tx, wanted, limit=limit, after=cursor)


@router.get("/{effect_id}", response_model=DeadLetter, summary="Read a dead letter", responses=responses(404))
async def read(caller: Reading, effect_id: Annotated[UUID, Path(description="Id of an effect.")]) -> DeadLetter:
    """One dead letter with its payload and every attempt."""
    async with caller.reading() as tx:
        entry = await tx.outbox.get(effect_id)
        if entry.status != "DEAD_LETTER":
            raise NotFound(f"effect {effect_id} is no dead letter, it is {entry.status}", hint="see /v1/effects")
        return DeadLetter(entry=entry, attempts=await attempts_of(tx, entry.id))


@router.post("/requeue", response_model=Moved, summary="Requeue dead letters", responses=responses(400, 413))
async def requeue(caller: Operating, body: Requeueing) -> Moved:
    """Gives dead letters all their attempts again, due at once. Each is recorded, with the actor of the token."""
    return await _move(caller, body, lambda dead, ids: dead.requeue(ids, body.reason))


@router.post("/discard", response_model=Moved, summary="Discard dead letters", responses=responses(400, 413))
async def discard(caller: Operating, body: Discarding) -> Moved:
    """Ends dead letters for good. Each is recorded, with the reason and the actor of the token."""
    return await _move(caller, body, lambda dead, ids: dead.discard(ids, body.reason))


async def _move(caller: Caller, choice: Choice, change: Callable[[DeadLetters, Sequence[UUID]], Awaitable[set[UUID]]]) -> Moved:
    async with caller.transaction() as tx:
        if choice.filter is not None:
            chosen = [item async for page in dead_letter_ids(tx, choice.filter) for item in page]
        else:
            chosen = list(dict.fromkeys(choice.ids or ()))
        dead = (
            chosen if choice.filter is not None else [e.id for e in await tx.outbox.get_many(chosen) if e.status == "DEAD_LETTER"]
        )
    moved: set[UUID] = set(dead)
    if not choice.dry_run:
        letters = caller.plane.dead_letters(caller.bearer.tenant_id, **caller.circumstances)
        moved = await change(letters, dead)
    return Moved(moved=[item for item in chosen if item in moved], left=[item for item in chosen if item not in moved])
