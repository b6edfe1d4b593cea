"""Which events a channel has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self
from uuid import UUID

from persistence.canon import CANON
from persistence.errors import InvalidInput
from persistence.models import Event, Role
from persistence.transaction import Transaction

Key = tuple[str, str]

_LONGEST: Final = 300

# The runs that parts are of.
_RUNS: Final = """
SELECT s.id, s.run_id FROM persistence.steps AS s WHERE s.tenant_id = $1 AND s.id = ANY ($2::uuid[])
UNION ALL
SELECT c.id, c.run_id FROM persistence.tool_calls AS c WHERE c.tenant_id = $1 AND c.id = ANY ($2::uuid[])
UNION ALL
SELECT e.id, e.run_id FROM persistence.effects AS e WHERE e.tenant_id = $1 AND e.id = ANY ($2::uuid[]) AND e.run_id IS NOT NULL
UNION ALL
SELECT k.id, k.run_id FROM persistence.run_checkpoints AS k WHERE k.tenant_id = $1 AND k.id = ANY ($2::uuid[])
UNION ALL
SELECT m.id, m.run_id FROM persistence.memories AS m WHERE m.tenant_id = $1 AND m.id = ANY ($2::uuid[]) AND m.run_id IS NOT NULL
"""


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


async def runs_of(tx: Transaction, events: Sequence[Event]) -> dict[UUID, UUID]:
    """The runs that events are of, by event."""
    runs: dict[UUID, UUID] = {}
    parts: dict[UUID, list[UUID]] = {}
    for event in events:
        named = event.event_data.get("run_id")
        if event.aggregate_type == "RUN":
            runs[event.id] = event.aggregate_id
        elif isinstance(named, str):
            runs[event.id] = UUID(named)
        else:
            parts.setdefault(event.aggregate_id, []).append(event.id)
    rows = await tx.fetch(_RUNS, tx.context.tenant_id, list(parts)) if parts else ()
    for row in rows:
        runs |= dict.fromkeys(parts[row["id"]], row["run_id"])
    return runs
