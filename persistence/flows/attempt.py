"""What a step's function may ask of the attempt that it is called in, and tell it."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import UUID

from persistence.errors import FlowError


@dataclass(slots=True)
class Attempt:
    """One call of a step's function.

    key: the same in all attempts of the step, and nowhere else: an idempotency key for what the function does. number: 1 for the first.
    """

    tenant_id: UUID
    run_id: UUID
    key: str
    number: int
    beaten_at: float = field(default_factory=monotonic)
    progress: Any = None
    tells: bool = False


CURRENT: ContextVar[Attempt] = ContextVar("persistence_attempt")


def attempt() -> Attempt:
    """The attempt that this code is called in. Raises FlowError outside of one."""
    try:
        return CURRENT.get()
    except LookupError:
        raise FlowError("this is not called in a step of a flow") from None


def heartbeat(progress: Any = None) -> None:
    """Says that the step is alive, and how far it has come (JSON): what is said last is recorded, at most once a second."""
    current = attempt()
    current.beaten_at = monotonic()
    if progress is not None:
        current.progress, current.tells = progress, True
