"""Pages of what agents remember."""

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from persistence.models.memory import CONTEXTS, MemoryContext
from persistence.queries.memories import MemoryActivity, memory_activity, memory_story
from persistence.repositories import Filters
from persistence.repositories.memory_search import MemoryFilter
from persistence.service.console.parameters import Text, id_of, moment_in
from persistence.service.console.rendering import render
from persistence.service.console.session import Visiting
from persistence.stores.memory import Backends, MemorySearch
from persistence.stores.memory.search import MODES

router = APIRouter()

_PAGE = 50
_DAYS = 35
_TONES = 4


@router.get("/memories")
async def memories(
    request: Request,
    caller: Visiting,
    text: Text = "",
    mode: Text = "both",
    agent: Text = "",
    context: Text = "",
    tag: Text = "",
    at: Text = "",
    cursor: Text = "",
) -> HTMLResponse:
    """What is remembered: the newest, or what a search finds; how much over time; and which indexes there are."""
    found, following = None, None
    known_context: MemoryContext | None = next((one for one in CONTEXTS if one == context), None)
    if text.strip():
        backends: Backends = request.app.state.backends
        who = caller.circumstances
        found = await MemorySearch(backends).search(
            caller.bearer.tenant_id,
            text,
            MemoryFilter(agent or None, known_context, [tag] if tag else (), moment_in(at, "at")),
            actor=who["actor"],
            user_id=who["user_id"],
            mode=next((one for one in MODES if one == mode), "both"),
            limit=_PAGE,
        )
        rows: list[Any] = [(one.memory, one.score, one.why) for one in found.found]
    async with caller.reading() as tx:
        if found is None:
            wanted: Filters = {}
            if agent:
                wanted["agent"] = agent
            if known_context is not None:
                wanted["context"] = known_context
            page = await tx.memories.list(
                limit=_PAGE, after=id_of(cursor, "cursor") if cursor else None, newest_first=True, **wanted
            )
            rows, following = [(memory, 0, {}) for memory in page.items], page.next
        activity = await memory_activity(tx, _DAYS)
        indexes = await tx.memory_indexes.kept_up()
    query = {"text": text, "mode": mode, "agent": agent, "context": context, "tag": tag, "at": at}
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=n) for n in range(_DAYS - 1, -1, -1)] if activity else []
    return render(
        request,
        "memories.html",
        query=query,
        found=found,
        rows=rows,
        next=following,
        modes=MODES,
        contexts=CONTEXTS,
        days=days,
        heat=_heat(activity, days),
        indexes=indexes,
    )


@router.get("/memories/{memory_id}")
async def memory(request: Request, caller: Visiting, memory_id: UUID) -> HTMLResponse:
    """One memory: where it came from, what became of it, who used it."""
    async with caller.reading() as tx:
        return render(request, "memory.html", story=await memory_story(tx, memory_id))


def _heat(activity: Sequence[MemoryActivity], days: Sequence[date]) -> dict[str, list[tuple[int, int, int]]]:
    """By agent, for each day: what was learned, what was used, and a tone of 0 to 4 by the logarithm of both together."""
    most = max((one.learned + one.used for one in activity), default=1)
    by_agent: dict[str, dict[date, MemoryActivity]] = {}
    for one in activity:
        by_agent.setdefault(one.agent, {})[one.day] = one

    def cell(one: MemoryActivity | None) -> tuple[int, int, int]:
        if one is None:
            return 0, 0, 0
        return one.learned, one.used, max(1, round(_TONES * math.log1p(one.learned + one.used) / math.log1p(most)))

    return {agent: [cell(done.get(day)) for day in days] for agent, done in sorted(by_agent.items())}
