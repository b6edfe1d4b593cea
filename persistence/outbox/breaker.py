"""Leaving destinations in peace that keep failing."""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from persistence.errors import ConfigurationError
from persistence.outbox.delivery import Delivery

_MOMENT: Final = 1.0
"""Seconds within which a claim that was under way has come back."""


@dataclass(frozen=True)
class Breaker:
    """After ``failures`` attempts in a row that got no good answer, a destination rests for ``rest`` seconds (at most an hour); its entries are
    put off without using up attempts. Then an entry goes as a probe, every five seconds another: an answer opens the way again, a failure makes
    it rest for twice as long as before, up to 32 times ``rest`` and an hour. All workers share what they know of a destination.
    """

    failures: int = 10
    rest: float = 30.0

    def __post_init__(self) -> None:
        if self.failures < 1:
            raise ConfigurationError("breaker: failures must be at least 1")
        if not 0 < self.rest <= 3600:
            raise ConfigurationError("breaker: rest must be more than zero seconds and at most an hour")


@dataclass
class DestinationReport:
    """How deliveries to one destination went, in the order in which they ended.

    answered: whether one of them got an answer; failures: how many have failed in a row since.
    """

    tenant_id: UUID
    destination: str
    breaker: Breaker
    answered: bool = False
    failures: int = 0


class Destinations:
    """What this process knows of destinations. The database knows what all processes do, and decides; what is held already when a destination
    has failed too often is handed back here.
    """

    def __init__(self) -> None:
        self._failing: dict[tuple[UUID, str], int] = {}
        self._resting: dict[tuple[UUID, str], float] = {}

    def note(self, delivery: Delivery, breaker: Breaker | None, *, answered: bool | None) -> None:
        """Counts the failures in a row that nobody has been told of."""
        if delivery.destination is None or answered is None or breaker is None:
            return
        place = delivery.tenant_id, delivery.destination
        if not answered:
            self._failing[place] = self._failing.get(place, 0) + 1
        elif self._failing:
            self._failing.pop(place, None)

    def rests(self, delivery: Delivery, breaker: Breaker | None) -> bool:
        """Whether an entry that is held had better be handed back."""
        if breaker is None or delivery.destination is None or not (self._failing or self._resting):
            return False
        place = delivery.tenant_id, delivery.destination
        if time.monotonic() < self._resting.get(place, 0.0):
            return True
        self._resting.pop(place, None)
        return self._failing.get(place, 0) >= breaker.failures

    def reports(self, attempts: Iterable[tuple[Delivery, Breaker | None, bool | None]]) -> list[DestinationReport]:
        """What to tell the database: failures always, answers only of destinations that had failed before.

        attempts: each with its delivery, the breaker of its handler and whether the destination answered (None: it was not asked).
        """
        found: dict[tuple[UUID, str], DestinationReport] = {}
        for delivery, breaker, has_answered in attempts:
            if delivery.destination is None or has_answered is None or (breaker is None and not has_answered):
                continue
            place = delivery.tenant_id, delivery.destination
            if has_answered and not delivery.is_suspect and place not in found and place not in self._failing:
                continue
            report = found.setdefault(place, DestinationReport(*place, breaker or Breaker()))
            if has_answered:
                report.answered, report.failures = True, 0
            else:
                report.failures += 1
        return sorted(found.values(), key=lambda report: (report.tenant_id, report.destination))

    def told(self, reports: Iterable[DestinationReport], resting: Collection[str]) -> None:
        """The database has been told of these, or cannot be: what has failed since is what counts here.

        resting: destinations that it lets rest from now on. What was claimed a moment before has not heard of that.
        """
        for report in reports:
            place = report.tenant_id, report.destination
            if report.destination in resting:
                self._resting[place] = time.monotonic() + min(_MOMENT, report.breaker.rest)
            untold = self._failing.pop(place, 0) - report.failures
            if untold > 0:
                self._failing[place] = untold
