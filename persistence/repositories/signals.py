"""Signals: the machine SIGNAL of the canon, and their reception."""

from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import Any, Unpack
from uuid import UUID

import asyncpg

from persistence.canon import CANON
from persistence.context import Context
from persistence.database.tables import SIGNALS
from persistence.encoding import check, encode
from persistence.errors import InvalidInput
from persistence.models import NewSignal, Signal, new_id
from persistence.repositories.base import AggregateRepository, Details, checked
from persistence.telemetry import traceparent


class SignalRepository(AggregateRepository[Signal]):
    """What comes in from outside. Commands return the signal's new state."""

    table = SIGNALS
    model = Signal

    def receive(
        self,
        source_channel: str,
        source_id: str,
        signal_type: str,
        payload: Any = None,
        *,
        signal_key: str | None = None,
        correlation_id: UUID | None = None,
        occurred_at: datetime | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> Awaitable[Signal]:
        """Takes one signal in, once for each (source_channel, source_id): the answer's ``is_new`` says which it was.

        payload: JSON. signal_key: wakes the run of a flow that waits for a signal of this type and key, now or later.
        correlation_id: joins it to what it answers, such as the run that waits for it; none: its own. occurred_at: when it happened,
        if not now; with a time zone. attributes: facts about the arrival that are kept in the log but are no part of the payload.
        The same source with another type, key or payload is an IdempotencyMismatch.
        """
        signal = NewSignal(
            source_channel=source_channel,
            source_id=source_id,
            signal_type=signal_type,
            signal_key=signal_key,
            payload=payload,
            correlation_id=correlation_id,
            occurred_at=occurred_at,
            attributes=attributes,
        )

        async def take() -> Signal:
            return (await self._take([signal]))[0]

        return self._work.awaited("tx.signals.receive", take())

    def receive_many(self, signals: Sequence[NewSignal]) -> Awaitable[list[Signal]]:
        """Takes signals in, in one round trip. One answer a signal, in the order given."""
        return self._work.awaited("tx.signals.receive_many", self._take(signals))

    async def _take(self, signals: Sequence[NewSignal]) -> list[Signal]:
        text = documents(self._work.context, signals)
        return received(self._work.context, signals, await self._work.receive(text, len(signals))) if signals else []

    def record(
        self, signal: NewSignal, *, signal_id: UUID | None = None, correlation_id: UUID | None = None, **details: Unpack[Details]
    ) -> Signal:
        """Buffers the reception of a signal that is known to be new: when it is not, sending it raises SignalKnown."""
        data = {
            "source_channel": signal.source_channel,
            "source_id": signal.source_id,
            "signal_type": signal.signal_type,
            "signal_key": signal.signal_key,
            "payload": signal.payload,
        }
        details["attributes"] = _attributes({**(signal.attributes or {}), **details.get("attributes", {})})
        return self._begin(
            "SIGNAL_RECEIVED", data, details, correlation_id=correlation_id or signal.correlation_id, item_id=signal_id
        )

    def process(self, signal: Signal, **details: Unpack[Details]) -> Signal:
        """Notes that a signal has been dealt with."""
        return self._advance(signal, "SIGNAL_PROCESSED", {}, details)

    def reject(self, signal: Signal, error: dict[str, Any], **details: Unpack[Details]) -> Signal:
        """Refuses a signal for good. error: a JSON object."""
        return self._advance(signal, "SIGNAL_REJECTED", {"error_details": error}, details)

    def fail(self, signal: Signal, error: dict[str, Any], **details: Unpack[Details]) -> Signal:
        """Notes that dealing with a signal failed; it can be retried. error: a JSON object."""
        return self._advance(signal, "SIGNAL_FAILED", {"error_details": error}, details)

    def retry(self, signal: Signal, **details: Unpack[Details]) -> Signal:
        """Takes a failed signal up again; counts one retry."""
        return self._advance(signal, "SIGNAL_RETRIED", {}, details)


def documents(context: Context, signals: Sequence[NewSignal]) -> str:
    """What ``receive_signals`` takes. Raises InvalidInput, naming the field."""
    if isinstance(signals, NewSignal):
        raise InvalidInput("signals: is one signal, not a list of them", hint="pass [signal]", field="signals")
    for index, signal in enumerate(signals):
        checked(signal, f"signals[{index}]", NewSignal)
    return encode([_document(context, signal, f"signals[{index}]") for index, signal in enumerate(signals)])


def received(context: Context, signals: Sequence[NewSignal], rows: Sequence[asyncpg.Record]) -> list[Signal]:
    """The signals as they are there, of the rows that ``receive_signals`` answered with."""
    return [
        Signal.made(
            tenant_id=context.tenant_id,
            actor=context.actor,
            source_channel=signal.source_channel,
            source_id=signal.source_id,
            signal_type=signal.signal_type,
            signal_key=signal.signal_key,
            payload=signal.payload,
            **{name: value for name, value in row.items() if name != "position_in_batch"},
        )
        for signal, row in zip(signals, rows, strict=True)
    ]


def _document(context: Context, signal: NewSignal, place: str) -> dict[str, Any]:
    data = {
        "source_channel": signal.source_channel,
        "source_id": signal.source_id,
        "signal_type": signal.signal_type,
        "payload": signal.payload,
    }
    if signal.signal_key is not None:
        data["signal_key"] = signal.signal_key
    attributes = _attributes(signal.attributes)
    if attributes:
        data["attributes"] = attributes
    check(data, place)
    if signal.occurred_at is not None and signal.occurred_at.tzinfo is None:
        raise InvalidInput(
            f"{place}.occurred_at: has no time zone", hint="give it one, such as datetime.UTC", field=f"{place}.occurred_at"
        )
    CANON.event_types["SIGNAL_RECEIVED"].check_data(data, creates=True)
    return {
        **data,
        "id": new_id(),
        "event_id": new_id(),
        "correlation_id": signal.correlation_id or context.correlation_id or new_id(),
        "actor": context.actor,
        "source": context.source,
        "occurred_at": signal.occurred_at,
    }


def _attributes(given: dict[str, Any] | None) -> dict[str, Any]:
    """With where the reception stands in a distributed trace, if it stands in one."""
    header = traceparent()
    return {**(given or {}), **({"traceparent": header} if header else {})}
