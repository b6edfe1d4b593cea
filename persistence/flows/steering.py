"""Ending a run and letting one go on, whoever executes it."""

from uuid import UUID

from persistence.errors import InvalidInput, InvalidTransition
from persistence.flows.cancelling import cancellation
from persistence.models import FlowTerms, Run, Step
from persistence.transaction import Transaction


async def cancel_run(tx: Transaction, run: Run, reason: str) -> Run:
    """Gives a run up. One of a flow that is under way is asked to end: its executor undoes what the flow said with ``compensate``, and ends it
    then. Raises InvalidTransition for one that has ended.
    """
    if run.flow_version is None or run.status in ("PENDING", "FAILED"):
        return tx.runs.cancel(run, {"type": "Cancelled", "message": reason})
    if run.status in ("COMPLETED", "CANCELLED"):
        raise InvalidTransition(f"run {run.id} is {run.status}", hint="what has ended cannot be cancelled")
    asked = cancellation(run.id, reason)
    if await tx.signals.count(source_channel=asked.source_channel, source_id=asked.source_id) == 0:
        tx.signals.record(asked, correlation_id=run.correlation_id, because=run)
    return run


async def retry_run(tx: Transaction, run: Run) -> Run:
    """Lets a failed run go on. In one of a flow the step that failed it is tried again, and the flow goes on from there, in the code as it is now.
    Raises InvalidTransition for one that has not failed, and where what it did was undone.
    """
    if run.flow_version is None:
        return tx.runs.retry(run)
    error = run.error_details or {}
    if error.get("undone"):
        raise InvalidTransition(f"run {run.id}: what it did was undone", hint="start it anew")
    again = tx.runs.retry(run)
    if step_id := error.get("step_id"):
        step = await tx.steps.find(UUID(step_id))
        if step is not None and step.status == "FAILED":
            tx.steps.retry(step, because=again)
    return again


async def fork_run(tx: Transaction, run: Run, at: str, *, version: int | None = None) -> Run:
    """Starts a new run of a flow that has done what another one did before a step, and goes on from there: another attempt that leaves the first as
    it is.

    at: the step's position, or its id. version: of the flow; none: that of the run. What the steps before gave is taken over as it is recorded;
    effects are not requested again, nor children started. Raises InvalidInput for a run of no flow, and for a step that is none of it.
    """
    if run.flow_version is None:
        raise InvalidInput(f"run {run.id} is no flow's", hint="its service begins another", field="run_id")
    steps = sorted(await tx.steps.all(run_id=run.id), key=lambda step: step.step_index or 0)
    first = next((step for step in steps if at in (step.position, str(step.id))), None)
    if first is None:
        raise InvalidInput(f"at: run {run.id} has no step {at}", hint="persistence trace --run shows them", field="at")
    forked = tx.runs.create(
        run_type=run.run_type,
        input=run.input_data,
        correlation_id=run.correlation_id,
        flow=FlowTerms(version=version or run.flow_version, ordering_key=run.ordering_key, priority=run.priority or 0),
        because=run,
        attributes={"forked_from": str(run.id), "at": at},
    )
    for step in steps:
        if (step.step_index or 0) < (first.step_index or 0) and step.position and not step.position.startswith("c"):
            await _copy(tx, forked, step)
    return forked


async def _copy(tx: Transaction, forked: Run, step: Step) -> None:
    """A step that is over, as it was; one that is not is done anew."""
    if step.status == "FAILED" and step.wait_until is None:
        begun = tx.steps.start(
            forked, step_type=step.step_type, input=step.input_data, index=step.step_index, position=step.position
        )
        tx.steps.fail(begun, step.error_details or {})
    elif step.status == "COMPLETED":
        output = step.output_result
        if step.step_type.startswith("tool:"):
            output = next((call.tool_result for call in await tx.tool_calls.all(step_id=step.id, status="COMPLETED")), None)
        tx.steps.record(
            forked,
            step_type=step.step_type,
            input=step.input_data,
            output=output,
            index=step.step_index,
            position=step.position,
            attributes={"copied_from": str(step.id)},
        )
