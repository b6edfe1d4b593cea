"""Runs: the machine RUN of the canon."""

from typing import Any, Literal, Unpack
from uuid import UUID

from persistence.database.tables import RUNS
from persistence.errors import InvalidInput
from persistence.models import FlowTerms, Run, Signal
from persistence.repositories.base import AggregateRepository, Details, checked, moment


class RunRepository(AggregateRepository[Run]):
    """Executions of orchestrations. Commands return the run's new state."""

    table = RUNS
    model = Run

    def create(
        self,
        origin: Signal | Run | None = None,
        *,
        run_type: str,
        input: Any = None,  # noqa: A002  the canon's word
        run_id: UUID | None = None,
        correlation_id: UUID | None = None,
        flow: FlowTerms | None = None,
        **details: Unpack[Details],
    ) -> Run:
        """Notes a run that is to be started later. Arguments as for ``start``. flow: executors start it, those that have the flow named by
        ``run_type``.
        """
        return self._new("RUN_CREATED", origin, run_type, input, run_id, correlation_id, details, flow)

    def start(
        self,
        origin: Signal | Run | None = None,
        *,
        run_type: str | None = None,
        input: Any = None,  # noqa: A002  the canon's word
        run_id: UUID | None = None,
        correlation_id: UUID | None = None,
        **details: Unpack[Details],
    ) -> Run:
        """Starts a run, or one that was created before.

        origin: the signal or the parent run it begins with; or, without ``run_type``, the created run.
        run_type: what kind of orchestration it is, 1 to 200 characters. input: JSON. run_id: an id of one's own.
        correlation_id: of a run without an origin; one with an origin has that one's. A run of a parent that has ended is refused
        (InvalidTransition).
        """
        if run_type is not None:
            return self._new("RUN_STARTED", origin, run_type, input, run_id, correlation_id, details)
        if not isinstance(origin, Run):
            raise InvalidInput("run_type: is missing", hint="say what kind of orchestration it is", field="run_type")
        if (input, run_id, correlation_id) != (None, None, None):
            raise InvalidInput(
                "input, run_id, correlation_id: were said when the run was created", hint="leave them out", field="input"
            )
        return self._advance(origin, "RUN_STARTED", {}, details)

    def suspend(self, run: Run, reason: str | None = None, **details: Unpack[Details]) -> Run:
        """Sets a run waiting for something."""
        return self._advance(run, "RUN_SUSPENDED", {"wait_reason": reason}, details)

    def resume(self, run: Run, **details: Unpack[Details]) -> Run:
        """Lets a waiting run go on."""
        return self._advance(run, "RUN_RESUMED", {}, details)

    def complete(
        self, run: Run, output: Any = None, *, open_parts: Literal["cancel"] | None = None, **details: Unpack[Details]
    ) -> Run:
        """Ends a run well. Its effects are delivered all the same.

        open_parts: what becomes of steps, tool calls and child runs that are still open; none: where there are some, it is an InvalidTransition.
        """
        return self._advance(run, "RUN_COMPLETED", {"output_result": output, "open_parts": open_parts}, details)

    def fail(self, run: Run, error: dict[str, Any], **details: Unpack[Details]) -> Run:
        """Ends a run badly; it can be retried, and until then nothing begins in it. error: a JSON object."""
        return self._advance(run, "RUN_FAILED", {"error_details": error}, details)

    def cancel(self, run: Run, error: dict[str, Any] | None = None, **details: Unpack[Details]) -> Run:
        """Gives a run up for good, and with it its open steps and tool calls, its child runs, and its effects that are not delivered.

        Each of these gets an event that the cancellation caused. An effect that a worker is delivering at that moment is not tried again, and the
        handler is told (``delivery.cancelled``). error: a JSON object that says why.
        """
        return self._advance(run, "RUN_CANCELLED", {"error_details": error}, details)

    def retry(self, run: Run, **details: Unpack[Details]) -> Run:
        """Lets a failed run go on; counts one retry."""
        return self._advance(run, "RUN_RETRIED", {}, details)

    def _new(
        self,
        event_type: str,
        origin: Signal | Run | None,
        run_type: str,
        input: Any,  # noqa: A002
        run_id: UUID | None,
        correlation_id: UUID | None,
        details: Details,
        flow: FlowTerms | None = None,
    ) -> Run:
        if origin is not None:
            checked(origin, "origin", Signal, Run)
        data = {
            "signal_id": origin.id if isinstance(origin, Signal) else None,
            "parent_run_id": origin.id if isinstance(origin, Run) else None,
            "run_type": run_type,
            "input_data": input,
        }
        if flow is not None:
            data |= _terms(flow)
        return self._begin(event_type, data, details, cause=origin, correlation_id=correlation_id, item_id=run_id)


def _terms(flow: FlowTerms) -> dict[str, Any]:
    return {
        "flow_version": flow.version,
        "flow_key": flow.key,
        "ordering_key": flow.ordering_key,
        "priority": flow.priority or None,
        "starts_at": moment(flow.starts_at, "starts_at"),
        "deadline": moment(flow.deadline, "deadline"),
    }
