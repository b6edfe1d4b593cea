"""When each part of a trace began and ended, line by line."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from persistence.models import Model
from persistence.queries.trace import Node, Trace


class Bar(Model):
    """A part of a trace: how deep it lies, and from when to when it went. A part that is not over ends with its newest event."""

    depth: int
    kind: str
    id: UUID
    name: str
    status: str
    begun: datetime
    ended: datetime


class Waterfall(Model):
    """Bars in the order of the tree, and the time that all of them span."""

    begun: datetime
    ended: datetime
    bars: Sequence[Bar]

    @property
    def seconds(self) -> float:
        return (self.ended - self.begun).total_seconds()

    def place(self, bar: Bar) -> tuple[float, float]:
        """Where a bar begins and how long it is, as parts of the whole (0 to 1)."""
        whole = self.seconds or 1.0
        return (bar.begun - self.begun).total_seconds() / whole, (bar.ended - bar.begun).total_seconds() / whole


def waterfall(trace: Trace) -> Waterfall:
    """The bars of a trace. An outbox entry goes into the bar of its effect."""
    bars: list[Bar] = []
    todo = [(root, 0) for root in reversed(trace.roots)]
    while todo:
        node, depth = todo.pop()
        moments = [occurrence.occurred_at for part in (node, *_records(node)) for occurrence in part.life]
        if moments:
            bars.append(
                Bar(
                    depth=depth,
                    kind=node.kind,
                    id=node.id,
                    name=node.name,
                    status=node.status,
                    begun=min(moments),
                    ended=max(moments),
                )
            )
        todo.extend((child, depth + 1) for child in reversed(node.children) if child.kind != "outbox")
    now = datetime.now(UTC)  # where the log has lost all of it
    return Waterfall(
        begun=min((bar.begun for bar in bars), default=now), ended=max((bar.ended for bar in bars), default=now), bars=bars
    )


def _records(node: Node) -> Sequence[Node]:
    return [child for child in node.children if child.kind == "outbox"]
