"""Events: the entries of the log."""

import re
from datetime import datetime
from typing import Final
from uuid import UUID

from persistence.errors import InvalidInput
from persistence.models.base import Given, Json, Model

_POSITION: Final = re.compile(r"[0-9]{1,10}-[0-9]{1,20}-[0-9]{1,19}")


class Event(Model):
    """One entry of the log, as it stands there for ever.

    sequence_number: orders the log; occurred_at: when it happened; created_at: when it was recorded.
    """

    tenant_id: UUID
    id: UUID
    sequence_number: int
    transaction_id: int
    event_type: str
    event_version: int
    aggregate_type: str
    aggregate_id: UUID
    aggregate_version: int
    event_data: dict[str, Json]
    correlation_id: UUID
    causation_id: UUID | None
    actor: str
    source: str
    occurred_at: datetime
    created_at: datetime
    updated_at: datetime


class NewEvent(Given):
    """An event to be appended. attachment: text that is stored beside the log (a checkpoint's state)."""

    id: UUID
    event_type: str
    aggregate_id: UUID
    aggregate_version: int
    event_data: dict[str, Json]
    correlation_id: UUID
    causation_id: UUID | None = None
    actor: str | None = None
    occurred_at: datetime | None = None
    attachment: str | None = None


class AppendResult(Model):
    """What became of one event.

    is_new: False when it was in the log already, or when the effect it requests was; aggregate_id then names what is there.
    """

    event_id: UUID
    sequence_number: int | None
    aggregate_id: UUID
    is_new: bool


class Position(Model):
    """A place in a tenant's log. A reader stores the last one it has dealt with. Positions order by epoch, transaction, sequence number."""

    epoch: int = 0
    transaction_id: int = 0
    sequence_number: int = 0

    def __str__(self) -> str:
        return f"{self.epoch}-{self.transaction_id}-{self.sequence_number}"

    def __lt__(self, other: "Position") -> bool:
        return self._order < other._order

    def __le__(self, other: "Position") -> bool:
        return self._order <= other._order

    @property
    def _order(self) -> tuple[int, int, int]:
        return self.epoch, self.transaction_id, self.sequence_number

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Reads what str() wrote. Raises ValueError."""
        if not _POSITION.fullmatch(text):
            raise ValueError(f"{text[:50]!r} is no position")
        epoch, transaction_id, sequence_number = (int(part) for part in text.split("-"))
        if not (0 <= epoch < 2**31 and 0 <= transaction_id < 2**64 and 0 <= sequence_number < 2**63):
            raise ValueError(f"{text!r} is out of range")
        return cls(epoch=epoch, transaction_id=transaction_id, sequence_number=sequence_number)

    @classmethod
    def of(cls, given: "Position | str", field: str = "after") -> "Position":
        """A position, or its text. Raises InvalidInput, which names the field."""
        if isinstance(given, Position):
            return given
        try:
            return cls.parse(given)
        except (ValueError, TypeError, AttributeError):
            raise InvalidInput(
                f"{field}: {str(given)[:50]!r} is no position", hint="such as 0-1234-5678, as each event has it", field=field
            ) from None
