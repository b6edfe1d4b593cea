"""Steps: the machine STEP of the canon."""

from typing import Any, Unpack
from uuid import UUID

from persistence.database.tables import STEPS
from persistence.models import Run, Step
from persistence.repositories.base import AggregateRepository, Details
from persistence.repositories.work import Work


class StepRepository(AggregateRepository[Step]):
    """Pieces of work in runs. Commands return the step's new state."""

    table = STEPS
    model = Step

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self._next_index: dict[UUID, int] = {}

    def schedule(self, run: Run, *, step_type: str, **arguments: Any) -> Step:
        """Notes a step that is to be started later. Arguments as for ``start``."""
        return self._new("STEP_SCHEDULED", run, step_type=step_type, **arguments)

    def start(self, origin: Run | Step, *, step_type: str | None = None, **arguments: Any) -> Step:
        """Starts a step of a run, or one that was scheduled before.

        origin: the run, or the scheduled step.
        step_type: what kind of work it is, 1 to 200 characters; input: JSON; step_id: an id of one's own; index: its place in the run,
        if not after those that are there. And the Details of any command.
        """
        if isinstance(origin, Step):
            return self._advance(origin, "STEP_STARTED", {}, Details(**arguments))  # type: ignore[typeddict-item]
        return self._new("STEP_STARTED", origin, step_type=step_type or "", **arguments)

    def record(self, run: Run, *, step_type: str, output: Any = None, **arguments: Any) -> Step:
        """Notes a step of which only the completion was seen. Arguments as for ``start``, and output: JSON."""
        return self._new("STEP_RECORDED", run, step_type=step_type, output=output, **arguments)

    def suspend(self, step: Step, reason: str | None = None, **details: Unpack[Details]) -> Step:
        """Sets a step waiting for something."""
        return self._advance(step, "STEP_SUSPENDED", {"wait_reason": reason}, details)

    def resume(self, step: Step, **details: Unpack[Details]) -> Step:
        """Lets a waiting step go on."""
        return self._advance(step, "STEP_RESUMED", {}, details)

    def complete(self, step: Step, output: Any = None, **details: Unpack[Details]) -> Step:
        """Ends a step well."""
        return self._advance(step, "STEP_COMPLETED", {"output_result": output}, details)

    def fail(self, step: Step, error: dict[str, Any], **details: Unpack[Details]) -> Step:
        """Ends a step badly; it can be retried. error: a JSON object."""
        return self._advance(step, "STEP_FAILED", {"error_details": error}, details)

    def skip(self, step: Step, **details: Unpack[Details]) -> Step:
        """Leaves out a step that was scheduled."""
        return self._advance(step, "STEP_SKIPPED", {}, details)

    def cancel(self, step: Step, error: dict[str, Any] | None = None, **details: Unpack[Details]) -> Step:
        """Gives a step up for good."""
        return self._advance(step, "STEP_CANCELLED", {"error_details": error}, details)

    def retry(self, step: Step, **details: Unpack[Details]) -> Step:
        """Lets a failed step go on; counts one retry."""
        return self._advance(step, "STEP_RETRIED", {}, details)

    def _new(
        self,
        event_type: str,
        run: Run,
        *,
        step_type: str,
        input: Any = None,  # noqa: A002  the canon's word
        output: Any = None,
        index: int | None = None,
        step_id: UUID | None = None,
        **details: Unpack[Details],
    ) -> Step:
        data = {
            "run_id": run.id,
            "step_type": step_type,
            "step_index": self._index(run) if index is None else index,
            "input_data": input,
            "output_result": output,
        }
        return self._begin(event_type, data, details, cause=run, item_id=step_id)

    def _index(self, run: Run) -> int | None:
        """The next place in a run that began here. In others the database knows best."""
        if run.created_at is not None:
            return None
        index = self._next_index.get(run.id, 0)
        self._next_index[run.id] = index + 1
        return index
