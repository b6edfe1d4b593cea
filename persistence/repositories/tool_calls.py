"""Tool calls: the machine TOOL_CALL of the canon."""

from typing import Any, Unpack
from uuid import UUID

from persistence.database.tables import TOOL_CALLS
from persistence.errors import InvalidInput
from persistence.models import Step, ToolCall
from persistence.repositories.base import AggregateRepository, Details, checked


class ToolCallRepository(AggregateRepository[ToolCall]):
    """What steps asked of tools. Commands return the call's new state."""

    table = TOOL_CALLS
    model = ToolCall

    def request(
        self, step: Step, *, tool_name: str, args: Any = None, tool_call_id: UUID | None = None, **details: Unpack[Details]
    ) -> ToolCall:
        """Notes a call that is to be made later. Arguments as for ``start``."""
        return self._new("TOOL_CALL_REQUESTED", step, tool_name, args, tool_call_id, details)

    def start(
        self,
        origin: Step | ToolCall,
        *,
        tool_name: str | None = None,
        args: Any = None,
        tool_call_id: UUID | None = None,
        **details: Unpack[Details],
    ) -> ToolCall:
        """Starts a call by a step, or one that was requested before. By a step that has ended it is refused (InvalidTransition).

        tool_name: 1 to 200 characters. args: JSON. tool_call_id: an id of one's own.
        """
        if isinstance(origin, ToolCall):
            if (tool_name, args, tool_call_id) != (None, None, None):
                raise InvalidInput(
                    "tool_name, args, tool_call_id: were said when the call was requested", hint="leave them out", field="tool_name"
                )
            return self._advance(origin, "TOOL_CALL_STARTED", {}, details)
        if tool_name is None:
            raise InvalidInput("tool_name: is missing", hint="name the tool", field="tool_name")
        return self._new("TOOL_CALL_STARTED", origin, tool_name, args, tool_call_id, details)

    def complete(self, call: ToolCall, result: Any = None, **details: Unpack[Details]) -> ToolCall:
        """Ends a call with the tool's answer."""
        return self._advance(call, "TOOL_CALL_COMPLETED", {"tool_result": result}, details)

    def fail(self, call: ToolCall, error: dict[str, Any], **details: Unpack[Details]) -> ToolCall:
        """Ends a call that went wrong. error: a JSON object."""
        return self._advance(call, "TOOL_CALL_FAILED", {"error_details": error}, details)

    def cancel(self, call: ToolCall, **details: Unpack[Details]) -> ToolCall:
        """Gives a call up."""
        return self._advance(call, "TOOL_CALL_CANCELLED", {}, details)

    def _new(self, event_type: str, step: Step, tool_name: str, args: Any, tool_call_id: UUID | None, details: Details) -> ToolCall:
        checked(step, "step", Step)
        data = {"run_id": step.run_id, "step_id": step.id, "tool_name": tool_name, "tool_args": args}
        return self._begin(event_type, data, details, cause=step, item_id=tool_call_id)
