"""One effect type's share of a shift."""

import asyncio
from asyncio import Event, Task
from collections import deque
from math import ceil

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
        self.filling = 0
        self._more = Event()
        self._average: float | None = None

    @property
    def size(self) -> int:
        """How many deliveries go into one call, at most."""
        return self.handler.batch or 1

    @property
    def calls(self) -> int:
        """How many more calls could begin now."""
        return min(ceil(len(self.waiting) / self.size) - self.filling, self.handler.concurrency - self.busy)

    def add(self, delivery: Delivery) -> None:
        self.waiting.append(delivery)
        self._more.set()

    def clear(self) -> None:
        """Takes everything off the desk."""
        self.waiting.clear()
        self._more.set()  # nobody waits for more of it

    async def fill(self, stop: Event) -> None:
        """Waits until a batch is full, as long as the handler says, or until the worker is to stop."""
        until = asyncio.get_running_loop().time() + self.handler.within
        self.filling += 1
        try:
            while 0 < len(self.waiting) < self.size and not stop.is_set():
                self._more.clear()
                waiting = {asyncio.create_task(self._more.wait()), asyncio.create_task(stop.wait())}
                left = until - asyncio.get_running_loop().time()
                done, _ = await asyncio.wait(waiting, timeout=max(left, 0.0), return_when=asyncio.FIRST_COMPLETED)
                for task in waiting:
                    task.cancel()
                if not done:
                    return
        finally:
            self.filling -= 1

    def next(self) -> list[Delivery]:
        """Takes what the next call is about off the desk. One on its last attempt goes alone: it is not to end for what another one did."""
        taken: list[Delivery] = []
        while self.waiting and len(taken) < self.size:
            is_last = self.waiting[0].attempt >= self.handler.max_attempts
            if is_last and taken:
                break
            taken.append(self.waiting.popleft())
            if is_last:
                break
        return taken

    @property
    def capacity(self) -> int:
        """Entries worth holding: what the handler works off in a quarter of a second, and at least one for each of its places."""
        places = self.handler.concurrency * self.size
        if self._average is None:
            return places
        ahead = min(max(_LOOKAHEAD_SECONDS / max(self._average, 1e-6), 1.0), max(_MAX_LOOKAHEAD / self.size, 1.0))
        return round(places * ahead)

    @property
    def wanted(self) -> int:
        """How many more entries to ask for: nothing, or a bite that is worth a claim."""
        capacity = self.capacity
        free = capacity - self.held
        return free if free >= max(1, capacity // 4) else 0

    def note_duration(self, seconds: float) -> None:
        self._average = seconds if self._average is None else 0.9 * self._average + 0.1 * seconds
