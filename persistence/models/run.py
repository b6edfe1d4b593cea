"""Runs: executions of orchestrations."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from persistence.models.base import AggregateModel, Given, Json


class Run(AggregateModel):
    """One execution, begun by a signal, by another run, or by itself.

    flow_version: of a run that executors execute; the flow's name is its run_type. flow_key: its caller's name for it. ordering_key: of those of one
    key one runs at a time. priority: lower goes first. starts_at: not before. deadline: it fails, then.
    """

    kind: ClassVar[str] = "RUN"

    signal_id: UUID | None = None
    parent_run_id: UUID | None = None
    run_type: str
    flow_version: int | None = None
    flow_key: str | None = None
    ordering_key: str | None = None
    priority: int | None = None
    starts_at: datetime | None = None
    deadline: datetime | None = None
    input_data: Json = None
    output_result: Json = None
    error_details: Json = None
    wait_reason: str | None = None
    retry_count: int = 0
    started_at: datetime | None = None
    completed_at: datetime | None = None


class FlowTerms(Given):
    """How a run of a flow is to be executed.

    version: of the flow. key: its caller's name for the run, at most 300 characters. ordering_key: of those of one key one runs at a time, in the
    order in which they were committed; at most 300 characters. priority: -100 to 100; lower goes first. starts_at: not before. deadline: it fails,
    then; both with a time zone.
    """

    version: int
    key: str | None = None
    ordering_key: str | None = None
    priority: int = 0
    starts_at: datetime | None = None
    deadline: datetime | None = None
