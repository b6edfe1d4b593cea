"""What is not as it was when a snapshot was taken."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

Action = Literal[
    "save the state again",
    "resume",
    "suspend",
    "retry",
    "retry and suspend",
    "wait as before",
    "bring back",
    "remember again",
    "cannot",
]


@dataclass(frozen=True)
class Difference:
    """A run that is not as it was, or an effect that was asked for since, or a memory (then run_id, run_type are its id and
    type). then, now: its status, or what
    is said of its state. reason: why it stays, where it does.
    """

    run_id: UUID
    run_type: str
    what: Literal["status", "state", "effect", "memory"]
    then: str
    now: str
    action: Action
    reason: str | None = None
