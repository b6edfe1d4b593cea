"""/v1/runs: which there are, how each went, and ending or retrying one."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response

from persistence.flows.steering import cancel_run, retry_run
from persistence.models import Run
from persistence.queries.causation import Causation, causation_of
from persistence.queries.comparison import Comparison, compare_runs
from persistence.queries.run_diagnosis import RunDiagnosis, diagnose_run
from persistence.queries.runs import RunFilter, RunPage, found_runs, list_runs
from persistence.queries.size import check_size
from persistence.queries.stalled import QUIET, Stalled, stalled
from persistence.queries.trace import Trace, trace_run
from persistence.queries.waterfall import Waterfall, waterfall
from persistence.service.access import Operating, Reading
from persistence.service.conditions import IfMatch, check_match, tag
from persistence.service.parameters import Cursor, Limit, Reason, Since, StrictRoute, Until
from persistence.service.problems import responses

router = APIRouter(prefix="/v1/runs", tags=["runs"], route_class=StrictRoute)

RunId = Annotated[UUID, Path(description="Id of a run.")]


@router.get("", response_model=RunPage, summary="List runs", responses=responses())
async def list_(
    caller: Reading,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[str | None, Query(description="Only in this status.", examples=["FAILED"])] = None,
    run_type: Annotated[str | None, Query(description="Only of this type.")] = None,
    since: Since = None,
    until: Until = None,
    search: Annotated[
        str | None,
        Query(max_length=800, description="Only behind this: any id, a signal's ``channel:source_id``, or an idempotency key."),
    ] = None,
) -> RunPage:
    """Runs without what went in and came out, the newest first."""
    async with caller.reading() as tx:
        if search:
            return await found_runs(tx, search)
        wanted = RunFilter(status=status, run_type=run_type, since=since, until=until)
        return await list_runs(tx, wanted, limit=limit, after=cursor)


@router.get("/stalled", response_model=Sequence[Stalled], summary="List what does not get on", responses=responses())
async def list_stalled(
    caller: Reading,
    limit: Limit = 50,
    quiet: Annotated[
        float, Query(ge=0, le=31_536_000, description="Seconds in which nothing has happened.")
    ] = QUIET.total_seconds(),
    waiting: Annotated[bool, Query(description="Runs that were suspended, too.")] = False,  # noqa: FBT002  a query has names only
) -> Sequence[Stalled]:
    """Runs under way, and tool calls, in which nothing has happened for a while; the longest silence first."""
    async with caller.reading() as tx:
        return await stalled(tx, timedelta(seconds=quiet), waiting=waiting, limit=limit)


@router.get("/{run_id}", response_model=Run, summary="Read a run", responses=responses(404))
async def read(caller: Reading, run_id: RunId, response: Response) -> Run:
    """One run, with its version as ETag."""
    async with caller.reading() as tx:
        run = await tx.runs.get(run_id)
    tag(response, run)
    return run


@router.get("/{run_id}/trace", response_model=Trace, summary="Trace a run", responses=responses(404, 413))
async def trace(caller: Reading, run_id: RunId) -> Trace:
    """Everything from the signal that began it to the last delivery: when, by whom, and because of what."""
    async with caller.reading() as tx:
        await check_size(tx, run_id)
        return await trace_run(tx, run_id)


@router.get("/{run_id}/waterfall", response_model=Waterfall, summary="Time a run", responses=responses(404, 413))
async def time(caller: Reading, run_id: RunId) -> Waterfall:
    """When each part of it began and ended."""
    async with caller.reading() as tx:
        await check_size(tx, run_id)
        return waterfall(await trace_run(tx, run_id))


@router.get("/{run_id}/causation", response_model=Causation, summary="Walk a run's causes", responses=responses(404, 413))
async def causes(caller: Reading, run_id: RunId) -> Causation:
    """The tree of causes of its correlation, and where that is broken."""
    async with caller.reading() as tx:
        await check_size(tx, run_id)
        return await causation_of(tx, (await tx.runs.get(run_id)).correlation_id)


@router.get("/{run_id}/diagnosis", response_model=RunDiagnosis, summary="Diagnose a run", responses=responses(404, 413))
async def diagnose(caller: Reading, run_id: RunId) -> RunDiagnosis:
    """Why it failed, or what it waits for, in words."""
    async with caller.reading() as tx:
        await check_size(tx, run_id)
        return await diagnose_run(tx, run_id)


@router.get("/{run_id}/comparison", response_model=Comparison, summary="Compare two runs", responses=responses(404))
async def compare(
    caller: Reading, run_id: RunId, other: Annotated[UUID, Query(alias="with", description="Id of the other run.")]
) -> Comparison:
    """Two runs side by side, and where they part."""
    async with caller.reading() as tx:
        return await compare_runs(tx, run_id, other)


@router.post("/{run_id}/cancel", response_model=Run, summary="Cancel a run", responses=responses(400, 404, 409, 412, 413, 428))
async def cancel(caller: Operating, run_id: RunId, body: Reason, response: Response, if_match: IfMatch = None) -> Run:
    """Gives a run up for good, with its open steps and tool calls, its child runs and its effects that are not delivered.

    Its service learns of it when it next writes: 409 from there on. A run of a flow that is under way is asked to end: it undoes what it did first.
    """
    async with caller.transaction() as tx:
        run = await tx.runs.get(run_id)
        check_match(if_match, run)
        run = await cancel_run(tx, run, body.message)
    tag(response, run)
    return run


@router.post("/{run_id}/retry", response_model=Run, summary="Retry a run", responses=responses(404, 409, 412, 413, 428))
async def retry(caller: Operating, run_id: RunId, response: Response, if_match: IfMatch = None) -> Run:
    """Lets a failed run go on; its service does the work."""
    async with caller.transaction() as tx:
        run = await tx.runs.get(run_id)
        check_match(if_match, run)
        run = await retry_run(tx, run)
    tag(response, run)
    return run
