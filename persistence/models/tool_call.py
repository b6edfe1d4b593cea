"""Tool calls: what a step asked of a tool."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from persistence.models.base import AggregateModel, Json


class ToolCall(AggregateModel):
    """One call of a tool by a step."""

    kind: ClassVar[str] = "TOOL_CALL"

    run_id: UUID
    step_id: UUID
    tool_name: str
    tool_args: Json = None
    tool_result: Json = None
    error_details: Json = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
