"""Tool calls: the machine TOOL_CALL of the canon."""

from typing import Any, Unpack
from uuid import UUID

from persistence.database.tables import TOOL_CALLS
from persistence.models import Step, ToolCall
from persistence.repositories.base import AggregateRepository, Details


class ToolCallRepository(AggregateRepository[ToolCall]):
    """What steps asked of tools. Commands return the call's new state."""

    table = TOOL_CALLS
    model = ToolCall

    def request(self, step: Step, *, tool_name: str, **arguments: Any) -> ToolCall:
        """Notes a call that is to be made later. Arguments as for ``start``."""
        return self._new("TOOL_CALL_REQUESTED", step, tool_name=tool_name, **arguments)

    def start(self, origin: Step | ToolCall, *, tool_name: str | None = None, **arguments: Any) -> ToolCall:
        """Starts a call by a step, or one that was requested before.

        tool_name: 1 to 200 characters; args: JSON; tool_call_id: an id of one's own. And the Details of any command.
        """
        if isinstance(origin, ToolCall):
            return self._advance(origin, "TOOL_CALL_STARTED", {}, Details(**arguments))  # type: ignore[typeddict-item]
        return self._new("TOOL_CALL_STARTED", origin, tool_name=tool_name or "", **arguments)

    def complete(self, call: ToolCall, result: Any = None, **details: Unpack[Details]) -> ToolCall:
        """Ends a call with the tool's answer."""
        return self._advance(call, "TOOL_CALL_COMPLETED", {"tool_result": result}, details)

    def fail(self, call: ToolCall, error: dict[str, Any], **details: Unpack[Details]) -> ToolCall:
        """Ends a call that went wrong. error: a JSON object."""
        return self._advance(call, "TOOL_CALL_FAILED", {"error_details": error}, details)

    def cancel(self, call: ToolCall, **details: Unpack[Details]) -> ToolCall:
        """Gives a call up."""
        return self._advance(call, "TOOL_CALL_CANCELLED", {}, details)

    def _new(
        self,
        event_type: str,
        step: Step,
        *,
        tool_name: str,
        args: Any = None,
        tool_call_id: UUID | None = None,
        **details: Unpack[Details],
    ) -> ToolCall:
        data = {"run_id": step.run_id, "step_id": step.id, "tool_name": tool_name, "tool_args": args}
        return self._begin(event_type, data, details, cause=step, item_id=tool_call_id)
