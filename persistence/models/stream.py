"""What is followed: channels, what is told in them, and who says how far he is."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self
from uuid import UUID

from pydantic import Field

from persistence.canon import CANON
from persistence.errors import InvalidInput
from persistence.models.base import Json, Model
from persistence.models.event import Position
from persistence.models.token import Role

LIVE: Final = frozenset({"chat", "logs", "tokens"})
"""The kinds of channels that are told and not kept."""

_ALONE: Final = frozenset({"events", "metrics"})
_LONGEST: Final = 300
_NO_FEED: Final = UUID(int=0)


@dataclass(frozen=True)
class Channel:
    """Something to follow.

    Of the log: ``events``: all of the tenant; ``type:RUN_FAILED``; ``run:ID``: of a run and its parts; ``correlation:ID``; ``agent:ACTOR``: of
    whoever acted. Told and not kept: ``chat:ROOM``, ``logs:AGENT``, ``tokens:ID``. ``metrics``: counts, every two seconds.
    kind: what stands before the colon; argument: what stands behind it.
    """

    kind: str
    argument: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidInput for what is no channel."""
        kind, colon, argument = text.partition(":")
        if kind not in CANON.rules.channels or len(text) > _LONGEST or not text.isprintable():
            names = ", ".join(name if name in _ALONE else f"{name}:…" for name in CANON.rules.channels)
            raise InvalidInput(f"channel: {text[:50]!r} is none", hint=f"one of {names}", field="channel")
        if kind in _ALONE:
            if colon:
                raise InvalidInput(f"channel: {kind} has nothing behind it", hint=f"subscribe to {kind}", field="channel")
        elif not argument.strip():
            raise InvalidInput(f"channel: nothing stands behind {kind}", hint=_EXAMPLES[kind], field="channel")
        elif kind in {"run", "correlation"}:
            try:
                argument = str(UUID(argument))
            except ValueError:
                raise InvalidInput(f"channel: {argument[:50]!r} is no id", hint=f"{kind}:ID", field="channel") from None
        elif kind == "type" and argument not in CANON.event_types:
            raise InvalidInput(f"channel: {argument[:50]!r} is no event type", hint=_EXAMPLES[kind], field="channel")
        return cls(kind, argument)

    def __str__(self) -> str:
        return f"{self.kind}:{self.argument}" if self.argument else self.kind

    @property
    def is_live(self) -> bool:
        """Whether what is told in it is not kept."""
        return self.kind in LIVE

    @property
    def role(self) -> Role:
        """The least role that may follow it."""
        return Role(CANON.rules.channels[self.kind].follow)

    @property
    def publishing_role(self) -> Role:
        """The least role that may tell something in it. Raises InvalidInput where nobody may."""
        rule = CANON.rules.channels[self.kind].publish
        if rule is None:
            raise InvalidInput(
                f"channel: nothing is told in {self.kind} but by what happens",
                hint=", ".join(f"{name}:…" for name, one in CANON.rules.channels.items() if one.publish),
                field="channel",
            )
        return Role(rule)


_EXAMPLES: Final = {
    "type": "type:RUN_FAILED, say",
    "run": "run:ID",
    "correlation": "correlation:ID",
    "agent": "agent:agent:desk, say: the actor behind the colon",
    "chat": "chat:desk-7, say: the name of a room",
    "logs": "logs:desk, say: the name of an agent",
    "tokens": "tokens:ID, of a run say",
}


class LivePosition(Model):
    """A place in what is told of a tenant and not kept. feed: whose numbers these are; another one after a crash, which takes what was told
    before.
    """

    feed: UUID = _NO_FEED
    number: int = 0

    def __str__(self) -> str:
        return f"{self.feed.hex}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> "LivePosition":
        """Reads what str() wrote. Raises ValueError."""
        feed, number = text.split("-")
        if not 0 <= int(number) < 2**63:
            raise ValueError(f"{text!r} is out of range")
        return cls(feed=UUID(feed), number=int(number))


class LiveMessage(Model):
    """Something that was told. number: its place; at: when it was told."""

    number: int
    channel: str
    content: Json
    actor: str
    at: datetime


class Consumer(Model):
    """Somebody who follows the log and says how far he is. holder: who reads for him now; position: behind what he has dealt with."""

    tenant_id: UUID
    id: UUID
    name: str
    channel: str
    holder: UUID
    position: Position
    actor: str
    created_at: datetime
    updated_at: datetime


class ConsumerLag(Model):
    """How far a consumer is behind the log. behind: events of his channel that he has not dealt with, among the next 10,000 of the log; since: when
    the first of them was recorded.
    """

    consumer: Consumer
    behind: int = Field(examples=[3])
    since: datetime | None
