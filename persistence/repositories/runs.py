"""Runs: the machine RUN of the canon."""

from typing import Any, Unpack
from uuid import UUID

from persistence.database.tables import RUNS
from persistence.models import Run, Signal
from persistence.repositories.base import AggregateRepository, Details


class RunRepository(AggregateRepository[Run]):
    """Executions of orchestrations. Commands return the run's new state."""

    table = RUNS
    model = Run

    def create(self, signal: Signal | Run | None = None, **arguments: Any) -> Run:
        """Notes a run that is to be started later. Arguments as for ``start``."""
        return self._new("RUN_CREATED", signal, **arguments)

    def start(self, origin: Signal | Run | None = None, **arguments: Any) -> Run:
        """Starts a run, or one that was created before.

        origin: the signal or the parent run it begins with; or the created run.
        run_type: what kind of orchestration it is, 1 to 200 characters; input: JSON; run_id: an id of one's own.
        And the Details of any command.
        """
        if isinstance(origin, Run) and not arguments.get("run_type"):
            return self._advance(origin, "RUN_STARTED", {}, Details(**arguments))  # type: ignore[typeddict-item]
        return self._new("RUN_STARTED", origin, **arguments)

    def suspend(self, run: Run, reason: str | None = None, **details: Unpack[Details]) -> Run:
        """Sets a run waiting for something."""
        return self._advance(run, "RUN_SUSPENDED", {"wait_reason": reason}, details)

    def resume(self, run: Run, **details: Unpack[Details]) -> Run:
        """Lets a waiting run go on."""
        return self._advance(run, "RUN_RESUMED", {}, details)

    def complete(self, run: Run, output: Any = None, **details: Unpack[Details]) -> Run:
        """Ends a run well."""
        return self._advance(run, "RUN_COMPLETED", {"output_result": output}, details)

    def fail(self, run: Run, error: dict[str, Any], **details: Unpack[Details]) -> Run:
        """Ends a run badly; it can be retried. error: a JSON object."""
        return self._advance(run, "RUN_FAILED", {"error_details": error}, details)

    def cancel(self, run: Run, error: dict[str, Any] | None = None, **details: Unpack[Details]) -> Run:
        """Gives a run up for good."""
        return self._advance(run, "RUN_CANCELLED", {"error_details": error}, details)

    def retry(self, run: Run, **details: Unpack[Details]) -> Run:
        """Lets a failed run go on; counts one retry."""
        return self._advance(run, "RUN_RETRIED", {}, details)

    def _new(
        self,
        event_type: str,
        origin: Signal | Run | None,
        *,
        run_type: str,
        input: Any = None,  # noqa: A002  the canon's word
        run_id: UUID | None = None,
        correlation_id: UUID | None = None,
        **details: Unpack[Details],
    ) -> Run:
        data = {
            "signal_id": origin.id if isinstance(origin, Signal) else None,
            "parent_run_id": origin.id if isinstance(origin, Run) else None,
            "run_type": run_type,
            "input_data": input,
        }
        return self._begin(event_type, data, details, cause=origin, correlation_id=correlation_id, item_id=run_id)
