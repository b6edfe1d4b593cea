"""Dead letters: seen in groups and one by one, and moved by those who may."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response

from persistence.errors import InvalidInput
from persistence.models import Role
from persistence.queries.dead_letters import DeadLetterFilter, dead_letter_groups, dead_letter_ids, dead_letters
from persistence.service.access import Caller, require
from persistence.service.console.parameters import Text, moment_in
from persistence.service.console.rendering import NONE, render
from persistence.service.console.session import Visiting, sent_to

router = APIRouter()

_PAGE = 50
_GROUPED = 20_000
_ACTIONS = frozenset({"requeue", "discard"})


@router.get("/dead-letters")
async def letters(
    request: Request,
    caller: Visiting,
    effect_type: Text = "",
    error_type: Text = "",
    destination: Text = "",
    since: Text = "",
    until: Text = "",
    cursor: Text = "",
) -> HTMLResponse:
    """The groups, and the letters of those that are chosen."""
    query = {"effect_type": effect_type, "error_type": error_type, "destination": destination, "since": since, "until": until}
    return await _page(request, caller, query, cursor, done=None)


@router.post("/dead-letters/move")
async def move(
    request: Request,
    caller: Visiting,
    action: Annotated[str, Form()],
    which: Annotated[str, Form()],
    ids: Annotated[list[UUID] | None, Form()] = None,
    reason: Annotated[str, Form(max_length=1000)] = "",
    effect_type: Annotated[str, Form()] = "",
    error_type: Annotated[str, Form()] = "",
    destination: Annotated[str, Form()] = "",
    since: Annotated[str, Form()] = "",
    until: Annotated[str, Form()] = "",
) -> HTMLResponse:
    """Requeues or discards those that were ticked, or all that the filter finds. Each is recorded with the actor of the token."""
    require(caller, Role.OPERATOR)
    if action not in _ACTIONS or which not in {"ticked", "all"}:
        raise InvalidInput(f"action: {action!r} of {which!r} is none", field="action")
    query = {"effect_type": effect_type, "error_type": error_type, "destination": destination, "since": since, "until": until}
    if which == "ticked":
        chosen = list(ids or ())
    else:
        async with caller.transaction() as tx:
            chosen = [item async for page in dead_letter_ids(tx, _wanted(query)) for item in page]
    moved = await _moved(caller, action, chosen, reason)
    done = (
        f"{moved} {'requeued: workers try them again now' if action == 'requeue' else 'discarded'}."
        if chosen
        else "None was ticked."
    )
    return await _page(request, caller, query, "", done=done)


@router.post("/effects/{effect_id}/{action}")
async def move_one(
    request: Request, caller: Visiting, effect_id: UUID, action: str, reason: Annotated[str, Form(max_length=1000)] = ""
) -> Response:
    """Requeues or discards one, and shows what becomes of it."""
    require(caller, Role.OPERATOR)
    if action not in _ACTIONS:
        raise InvalidInput(f"action: {action!r} is none", field="action")
    await _moved(caller, action, [effect_id], reason)
    return sent_to(request, f"/console/effects/{effect_id}")


async def _moved(caller: Caller, action: str, ids: list[UUID], reason: str) -> int:
    letters = caller.plane.dead_letters(caller.bearer.tenant_id, **caller.circumstances)
    reason = reason.strip()
    if action == "discard" and not reason:
        raise InvalidInput("reason: discarding takes one", hint="say why nobody needs it any more", field="reason")
    return len(await (letters.discard(ids, reason) if action == "discard" else letters.requeue(ids, reason or None)))


async def _page(request: Request, caller: Caller, query: dict[str, str], cursor: str, *, done: str | None) -> HTMLResponse:
    wanted = _wanted(query)
    async with caller.reading() as tx:
        groups = await dead_letter_groups(tx, DeadLetterFilter(), most=_GROUPED)
        page = await dead_letters(tx, wanted, limit=_PAGE, after=cursor or None)
    return render(request, "dead_letters.html", groups=groups, page=page, query=query, done=done, cursor=cursor)


def _text(given: str) -> str | None:
    """What a field of the filter means: empty is any, NONE is without one."""
    return "" if given == NONE else given or None


def _wanted(query: dict[str, str]) -> DeadLetterFilter:
    return DeadLetterFilter(
        effect_type=query["effect_type"] or None,
        error_type=_text(query["error_type"]),
        destination=_text(query["destination"]),
        since=moment_in(query["since"], "since"),
        until=moment_in(query["until"], "until"),
    )
