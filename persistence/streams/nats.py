"""The log to JetStream, and messages of JetStream into signals (https://docs.nats.io/nats-concepts/jetstream)."""

import asyncio
import base64
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from persistence.encoding import decode
from persistence.errors import ConfigurationError, IdempotencyMismatch, InvalidInput, PersistenceError, Unavailable
from persistence.models import NewSignal
from persistence.outbox.nats_handler import MESSAGE_ID, NatsConnection, apart, subject_of
from persistence.plane import Plane
from persistence.streams.targets import Carried

POSITION: Final = "Persistence-Position"
TENANT: Final = "Persistence-Tenant"
"""Whose log a message is of: that tenant does not take it in again, or each event would become another one for ever."""
WINDOW: Final = timedelta(hours=2)
"""For so long a stream that is made here knows what it has."""

_AT_ONCE: Final = 100
_NUMBER: Final = "seq:"
_WAIT_SECONDS: Final = 5.0
_AGAIN: Final = 1.0
_LARGEST_REFUSED: Final = 256 * 1024  # what is larger stays in the stream, under the number that the signal has

_log = structlog.get_logger(__name__)


class NatsTarget:
    """Events as messages ``PREFIX.EVENT_TYPE``, each with the event's id as its own: sent again, JetStream keeps it once."""

    def __init__(self, connection: NatsConnection, *, subject: str = "log") -> None:
        """subject: between the tenant's prefix and the event's type."""
        self._connection = connection
        self._subject = subject

    async def send(self, events: Sequence[Carried]) -> None:
        """One after the other: so they are in the stream in the order of the log."""
        for one in events:
            subject = subject_of(self._connection.settings, one.event.tenant_id, f"{self._subject}.{one.event.event_type}")
            headers = {TENANT: str(one.event.tenant_id), POSITION: str(one.position), "Persistence-Key": str(one.key)}
            await self._connection.publish(subject, one.text.encode(), str(one.id), headers)

    async def make_stream(self, tenant_id: UUID, name: str, subject: str | None = None) -> None:
        """Makes the stream that keeps them, on disk, unless it is there. subject: of the tenant, and all below it; none: those of the log. Raises
        Unavailable, and ConfigurationError where it cannot be made.
        """
        from nats.js import api, errors  # noqa: PLC0415  an extra

        subjects = [subject_of(self._connection.settings, tenant_id, subject or self._subject) + ".>"]
        jetstream = await self._connection.jetstream()
        # fit: allow outside_call because it decides nothing, and makes a place for what is recorded already
        wanted = api.StreamConfig(name=name, subjects=subjects, duplicate_window=WINDOW.total_seconds())
        try:
            await apart(jetstream.add_stream(wanted))
        except errors.BadRequestError as error:
            raise ConfigurationError(f"stream {name}: {error.description}", hint="choose another --stream") from error


class NatsSource:
    """Messages of a stream as signals of a tenant, each once: one is acknowledged when the signal is committed, and known by its id when it comes
    again.

    source_channel ``nats:STREAM``; source_id: the message's id, or ``seq:`` and its number in the stream; signal_type: its subject; payload: its
    JSON, or ``{"text": …}``, or ``{"base64": …}``. A message with the id of another one of other content comes in under its number: none is lost.
    One that cannot be a signal comes in as ``nats.refused``, which says why. Events that were carried
    out of the same tenant's log are left out.
    """

    def __init__(self, connection: NatsConnection, plane: Plane, *, stream: str, durable: str, actor: str) -> None:
        """stream: its name; durable: the name under which JetStream keeps how far this is. actor: who receives."""
        self._connection = connection
        self._plane = plane
        self._stream = stream
        self._durable = durable
        self._actor = actor

    async def run(self, tenant_id: UUID, subject: str = ">") -> None:
        """For ever; waits while NATS or the database are away. subject: which of the stream's messages. Raises ConfigurationError for a stream
        that is not there, and what the plane raises that does not pass.
        """
        while True:
            try:
                await self._receive(tenant_id, subject)
            except Unavailable as error:
                _log.warning("signals_wait", error=error.message)
                await asyncio.sleep(_AGAIN)

    async def _receive(self, tenant_id: UUID, subject: str) -> None:
        import nats.errors  # noqa: PLC0415  an extra
        from nats.js import api, errors  # noqa: PLC0415

        jetstream = await self._connection.jetstream()
        # fit: allow outside_call because it asks for messages, and what comes of them is recorded
        config = api.ConsumerConfig(ack_policy=api.AckPolicy.EXPLICIT, ack_wait=60, max_ack_pending=10 * _AT_ONCE)
        try:
            subscription = await apart(jetstream.pull_subscribe(subject, durable=self._durable, stream=self._stream, config=config))
        except errors.NotFoundError as error:
            raise ConfigurationError(f"NATS has no stream {self._stream}", hint="nats stream add makes one") from error
        except (nats.errors.Error, errors.Error, OSError) as error:
            raise Unavailable(f"NATS does not answer: {str(error) or type(error).__name__}", hint="it is tried again") from error
        try:
            while True:
                try:
                    messages = await apart(subscription.fetch(_AT_ONCE, timeout=_WAIT_SECONDS))
                except (nats.errors.TimeoutError, errors.FetchTimeoutError):
                    continue
                except (nats.errors.Error, errors.Error, OSError) as error:
                    raise Unavailable(
                        f"NATS does not answer: {str(error) or type(error).__name__}", hint="it is tried again"
                    ) from error
                await self._take(tenant_id, [one for one in messages if (one.headers or {}).get(TENANT) != str(tenant_id)])
                for message in messages:
                    await message.ack()  # where this is lost it comes again, and is known
        finally:
            try:
                await subscription.unsubscribe()
            except Exception as error:
                _log.debug("subscription_is_gone", error=repr(error))

    async def _take(self, tenant_id: UUID, messages: Sequence[Any]) -> None:
        if not messages:
            return
        try:
            await self._plane.receive(tenant_id, [self._signal(message) for message in messages], actor=self._actor, source="nats")
        except (IdempotencyMismatch, InvalidInput):  # one of them: which?
            for message in messages:
                await self._take_one(tenant_id, message)

    async def _take_one(self, tenant_id: UUID, message: Any) -> None:
        signal = self._signal(message)
        try:
            await self._plane.receive(tenant_id, [signal], actor=self._actor, source="nats")
            return
        except IdempotencyMismatch:
            _log.warning("message_with_a_known_id_is_another", stream=self._stream, id=signal.source_id)
            signal = self._signal(message, by_number=True)
        except InvalidInput as error:
            _log.warning("message_is_no_signal", stream=self._stream, id=signal.source_id, error=error.message)
            refused: dict[str, Any] = {"refused": error.message[:500], "bytes": len(message.data)}
            if len(message.data) <= _LARGEST_REFUSED:
                refused["base64"] = base64.b64encode(message.data).decode()
            signal = self._signal(message, by_number=True).model_copy(update={"payload": refused, "signal_type": "nats.refused"})
        await self._plane.receive(tenant_id, [signal], actor=self._actor, source="nats")

    def _signal(self, message: Any, *, by_number: bool = False) -> NewSignal:
        number = f"{_NUMBER}{message.metadata.sequence.stream}"
        given = None if by_number else (message.headers or {}).get(MESSAGE_ID)
        if given and given.startswith(_NUMBER):  # no id may be taken for another's number
            given = None
        return NewSignal(
            source_channel=f"nats:{self._stream}"[:200],
            source_id=given if given and len(given) <= 500 else number,
            signal_type=message.subject[:200],
            payload=_payload(message.data),
        )


def _payload(data: bytes) -> dict[str, Any]:
    try:
        found = decode(data.decode())
        return found if isinstance(found, dict) else {"value": found}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
    except (ValueError, RecursionError, PersistenceError, json.JSONDecodeError):
        return {"text": data.decode()}
