"""How the run of a flow is told to end: by a signal that its executor looks for, so that it can undo what it did."""

from typing import Final
from uuid import UUID

from persistence.models import NewSignal

CHANNEL: Final = "flow"
"""The source channel of signals that flows and their callers send."""
CANCEL: Final = "flow.cancel"
"""The type of the signal that asks a run to be cancelled; its key is the run's id."""


def cancellation(run_id: UUID, reason: str, by: UUID | None = None) -> NewSignal:
    """The signal that cancels a run, once for each who asks. by: the run that does; none: somebody from outside."""
    source_id = f"cancel:{run_id}" if by is None else f"cancel:{run_id}:{by}"
    return NewSignal(
        source_channel=CHANNEL, source_id=source_id, signal_type=CANCEL, signal_key=str(run_id), payload={"reason": reason}
    )
