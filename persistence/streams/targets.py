"""Where the log is carried to: other brokers. They are targets, never a truth: what they lose can be carried there again.

A target for Kafka, say, is a class with ``send``; its adapter is not part of this package, since there is no broker here to prove it with.
"""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from persistence.models import Channel, Event, Position
from persistence.plane import Plane
from persistence.streams.hub import Hub

_AT_ONCE = 256


@dataclass(frozen=True)
class Carried:
    """An event on its way. id: of the event, by which a target knows what it has; key: what has to stay in order; text: the event as JSON."""

    id: UUID
    key: UUID
    event: Event
    position: Position
    text: str


class Target(Protocol):
    """A broker that takes events: Kafka with ``id`` as a header and ``key`` as the record's key, NATS with ``id`` as the message's."""

    async def send(self, events: Sequence[Carried]) -> None:
        """Returns once all of them are kept there, in this order. Raises Unavailable while it cannot; then all of them come again."""


class Carrier:
    """Carries a channel of the log to a target, at least once and in its order, as a consumer that keeps how far it is."""

    def __init__(self, plane: Plane, hub: Hub, target: Target, *, name: str, channel: Channel, actor: str) -> None:
        """name: of the consumer. actor: who carries."""
        self._plane = plane
        self._hub = hub
        self._target = target
        self._name = name
        self._channel = channel
        self._actor = actor

    async def run(self, tenant_id: UUID, *, start: Position | None = None) -> None:
        """For ever. start: where a new consumer begins; none: at the beginning of the log. Raises Conflict where another took over, and Unavailable
        where the target cannot take more: call it again.
        """
        async with self._plane.transaction(tenant_id, actor=self._actor) as tx:
            consumer = await tx.consumers.hold(self._name, self._channel, start=start)
        async with (
            self._hub.following(tenant_id, self._channel, consumer.position) as follower,
            aclosing(follower.batches(_AT_ONCE)) as batches,
        ):
            async for batch in batches:
                events = [
                    Carried(told.event.id, told.event.aggregate_id, told.event, told.position, told.text)
                    for told in batch
                    if told.event is not None and isinstance(told.position, Position)
                ]
                if not events:
                    continue
                await self._target.send(events)
                async with self._plane.transaction(tenant_id, actor=self._actor) as tx:
                    await tx.consumers.ack(consumer, events[-1].position)
