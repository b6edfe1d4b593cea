"""Why a run failed, or what it is waiting for: the debugging procedure of a failed run, with a conclusion in words."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from persistence.models import Effect, Event, Model, Run, Step, ToolCall
from persistence.queries.causation import Break, causation_of
from persistence.queries.words import duration, error_text
from persistence.transaction import Transaction

_OPEN = ("PENDING", "RUNNING", "WAITING")
_WORTH_SAYING: Final = 60.0

# Who has a run of a flow, or what it waits for before somebody may.
_LISTED: Final = """
SELECT
  q.due_at, q.leased_by, q.leased_until, q.held_by, q.leased_until > now() AS is_held, extract(epoch FROM now() - q.due_at)::double precision AS late,
  (
    SELECT f.id
    FROM persistence.run_queue AS f
    WHERE f.tenant_id = q.tenant_id
      AND f.ordering_key = q.ordering_key
      AND f.held_by IS DISTINCT FROM 'KEY'
  ) AS before_it
FROM persistence.run_queue AS q
WHERE q.tenant_id = $1
  AND q.id = $2
"""


class FailedStep(Model):
    """A step that failed: the event that says so, the tool calls that failed in it, and how often it was tried again."""

    step: Step
    event: Event | None
    tool_calls: Sequence[ToolCall]
    retries: int


class RunDiagnosis(Model):
    """conclusion: what happened, in words. next: what to do, if anything. waits_for: steps that are not over.
    effects: those that are not delivered. breaks: where the chain of causes is broken. moved_at: when something happened in it last.
    quiet_seconds: how long ago, of a run that is not over.
    """

    run: Run
    conclusion: str
    next: str | None
    moved_at: datetime
    quiet_seconds: float | None
    failed_steps: Sequence[FailedStep]
    waits_for: Sequence[Step]
    effects: Sequence[Effect]
    breaks: Sequence[Break]


async def diagnose_run(tx: Transaction, run_id: UUID) -> RunDiagnosis:
    """Follows the four steps: failed steps, the events that say why, failed tool calls, retries. Raises NotFound."""
    run = await tx.runs.get(run_id)
    steps = sorted(await tx.steps.all(run_id=run_id), key=lambda step: (step.step_index or 0, step.id))
    calls = await tx.tool_calls.all(run_id=run_id)
    failed = []
    for step in steps:
        if step.status == "FAILED":
            life = await tx.events.of_aggregate(step.id)
            says = next((event for event in reversed(life) if event.event_type == "STEP_FAILED"), None)
            bad = [call for call in calls if call.step_id == step.id and call.status == "FAILED"]
            failed.append(FailedStep(step=step, event=says, tool_calls=bad, retries=step.retry_count))
    requested = await tx.effects.all(run_id=run_id)
    effects = [effect for effect in requested if effect.status in {"PENDING", "DEAD_LETTER"}]
    waits_for = [step for step in steps if step.status in _OPEN]
    causation = await causation_of(tx, run.correlation_id)
    own = {run.id} | {item.id for item in (*steps, *calls, *requested)}
    breaks = [found for found in causation.breaks if found.aggregate_id in own]
    moved_at = max(item.updated_at or datetime.now(UTC) for item in (run, *steps, *calls, *requested))
    quiet = (datetime.now(UTC) - moved_at).total_seconds() if run.status in _OPEN else None
    conclusion, advice = _conclude(run, failed, waits_for, effects, breaks, quiet)
    if run.flow_version is not None:
        rows = await tx.fetch(_LISTED, run.tenant_id, run.id)
        said, to_do = _of_flow(run, waits_for, rows[0] if rows else None)
        conclusion, advice = f"{conclusion}{said}", to_do or advice
    return RunDiagnosis(
        run=run,
        conclusion=conclusion,
        next=advice,
        moved_at=moved_at,
        quiet_seconds=quiet,
        failed_steps=failed,
        waits_for=waits_for,
        effects=effects,
        breaks=breaks,
    )


def _conclude(
    run: Run,
    failed: Sequence[FailedStep],
    waits_for: Sequence[Step],
    effects: Sequence[Effect],
    breaks: Sequence[Break],
    quiet: float | None,
) -> tuple[str, str | None]:
    dead = [effect for effect in effects if effect.status == "DEAD_LETTER"]
    pending = [effect for effect in effects if effect.status == "PENDING"]
    said = [_standing(run, failed, waits_for)]
    if quiet is not None and quiet >= _WORTH_SAYING:
        said.append(f"Nothing has happened in it for {duration(quiet)}.")
    if dead:
        first = dead[0]
        said.append(
            f"{_count(dead, 'effect')} could not be delivered: {first.effect_type} was given up after {first.retry_count} attempts, "
            f"{error_text(first.error_details)}."
        )
    if pending:
        said.append(f"{_count(pending, 'effect')} {'is' if len(pending) == 1 else 'are'} still to be delivered.")
    if breaks:
        said.append(f"Its chain of causes is broken in {_count(breaks, 'place')}: {breaks[0].what}.")
    return " ".join(said), _advice(run, dead, pending, breaks, quiet or 0)


def _standing(run: Run, failed: Sequence[FailedStep], waits_for: Sequence[Step]) -> str:
    tried = f" It was retried {run.retry_count} times." if run.retry_count else ""
    if run.status == "FAILED":
        if not failed:
            return f"The run failed: {error_text(run.error_details)}. None of its steps did.{tried}"
        last = failed[-1]
        if run.error_details in (None, last.step.error_details, *(call.error_details for call in last.tool_calls)):
            return f"The run failed{_because(last)}.{tried}"
        step = f"step {last.step.step_index} {last.step.step_type} had failed{_error(last)}"
        return f"The run failed: {error_text(run.error_details)}. Before that {step}.{tried}"
    if run.status == "COMPLETED":
        forgiven = f", although step {failed[-1].step.step_index} {failed[-1].step.step_type} failed" if failed else ""
        return f"The run was completed{forgiven}.{tried}"
    if run.status == "CANCELLED":
        reason = f": {error_text(run.error_details)}" if run.error_details else ""
        return f"The run was cancelled{reason}.{tried}"
    waiting = "".join(
        f" Step {step.step_index} {step.step_type} is {step.status}{f': {step.wait_reason}' if step.wait_reason else ''}."
        for step in waits_for
    )
    reason = f": {run.wait_reason}" if run.wait_reason else ""
    troubled = f" Step {failed[-1].step.step_index} {failed[-1].step.step_type} failed{_error(failed[-1])}." if failed else ""
    return f"The run is {run.status}{reason}.{waiting}{troubled}{tried}"


def _of_flow(run: Run, waits_for: Sequence[Step], listed: Any) -> tuple[str, str | None]:
    """Who has a run of a flow in hand, or why nobody has; and what to do."""
    name = f"{run.run_type}@{run.flow_version}"
    if run.status == "FAILED":
        return "", f"persistence runs retry {run.id} tries the failed step again, and goes on in the code as it is now"
    if run.status not in _OPEN:
        return "", None
    if listed is None or listed["held_by"] == "WAIT":
        signal = next((step for step in waits_for if step.signal_key), None)
        if signal is None:
            return " No executor has it, as long as it waits.", None
        return (
            " No executor has it, as long as it waits.",
            f"persistence runs signal {signal.signal_type} --key {signal.signal_key} is what it waits for",
        )
    if listed["held_by"] == "KEY":
        return f" It waits for its turn: of ordering key {run.ordering_key} run {listed['before_it']} goes before it.", None
    if listed["is_held"]:
        return f" Executor {listed['leased_by']} has it.", None
    if listed["late"] < 0:
        return f" It is to be taken up at {listed['due_at']:%Y-%m-%d %H:%M:%S} UTC.", None
    lost = f" Executor {listed['leased_by']} had it, and did not come back." if listed["leased_by"] else ""
    return (
        f"{lost} It has been due for {duration(listed['late'])}, and no executor that has flow {name} took it up.",
        f"persistence worker --app, with a program that has {name}" if listed["late"] >= _WORTH_SAYING else None,
    )


def _because(item: FailedStep) -> str:
    again = f" after {item.retries} {'retry' if item.retries == 1 else 'retries'}" if item.retries else ""
    return f" because step {item.step.step_index} {item.step.step_type} failed{again}{_error(item)}"


def _error(item: FailedStep) -> str:
    if not item.tool_calls:
        return f": {error_text(item.step.error_details)}"
    call = item.tool_calls[-1]
    return f", because its tool call {call.tool_name} failed: {error_text(call.error_details)}"


def _advice(run: Run, dead: Sequence[Effect], pending: Sequence[Effect], breaks: Sequence[Break], quiet: float) -> str | None:
    if breaks:
        return "persistence fit says more, and what to do"
    if dead:
        return f"persistence diagnose effect {dead[0].id}"
    if run.status == "FAILED":
        return f"persistence trace --run {run.id} shows all of it; a service may retry the run"
    if pending:
        return f"persistence diagnose effect {pending[0].id}"
    if run.status == "WAITING" and quiet >= _WORTH_SAYING:
        return "whoever it waits for has to resume it; persistence runs cancel gives it up"
    if run.status == "RUNNING" and quiet >= _WORTH_SAYING:
        return f"look whether the service of {run.actor} is alive; persistence runs cancel gives the run up"
    return None


def _count(items: Sequence[object], what: str) -> str:
    return f"{len(items)} {what}{'' if len(items) == 1 else 's'}"
