"""What is told and not kept, and who follows the log and says how far he is."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from persistence.context import Context
from persistence.encoding import check, decode, encode
from persistence.errors import Conflict, InvalidInput
from persistence.models import Channel, Consumer, ConsumerLag, Json, LiveMessage, LivePosition, Position, new_id
from persistence.repositories.work import Work

COUNTED: Final = 10_000
"""So many events behind a consumer are looked at; where all of them are in its channel, it is "or more"."""

MOST_TOLD: Final = 1_000
LARGEST: Final = 16 * 1024
"""Bytes of one content."""

# Tells those who follow.
PUBLISH: Final = "SELECT p.feed, p.last FROM persistence.publish_live($1, $2, $3::text[], $4::text[]::jsonb[], $5, $6) AS p"

# What was told behind a place.
_TOLD: Final = """
SELECT m.number, m.channel, m.content::text AS content, m.actor, m.created_at AS at
FROM persistence.live_messages AS m
WHERE m.tenant_id = $1
  AND m.number > $2
ORDER BY m.number
LIMIT $3
"""

# How far it is told, and up to where it is gone.
_FEED: Final = "SELECT f.id, f.last, f.swept_to FROM persistence.live_feeds AS f WHERE f.tenant_id = $1"

_HOLD: Final = """
SELECT h.tenant_id, h.id, h.name, h.channel, h.holder, h.epoch, h.transaction_id::text AS transaction_id, h.sequence_number, h.actor, h.created_at,
h.updated_at FROM persistence.hold_consumer($1, $2, $3, $4, $5, $6, $7, $8, $9) AS h
"""

_ACK: Final = "SELECT persistence.ack_consumer($1, $2, $3, $4, $5, $6, $7) AS is_held"

_REMOVE: Final = "SELECT persistence.remove_consumer($1, $2, $3, $4) AS is_removed"

_CONSUMERS: Final = """
SELECT
  c.tenant_id, c.id, c.name, c.channel, c.holder, c.epoch, c.transaction_id::text AS transaction_id, c.sequence_number, c.actor, c.created_at,
  c.updated_at, l.behind, l.since
FROM persistence.consumers AS c
CROSS JOIN LATERAL (
  SELECT count(*) AS behind, min(e.created_at) AS since
  FROM (
    SELECT e.*
    FROM persistence.orchestration_events AS e
    WHERE e.tenant_id = $1
      AND c.epoch = (SELECT max(x.epoch) FROM canon.log_epochs AS x)
      AND (e.transaction_id, e.sequence_number) > (c.transaction_id, c.sequence_number)
    ORDER BY e.transaction_id, e.sequence_number
    LIMIT $2
  ) AS e
  WHERE persistence.in_channel(c.channel, e)
) AS l
WHERE c.tenant_id = $1
ORDER BY c.name
"""

# The same of those that have not read since the log was restored: by sequence numbers alone.
_BEHIND_A_RESTORE: Final = """
SELECT c.id, l.behind, l.since
FROM persistence.consumers AS c
CROSS JOIN LATERAL (
  SELECT count(*) AS behind, min(e.created_at) AS since
  FROM (
    SELECT e.*
    FROM persistence.orchestration_events AS e
    WHERE e.tenant_id = $1
      AND e.sequence_number > c.sequence_number
    ORDER BY e.sequence_number
    LIMIT $2
  ) AS e
  WHERE persistence.in_channel(c.channel, e)
) AS l
WHERE c.tenant_id = $1
  AND c.epoch < (SELECT max(x.epoch) FROM canon.log_epochs AS x)
"""


def publication(channels: Sequence[Channel], contents: Sequence[Json]) -> tuple[list[str], list[str]]:
    """Channels and contents as PUBLISH takes them. Raises InvalidInput for a channel in which nobody tells anything, and for what is no JSON."""
    for channel in channels:
        channel.publishing_role  # noqa: B018  it refuses
    for content in contents:
        check(content, "content")
    texts = [encode(content) for content in contents]
    largest = max(len(text.encode()) for text in texts)
    if len(texts) > MOST_TOLD or largest > LARGEST:
        raise InvalidInput(
            f"content: {len(texts)} of up to {largest} bytes",
            hint=f"at most {MOST_TOLD} at a time, of {LARGEST} bytes each; what is large belongs into an event or a file",
            field="content",
        )
    return [str(channel) for channel in channels], texts


class LiveRepository:
    """What is told of a tenant and not kept. It is told by ``Plane.publish``."""

    def __init__(self, work: Work) -> None:
        self._work = work

    async def read(self, after: LivePosition, limit: int = 1000) -> Sequence[LiveMessage]:
        """What was told behind a place, in its order; of another feed nothing."""
        rows = await self._work.fetch(_TOLD, self._work.context.tenant_id, after.number, limit)
        return [LiveMessage(**{**row, "content": _content(row["content"])}) for row in rows]

    async def feed(self) -> tuple[LivePosition, LivePosition]:
        """Behind what was told last; and up to where it is gone by now."""
        rows = await self._work.fetch(_FEED, self._work.context.tenant_id)
        if not rows:
            return LivePosition(), LivePosition()
        [row] = rows
        return LivePosition(feed=row["id"], number=row["last"]), LivePosition(feed=row["id"], number=row["swept_to"])


class ConsumerRepository:
    """Who follows the log and says how far he is."""

    def __init__(self, work: Work) -> None:
        self._work = work

    async def hold(self, name: str, channel: Channel | str, *, start: Position | str | None = None) -> Consumer:
        """Takes a consumer over: whoever held him moves him no more. One that is not there is added.

        name: letters, digits and ._@-, at most 200. start: where a new one begins; none: at the beginning of the log. Raises InvalidInput for a
        channel that is not of the log, and where he follows another channel already.
        """
        channel = Channel.parse(str(channel))
        if channel.is_live or channel.kind == "metrics":
            raise InvalidInput(
                f"channel: what is told in {channel.kind} is not kept", hint="a consumer follows the log", field="channel"
            )
        place, context = Position() if start is None else Position.of(start, "start"), self._work.context
        [row] = await self._work.fetch(
            _HOLD,
            *_whose(context),
            name,
            str(channel),
            new_id(),
            place.epoch,
            str(place.transaction_id),
            place.sequence_number,
            context.actor,
        )
        return _consumer(row)

    async def ack(self, consumer: Consumer, position: Position | str) -> None:
        """Says that all up to a position is dealt with: together with this transaction, or not at all. Never moves back.

        Raises Conflict where somebody else took the consumer over: what was done for it in this transaction must not be committed. Raises
        NotFound, and InvalidInput for a position that the log has not come to.
        """
        place = Position.of(position, "position")
        [row] = await self._work.fetch(
            _ACK,
            *_whose(self._work.context),
            consumer.name,
            consumer.holder,
            place.epoch,
            str(place.transaction_id),
            place.sequence_number,
        )
        if not row["is_held"]:
            raise Conflict(f"somebody else follows as {consumer.name} by now", hint="let one of the two end")

    async def remove(self, name: str) -> bool:
        """Forgets a consumer and how far he was. False where there is none such."""
        context = self._work.context
        [row] = await self._work.fetch(_REMOVE, *_whose(context), name, context.actor)
        return bool(row["is_removed"])

    async def list(self) -> Sequence[ConsumerLag]:
        """All consumers of the tenant, by name, and how far they are behind."""
        rows = await self._work.fetch(_CONSUMERS, self._work.context.tenant_id, COUNTED)
        late = {row["id"]: row for row in await self._work.fetch(_BEHIND_A_RESTORE, self._work.context.tenant_id, COUNTED)}
        found = []
        for row in rows:
            lag = late.get(row["id"], row)
            found.append(ConsumerLag(consumer=_consumer(row), behind=lag["behind"], since=lag["since"]))
        return found


def _content(text: str) -> Json:
    """What was told; as text where it has numbers that this process cannot hold."""
    try:
        return decode(text)
    except ValueError:
        return {"text": text}


def _whose(context: Context) -> tuple[UUID, UUID]:
    assert context.user_id is not None
    return context.tenant_id, context.user_id


def _consumer(row: Any) -> Consumer:
    position = Position(epoch=row["epoch"], transaction_id=int(row["transaction_id"]), sequence_number=row["sequence_number"])
    names = Consumer.model_fields.keys() - {"position"}
    return Consumer(position=position, **{name: row[name] for name in names})
