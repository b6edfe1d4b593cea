"""Events on their way to the database: checked, encoded, counted."""

from uuid import UUID

import orjson

from persistence.canon import CANON
from persistence.context import Context
from persistence.database.appending import Batch, Reception
from persistence.encoding import check, encode_bytes
from persistence.errors import Conflict, InvalidInput, TooLarge
from persistence.models import NewEvent
from persistence.settings import Settings

_MAY_WAIT = frozenset(
    name for name, kind in CANON.event_types.items() if CANON.transitions[kind.aggregate][name].target in {"CANCELLED", "SKIPPED"}
)


class EventBuffer:
    """Collects the events of a transaction, and hands them out in batches that ``append_events`` takes.

    What was sent is kept until the transaction has ended, so that it can be sent again after a lost connection: the ids of events and
    signals make that harmless.
    """

    def __init__(self, context: Context, settings: Settings) -> None:
        self._context = context
        self._settings = settings
        self._pending: list[bytes] = []
        self._pending_ids: list[UUID] = []
        self._pending_bytes = 0
        self._versions: dict[UUID, int] = {}
        self.begun: set[UUID] = set()
        self.sent: list[Batch | Reception] = []
        self._may_wait = False
        self.asks_for_delivery = False

    def add(self, event: NewEvent) -> None:
        """Raises InvalidInput, naming the field, TooLarge, or Conflict for a second event of one version."""
        kind = CANON.event_type(event.event_type)
        known = self._versions.get(event.aggregate_id)
        if known is not None and event.aggregate_version <= known:
            raise Conflict(
                f"{kind.aggregate} {event.aggregate_id}: {event.event_type} would be version {event.aggregate_version}, "
                f"but this transaction has written version {known}",
                hint="go on with the object that the last command returned",
            )
        for field, value in (("event_id", event.id), ("aggregate_id", event.aggregate_id)):
            if not isinstance(value, UUID):
                raise InvalidInput(f"{field}: {value!r} is no UUID", hint="uuid.UUID(…) makes one of text", field=field)
        check(event.event_data, event.event_type)
        kind.check_data(event.event_data, creates=event.aggregate_version == 1)
        if event.occurred_at is not None and event.occurred_at.tzinfo is None:
            raise InvalidInput("occurred_at: has no time zone", hint="give it one, such as datetime.UTC", field="occurred_at")
        data = encode_bytes(event.event_data)
        if len(data) > self._settings.max_event_bytes:
            raise TooLarge(
                f"{event.event_type}: event data of {len(data)} bytes exceed the limit of {self._settings.max_event_bytes}",
                hint="keep large things elsewhere and record where, or raise PERSISTENCE_MAX_EVENT_BYTES",
                field=event.event_type,
            )
        encoded = self._encode(event, kind.version, kind.aggregate, data)
        if len(self._pending) >= self._settings.max_batch_events:
            raise TooLarge(
                f"a batch of more than {self._settings.max_batch_events} events", hint="await tx.flush() in between", field="events"
            )
        if self._pending_bytes + len(encoded) > self._settings.max_batch_bytes:
            raise TooLarge(
                f"a batch of more than {self._settings.max_batch_bytes} bytes", hint="await tx.flush() in between", field="events"
            )
        self._versions[event.aggregate_id] = event.aggregate_version
        if event.aggregate_version == 1:
            self.begun.add(event.aggregate_id)
        self._pending.append(encoded)
        self._pending_ids.append(event.id)
        self._pending_bytes += len(encoded) + 1
        self.asks_for_delivery = self.asks_for_delivery or event.event_type == "EFFECT_REQUESTED"
        self._may_wait = self._may_wait or event.event_type in _MAY_WAIT or "ordering_key" in event.event_data

    def __bool__(self) -> bool:
        return bool(self._pending)

    def seal(self) -> None:
        """Makes what is pending into a batch to send."""
        if self._pending:
            self.sent.append(
                Batch(
                    (b"[" + b",".join(self._pending) + b"]").decode(),
                    self._pending_ids,
                    wakes=self.asks_for_delivery,
                    may_wait=self._may_wait,
                )
            )
            self._pending.clear()
            self._pending_ids = []
            self._pending_bytes = 0

    def _encode(self, event: NewEvent, version: int, aggregate: str, data: bytes) -> bytes:
        document = {
            "id": event.id,
            "event_type": event.event_type,
            "event_version": version,
            "aggregate_type": aggregate,
            "aggregate_id": event.aggregate_id,
            "aggregate_version": event.aggregate_version,
            "event_data": orjson.Fragment(data),
            "correlation_id": event.correlation_id,
            "causation_id": event.causation_id,
            "actor": event.actor or self._context.actor,
            "source": self._context.source,
            "occurred_at": event.occurred_at,
        }
        if event.attachment is not None:
            document["attachment"] = event.attachment
        return encode_bytes(document)
