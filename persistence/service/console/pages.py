"""The pages that only show."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from persistence.canon import CANON
from persistence.errors import PersistenceError
from persistence.gates.checks import shipped_suites
from persistence.models import Role, Run
from persistence.queries.causation import causation_of
from persistence.queries.comparison import compare_runs
from persistence.queries.dead_letters import DeadLetterFilter, dead_letter_groups
from persistence.queries.effect_diagnosis import diagnose_effect
from persistence.queries.gates import last_gates
from persistence.queries.moment import moment_of
from persistence.queries.outbox_state import attendance, leases, outbox_depth, troubled_destinations
from persistence.queries.overview import MOST, RECENT_RUNS, overview
from persistence.queries.run_diagnosis import diagnose_run
from persistence.queries.runs import RunFilter, found_runs, list_runs
from persistence.queries.size import check_size
from persistence.queries.stalled import QUIET, stalled
from persistence.queries.trace import trace_run
from persistence.queries.waterfall import waterfall
from persistence.service.access import Caller, require, streaming
from persistence.service.console.parameters import Text, id_of, moment_in
from persistence.service.console.rendering import render, with_query
from persistence.service.console.session import Visiting
from persistence.service.data import Files
from persistence.snapshots.taking import snapshots_of

router = APIRouter()

MOST_DEAD = 2_000
_TICK = 0.25
_TICKS = 8
_RECHECK = 120
_PAGE = 50
_STATUSES = CANON.aggregates[Run.kind].statuses


@router.get("/")
async def home(request: Request, caller: Visiting) -> HTMLResponse:
    """How the tenant is doing."""
    return render(request, "overview.html", **await _overview(caller))


@router.get("/live")
async def live(request: Request, caller: Visiting) -> StreamingResponse:
    """The overview again and again, as server-sent events."""

    async def frames() -> AsyncIterator[str]:
        with streaming(request, caller) as refusal:
            if refusal:
                yield f"retry: 60000\n: {refusal}\n\n"
                return
            for tick in count():
                if request.app.state.stopping.is_set() or request.app.state.token_cache.is_revoked(caller.bearer.token_id):
                    return
                if tick % _TICKS == 0:
                    try:
                        if tick % _RECHECK == 0:
                            await caller.recheck()
                        page = render(request, "overview_parts.html", **await _overview(caller))
                    except PersistenceError:
                        return  # the browser comes back
                    yield "".join(f"data: {line}\n" for line in bytes(page.body).decode().splitlines()) + "\n"
                await asyncio.sleep(_TICK)

    return StreamingResponse(frames(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _overview(caller: Caller) -> dict[str, Any]:
    async with caller.reading() as tx:
        return {
            "now": await overview(tx),
            "depth": await outbox_depth(tx),
            "dead": (await dead_letter_groups(tx, DeadLetterFilter(), most=MOST_DEAD))[:5],
            "failed": (await list_runs(tx, RunFilter(status="FAILED"), limit=5)).items,
            "gates": await last_gates(tx),
            "most": MOST,
            "recent": RECENT_RUNS,
        }


@router.get("/runs")
async def runs(
    request: Request,
    caller: Visiting,
    search: Text = "",
    status: Text = "",
    run_type: Text = "",
    since: Text = "",
    until: Text = "",
    cursor: Text = "",
) -> HTMLResponse:
    """The list of runs; every filter is in the address, so that a link shares it."""
    wanted = RunFilter(
        status=status or None, run_type=run_type or None, since=moment_in(since, "since"), until=moment_in(until, "until")
    )
    async with caller.reading() as tx:
        if search:
            page = await found_runs(tx, search)
        else:
            page = await list_runs(tx, wanted, limit=_PAGE, after=id_of(cursor, "cursor") if cursor else None)
    query = {"search": search, "status": status, "run_type": run_type, "since": since, "until": until}
    return render(request, "runs.html", page=page, query=query, statuses=_STATUSES, cursor=cursor)


@router.get("/runs/stalled")
async def stalled_runs(request: Request, caller: Visiting, waiting: Text = "") -> HTMLResponse:
    """What does not get on."""
    async with caller.reading() as tx:
        found = await stalled(tx, waiting=bool(waiting), limit=_PAGE)
    return render(request, "stalled.html", found=found, waiting=waiting, quiet=QUIET.total_seconds())


@router.get("/runs/{run_id}")
async def run(request: Request, caller: Visiting, files: Files, run_id: UUID) -> HTMLResponse:
    """One run: why it is as it is, when each part happened, and everything that is known of it."""
    async with caller.reading() as tx:
        await check_size(tx, run_id)
        diagnosis = await diagnose_run(tx, run_id)
        trace = await trace_run(tx, run_id)
        causation = await causation_of(tx, diagnosis.run.correlation_id)
        steps = await tx.steps.all(run_id=run_id)
        calls = await tx.tool_calls.all(run_id=run_id)
        effects = await tx.effects.all(run_id=run_id)
        moment = await moment_of(tx, run_id)
    signal_id = diagnosis.run.signal_id
    data = await files.find_by_signal(caller.bearer.tenant_id, signal_id) if signal_id else None
    return render(
        request,
        "run.html",
        data=data,
        run=diagnosis.run,
        diagnosis=diagnosis,
        trace=trace,
        bars=waterfall(trace),
        causation=causation,
        steps=sorted(steps, key=lambda step: (step.step_index or 0, step.id)),
        calls=calls,
        effects=effects,
        moment=moment,
    )


@router.get("/runs/{run_id}/moment")
async def moment(request: Request, caller: Visiting, run_id: UUID, number: Annotated[int, Query(ge=1)] = 1) -> HTMLResponse:
    """The run as it stood after one of its events."""
    async with caller.reading() as tx:
        await check_size(tx, run_id)
        found = await moment_of(tx, run_id, number)
    return render(request, "moment.html", moment=found)


@router.get("/effects/{effect_id}")
async def effect(request: Request, caller: Visiting, effect_id: UUID) -> HTMLResponse:
    """One effect: why it has or has not happened, every attempt, its payload."""
    async with caller.reading() as tx:
        found = await diagnose_effect(tx, effect_id)
    return render(request, "effect.html", found=found, effect=found.effect)


@router.get("/compare")
async def compare(request: Request, caller: Visiting, left: Text = "", right: Text = "") -> HTMLResponse:
    """Two runs side by side."""
    found = None
    if left and right:
        async with caller.reading() as tx:
            found = await compare_runs(tx, id_of(left, "left"), id_of(right, "right"))
    return render(request, "compare.html", found=found, left=left, right=right)


@router.get("/outbox")
async def outbox(request: Request, caller: Visiting) -> HTMLResponse:
    """Depth and lag, workers and their leases, destinations that fail."""
    async with caller.reading() as tx:
        values: dict[str, Any] = {
            "depth": await outbox_depth(tx),
            "leases": await leases(tx),
            "attendance": await attendance(tx),
            "destinations": await troubled_destinations(tx),
        }
    return render(request, "outbox.html", **values)


@router.get("/snapshots")
async def snapshots(request: Request, caller: Visiting) -> HTMLResponse:
    """Copies of the state on disk."""
    who = caller.circumstances
    found = await snapshots_of(caller.plane, caller.bearer.tenant_id, None, actor=who["actor"], user_id=who["user_id"])
    return render(request, "snapshots.html", snapshots=found)


@router.get("/secrets")
async def secrets(request: Request, caller: Visiting, name: Text = "") -> HTMLResponse:
    """Secrets and their versions, and who read one; never values."""
    require(caller, Role.ADMIN, Role.KEEPER)
    async with caller.reading() as tx:
        found = sorted(await tx.secrets.all(), key=lambda secret: (secret.name, -secret.number))
        numbers = {secret.id: secret.number for secret in found if secret.name == name}
        accesses = (await tx.vault_accesses.list(limit=_PAGE, newest_first=True, secret_id=list(numbers))).items if numbers else []
    shown = [secret for secret in found if secret.name == name] if name else found
    return render(request, "secrets.html", secrets=shown, name=name, accesses=accesses, numbers=numbers)


@router.get("/gates")
async def gates(request: Request, caller: Visiting) -> HTMLResponse:
    """Every check with its last result."""
    async with caller.reading() as tx:
        last = await last_gates(tx)
    results = {check.id: check for check in last.checks} if last else {}
    return render(request, "gates.html", last=last, results=results, checks=shipped_suites())


@router.get("/find")
async def find(request: Request, caller: Visiting, text: Text = "") -> Response:
    """From anything that names a run to that run; to the list where there are several, or none."""
    async with caller.reading() as tx:
        page = await found_runs(tx, text) if text.strip() else None
    if page is not None and len(page.items) == 1:
        return RedirectResponse(f"/console/runs/{page.items[0].id}", 303)
    return RedirectResponse(with_query("/console/runs", {"search": text.strip()}), 303)
