"""Steps: the machine STEP of the canon."""

from datetime import datetime
from typing import Any, Literal, Unpack
from uuid import UUID

from persistence.database.tables import STEPS
from persistence.errors import InvalidInput
from persistence.models import Run, Step
from persistence.repositories.base import AggregateRepository, Details, checked, moment
from persistence.repositories.work import Work


class StepRepository(AggregateRepository[Step]):
    """Pieces of work in runs. Commands return the step's new state."""

    table = STEPS
    model = Step

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self._next_index: dict[UUID, int] = {}

    def schedule(
        self,
        run: Run,
        *,
        step_type: str,
        input: Any = None,  # noqa: A002  the canon's word
        index: int | None = None,
        step_id: UUID | None = None,
        **details: Unpack[Details],
    ) -> Step:
        """Notes a step that is to be started later. Arguments as for ``start``."""
        return self._new("STEP_SCHEDULED", run, step_type, input, index, step_id, details)

    def start(
        self,
        origin: Run | Step,
        *,
        step_type: str | None = None,
        input: Any = None,  # noqa: A002  the canon's word
        index: int | None = None,
        step_id: UUID | None = None,
        position: str | None = None,
        **details: Unpack[Details],
    ) -> Step:
        """Starts a step of a run, or one that was scheduled before. In a run that has ended it is refused (InvalidTransition).

        origin: the run, or the scheduled step.
        step_type: what kind of work it is, 1 to 200 characters. input: JSON. index: its place in the run, if not after those that are there.
        step_id: an id of one's own. position: its place in a flow, such as ``3`` or ``3.0.2``.
        """
        if isinstance(origin, Step):
            if (step_type, input, index, step_id, position) != (None, None, None, None, None):
                raise InvalidInput(
                    "step_type, input, index, step_id, position: were said when the step was scheduled",
                    hint="leave them out",
                    field="step_type",
                )
            return self._advance(origin, "STEP_STARTED", {}, details)
        if step_type is None:
            raise InvalidInput("step_type: is missing", hint="say what kind of work it is", field="step_type")
        return self._new("STEP_STARTED", origin, step_type, input, index, step_id, details, position=position)

    def record(
        self,
        run: Run,
        *,
        step_type: str,
        input: Any = None,  # noqa: A002  the canon's word
        output: Any = None,
        index: int | None = None,
        step_id: UUID | None = None,
        position: str | None = None,
        **details: Unpack[Details],
    ) -> Step:
        """Notes a step of which only the completion was seen. Arguments as for ``start``, and output: JSON."""
        return self._new("STEP_RECORDED", run, step_type, input, index, step_id, details, position=position, output_result=output)

    def wait(
        self,
        run: Run,
        *,
        step_type: str,
        input: Any = None,  # noqa: A002  the canon's word
        reason: str | None = None,
        until: datetime | None = None,
        signal_type: str | None = None,
        signal_key: str | None = None,
        index: int | None = None,
        step_id: UUID | None = None,
        position: str | None = None,
        **details: Unpack[Details],
    ) -> Step:
        """Notes a step of a flow that begins by waiting, and ends when it has what it waits for. Arguments as for ``start``.

        reason: for what, in words. until: the run is woken then at the latest; with a time zone. signal_type, signal_key: it is woken by such a
        signal.
        """
        waits = {"wait_reason": reason, "wait_until": moment(until, "until"), "signal_type": signal_type, "signal_key": signal_key}
        return self._new("STEP_AWAITED", run, step_type, input, index, step_id, details, position=position, **waits)

    def progress(self, step: Step, progress: Any, **details: Unpack[Details]) -> Step:
        """Notes how far a step that is at work has come. progress: JSON."""
        return self._advance(step, "STEP_PROGRESSED", {"progress": progress}, details)

    def suspend(self, step: Step, reason: str | None = None, **details: Unpack[Details]) -> Step:
        """Sets a step waiting for something."""
        return self._advance(step, "STEP_SUSPENDED", {"wait_reason": reason}, details)

    def resume(self, step: Step, **details: Unpack[Details]) -> Step:
        """Lets a waiting step go on."""
        return self._advance(step, "STEP_RESUMED", {}, details)

    def complete(
        self, step: Step, output: Any = None, *, open_parts: Literal["cancel"] | None = None, **details: Unpack[Details]
    ) -> Step:
        """Ends a step well. open_parts: what becomes of tool calls that are still open; none: where there are some, it is an InvalidTransition."""
        return self._advance(step, "STEP_COMPLETED", {"output_result": output, "open_parts": open_parts}, details)

    def fail(self, step: Step, error: dict[str, Any], *, retry_at: datetime | None = None, **details: Unpack[Details]) -> Step:
        """Ends a step badly; it can be retried. error: a JSON object. retry_at: in a flow, when its executor tries again."""
        return self._advance(step, "STEP_FAILED", {"error_details": error, "wait_until": moment(retry_at, "retry_at")}, details)

    def skip(self, step: Step, **details: Unpack[Details]) -> Step:
        """Leaves out a step that was scheduled."""
        return self._advance(step, "STEP_SKIPPED", {}, details)

    def cancel(self, step: Step, error: dict[str, Any] | None = None, **details: Unpack[Details]) -> Step:
        """Gives a step up for good, and with it its open tool calls and its effects that are not delivered."""
        return self._advance(step, "STEP_CANCELLED", {"error_details": error}, details)

    def retry(self, step: Step, **details: Unpack[Details]) -> Step:
        """Lets a failed step go on; counts one retry."""
        return self._advance(step, "STEP_RETRIED", {}, details)

    def _new(
        self,
        event_type: str,
        run: Run,
        step_type: str,
        input: Any,  # noqa: A002
        index: int | None,
        step_id: UUID | None,
        details: Details,
        **data: Any,
    ) -> Step:
        checked(run, "run", Run)
        data |= {
            "run_id": run.id,
            "step_type": step_type,
            "step_index": self._index(run) if index is None else index,
            "input_data": input,
        }
        return self._begin(event_type, data, details, cause=run, item_id=step_id)

    def _index(self, run: Run) -> int | None:
        """The next place in a run that began in this transaction. In others the database knows best."""
        if not self._work.has_begun(run.id):
            return None
        index = self._next_index.get(run.id, 0)
        self._next_index[run.id] = index + 1
        return index
