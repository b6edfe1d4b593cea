"""What a handler is given, and what it may say."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from persistence.encoding import decode
from persistence.errors import ConfigurationError

Hold = tuple[UUID, UUID]


class Cancellation:
    """Whether an effect is wanted no more. May be asked from any thread; waited for on the worker's event loop."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: asyncio.Event | None = None

    def __bool__(self) -> bool:
        return self._is_set

    async def wait(self) -> None:
        """Returns when it is cancelled."""
        if self._event is None:
            self._event = asyncio.Event()
        if not self._is_set:
            await self._event.wait()

    def set(self) -> None:
        self._is_set = True
        if self._event is not None:
            self._event.set()


class SecretReader(Protocol):
    """How deliveries come by secrets of their tenants."""

    async def read(self, delivery: "Delivery", name: str) -> str:
        """The value, once it is on the record that this attempt read it."""

    async def reveal(self, delivery: "Delivery", document: Any) -> Any:
        """JSON with its sealed fields opened, once it is on the record that this attempt reads them."""

    def read_from_thread(self, delivery: "Delivery", name: str) -> Future[str]:
        """The same, for a thread that is not the worker's."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt at one effect.

    idempotency_key: the same at every attempt; hand it to the receiver.
    attempt: 1 for the first. requested_at: when the effect was recorded. ordering_key, destination: as it was requested.
    traceparent: where the request stands in a distributed trace. is_suspect: whether the destination failed of late.
    was_lost: whether the worker that made the attempt before did not live to report back.
    given: values of secrets that this attempt was given: they are taken out of what it says in the end.
    causation_id: the event that caused this attempt; what the handler causes in turn may name it.
    cancelled: set when somebody cancelled the effect, or the run it belongs to, after this attempt began. The handler may go on or stop: if it
        succeeds the effect counts as executed, otherwise it ends as cancelled; there is no other attempt.
    """

    tenant_id: UUID
    effect_id: UUID
    effect_type: str
    idempotency_key: str
    attempt: int
    correlation_id: UUID
    causation_id: UUID
    requested_at: datetime
    lease_token: UUID
    payload_text: str
    ordering_key: str | None = None
    destination: str | None = None
    traceparent: str | None = None
    is_suspect: bool = False
    was_lost: bool = False
    cancelled: Cancellation = field(default_factory=Cancellation, compare=False, repr=False)
    secrets: SecretReader | None = field(default=None, compare=False, repr=False)
    given: list[str] = field(default_factory=list, compare=False, repr=False)

    @property
    def hold(self) -> Hold:
        """Which claim of which entry this is."""
        return self.lease_token, self.effect_id

    @property
    def payload(self) -> dict[str, Any]:
        """The effect's spec. One that cannot be read is a PermanentFailure: no attempt could read it."""
        try:
            spec: dict[str, Any] = decode(self.payload_text)
        except ValueError as error:
            raise PermanentFailure(f"the payload cannot be read: {error}") from error
        return spec

    async def secret(self, name: str) -> str:
        """The value of one of the tenant's secrets (``persistence secret set``). That this attempt read it is on the record, caused by the effect.

        Raises NotFound, SecretUnavailable for one that is over: uncaught, the attempt failed, and another follows. Raises VaultLocked: uncaught, the
        effect is put off without using up an attempt.
        """
        value = await self._reader().read(self, name)
        self.given.append(value)
        return value

    async def reveal(self, document: Any) -> Any:
        """The same JSON with every field opened that was sealed by the key of its subject (``plane.subjects``); ``{"erased": true}`` where that was
        destroyed. That this attempt read it is on the record. Raises as ``secret`` does.
        """
        return await self._reader().reveal(self, document)

    def secret_in_thread(self, name: str) -> str:
        """The same for handlers that are plain functions, which run in a thread."""
        value = self._reader().read_from_thread(self, name).result()
        self.given.append(value)
        return value

    def _reader(self) -> SecretReader:
        if self.secrets is None:
            raise ConfigurationError("this delivery was made by hand, and has no secrets", hint="run the handler in a Worker")
        return self.secrets


class PermanentFailure(Exception):
    """Raised by a handler: no further attempt can succeed. The entry becomes a dead letter at once.

    details: JSON for the record.
    """

    def __init__(self, message: str, *, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.details = dict(details or {})


class Snooze(Exception):
    """Raised by a handler: the receiver takes nothing now (it answered 429, it is being maintained). The attempt does not count, nothing is recorded,
    and the next one is not before ``after`` from now, in seconds or as a timedelta.
    """

    def __init__(self, after: float | timedelta) -> None:
        super().__init__(f"not before {after}")
        self.after = _seconds(after, "Snooze")


class RetryLater(Exception):
    """Raised by a handler: try again, but not before ``after`` from now (a receiver's Retry-After), in seconds or as a timedelta. None: as the
    backoff says.

    details: JSON for the record.
    """

    def __init__(self, message: str, *, after: float | timedelta | None = None, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.after = None if after is None else _seconds(after, "RetryLater")
        self.details = dict(details or {})


def _seconds(after: float | timedelta, said_by: str) -> float:
    if isinstance(after, timedelta):
        after = after.total_seconds()
    if isinstance(after, bool) or not isinstance(after, int | float):
        raise TypeError(f"{said_by}: after is {after!r}; seconds are a number, and a time is a timedelta")
    return after
