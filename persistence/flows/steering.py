"""Ending a run and letting one go on, whoever executes it."""

from uuid import UUID

from persistence.errors import InvalidTransition
from persistence.flows.cancelling import cancellation
from persistence.models import Run
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
