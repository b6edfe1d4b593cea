"""What rows can be listed and counted by."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict
from uuid import UUID

from persistence.canon import CANON
from persistence.errors import InvalidInput

Ids = UUID | Sequence[UUID]
Texts = str | Sequence[str]
Numbers = int | Sequence[int]
Times = datetime | Sequence[datetime]


class Filters(TypedDict, total=False):
    """Columns, each with the value it must have, or a sequence of values. Not every table has every column; one that it does not have is an
    InvalidInput, which names those it has.
    """

    id: Ids
    aggregate_id: Ids
    correlation_id: Ids
    causation_id: Ids
    last_event_id: Ids
    run_id: Ids
    parent_run_id: Ids
    signal_id: Ids
    step_id: Ids
    memory_id: Ids
    index_id: Ids
    secret_id: Ids
    key_id: Ids

    actor: Texts
    agent: Texts
    context: Texts
    aggregate_type: Texts
    destination: Texts
    digest: Texts
    effect_type: Texts
    event_type: Texts
    idempotency_key: Texts
    label: Texts
    name: Texts
    folder: Texts
    secret_kind: Texts
    snapshot_kind: Texts
    subject: Texts
    ordering_key: Texts
    run_type: Texts
    signal_type: Texts
    source: Texts
    source_channel: Texts
    source_id: Texts
    status: Texts
    step_type: Texts
    tool_name: Texts
    traceparent: Texts
    wait_reason: Texts

    aggregate_version: Numbers
    event_version: Numbers
    number: Numbers
    priority: Numbers
    retry_count: Numbers
    sequence_number: Numbers
    size_bytes: Numbers
    step_index: Numbers
    transaction_id: Numbers
    version: Numbers
    blocks_key: bool

    cancel_requested_at: Times
    completed_at: Times
    created_at: Times
    executed_at: Times
    next_retry_at: Times
    occurred_at: Times
    processed_at: Times
    published_at: Times
    received_at: Times
    restored_at: Times
    started_at: Times
    updated_at: Times


def check_status(kind: str, status: str | None) -> None:
    """Raises InvalidInput for a status that the canon does not know of a kind of aggregate. None: none is asked for."""
    statuses = CANON.aggregates[kind].statuses
    if status is not None and status not in statuses:
        raise InvalidInput(
            f"status: {status!r} is none of a {kind.lower()}", hint=f"choose from {', '.join(statuses)}", field="status"
        )
