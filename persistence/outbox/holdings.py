"""What a shift holds: entries under lease, from the claim until they are settled or handed back."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from persistence.outbox.delivery import Delivery, Hold
from persistence.outbox.desk import Desk


@dataclass(slots=True)
class Underway:
    """A call of a handler. task: who makes it; entries: of how many it is about that are still this process's."""

    task: asyncio.Task[None]
    entries: int = 0

    def lose(self) -> None:
        """One of its entries is another's now; with the last of them it is stopped."""
        self.entries -= 1
        if self.entries == 0:
            self.task.cancel()


@dataclass(slots=True)
class Held:
    """lasts_until: when the lease runs out at the latest, by this process's monotonic clock. underway: the call that is about it."""

    delivery: Delivery
    desk: Desk
    lasts_until: float
    underway: Underway | None = None


class Holdings:
    """The books. Every entry stands in them once."""

    def __init__(self, desks: Mapping[str, Desk]) -> None:
        self.desks = desks
        self._held: dict[Hold, Held] = {}
        self._by_effect: dict[UUID, Hold] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, hold: Hold) -> bool:
        return hold in self._held

    def take(self, deliveries: Iterable[Delivery], lasts_until: float) -> None:
        """Puts claimed entries on the desks of their handlers."""
        for delivery in deliveries:
            desk = self.desks[delivery.effect_type]
            former = self._held.get(self._by_effect.get(delivery.effect_id, delivery.hold))
            if former is not None:  # this process was asleep for longer than the lease
                self.let_go(former.delivery)
                if former.underway is not None:
                    former.underway.lose()
            self._by_effect[delivery.effect_id] = delivery.hold
            self._held[delivery.hold] = Held(delivery, desk, lasts_until)
            desk.held += 1
            desk.add(delivery)

    def begin(self, deliveries: Iterable[Delivery], task: asyncio.Task[None]) -> list[Delivery]:
        """Notes who works on entries. Returns those that are held still."""
        underway = Underway(task)
        ours = []
        for delivery in deliveries:
            held = self._held.get(delivery.hold)
            if held is not None:
                held.underway = underway
                underway.entries += 1
                ours.append(delivery)
        return ours

    def end(self, deliveries: Iterable[Delivery]) -> None:
        """The attempt is over; the entries stay until they are settled."""
        for delivery in deliveries:
            held = self._held.get(delivery.hold)
            if held is not None:
                held.underway = None

    def let_go(self, delivery: Delivery) -> Held | None:
        """Takes an entry off the books. None when it was off them already."""
        held = self._held.pop(delivery.hold, None)
        if held is not None:
            held.desk.held -= 1
            self._by_effect.pop(delivery.effect_id, None)
        return held

    def extend(self, delivery: Delivery, lasts_until: float) -> None:
        held = self._held.get(delivery.hold)
        if held is not None:
            held.lasts_until = lasts_until

    def everything(self) -> Sequence[Held]:
        return list(self._held.values())

    def hand_back(self, *, but: Delivery | None = None) -> list[Delivery]:
        """Takes what nobody has begun off the books and off the desks. but: stays on the books."""
        waiting = [delivery for desk in self.desks.values() for delivery in desk.waiting if delivery.hold in self._held]
        for desk in self.desks.values():
            desk.clear()
        if but is not None:
            waiting.remove(but)
        for delivery in waiting:
            self.let_go(delivery)
        return waiting
