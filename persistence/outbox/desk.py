"""One effect type's share of a shift."""

from asyncio import Task
from collections import deque

from persistence.outbox.delivery import Delivery
from persistence.outbox.registry import Handler

_LOOKAHEAD_SECONDS = 0.25
_MAX_LOOKAHEAD = 50


class Desk:
    """What a handler has on its desk: entries that wait for it and attempts that are under way."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.waiting: deque[Delivery] = deque()
        self.runners: set[Task[None]] = set()
        self.busy = 0
        self.held = 0
        self._average: float | None = None

    @property
    def capacity(self) -> int:
        """Entries worth holding: what the handler works off in a quarter of a second, and at least one for each of its places."""
        if self._average is None:
            return self.handler.concurrency
        ahead = min(max(_LOOKAHEAD_SECONDS / max(self._average, 1e-6), 1.0), _MAX_LOOKAHEAD)
        return round(self.handler.concurrency * ahead)

    @property
    def wanted(self) -> int:
        """How many more entries to ask for: nothing, or a bite that is worth a claim."""
        capacity = self.capacity
        free = capacity - self.held
        return free if free >= max(1, capacity // 4) else 0

    def note_duration(self, seconds: float) -> None:
        self._average = seconds if self._average is None else 0.9 * self._average + 0.1 * seconds
