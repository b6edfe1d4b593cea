"""Which events a channel has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self
from uuid import UUID

from persistence.canon import CANON
from persistence.errors import InvalidInput
from persistence.models import Event, Role

Key = tuple[str, str]

_LONGEST: Final = 300


@dataclass(frozen=True)
class Channel:
    """``events``: all of the tenant; ``type:RUN_FAILED``; ``run:ID``: of a run and its parts; ``correlation:ID``; ``agent:ACTOR``: of whoever acted.

    kind: what stands before the colon; argument: what stands behind it.
    """

    kind: str
    argument: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidInput for what is no channel."""
        kind, colon, argument = text.partition(":")
        names = ", ".join(name if name == "events" else f"{name}:…" for name in CANON.rules.channels)
        if kind not in CANON.rules.channels or len(text) > _LONGEST:
            raise InvalidInput(f"channel: {text[:50]!r} is none", hint=f"one of {names}", field="channel")
        if kind == "events" and colon:
            raise InvalidInput("channel: events has nothing behind it", hint="subscribe to events", field="channel")
        if kind in {"run", "correlation"}:
            try:
                argument = str(UUID(argument))
            except ValueError:
                raise InvalidInput(f"channel: {argument[:50]!r} is no id", hint=f"{kind}:ID", field="channel") from None
        elif kind == "type" and argument not in CANON.event_types:
            raise InvalidInput(f"channel: {argument[:50]!r} is no event type", hint="type:RUN_FAILED, say", field="channel")
        elif kind == "agent" and not argument:
            raise InvalidInput(
                "channel: agent names nobody", hint="agent:agent:desk, say: the actor behind the colon", field="channel"
            )
        return cls(kind, argument)

    def __str__(self) -> str:
        return f"{self.kind}:{self.argument}" if self.argument else self.kind

    @property
    def key(self) -> Key:
        """What its events have in common."""
        return self.kind, self.argument

    @property
    def role(self) -> Role:
        """The least role that may follow it."""
        return Role(CANON.rules.channels[self.kind])


def keys_of(event: Event, run_ids: Mapping[UUID, UUID]) -> list[Key]:
    """The keys of the channels that an event is in. run_ids: see ``runs_of``."""
    keys = [("events", ""), ("type", event.event_type), ("correlation", str(event.correlation_id)), ("agent", event.actor)]
    run_id = run_ids.get(event.id)
    return keys if run_id is None else [*keys, ("run", str(run_id))]
