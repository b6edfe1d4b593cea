"""Following a tenant's log as it grows."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from typing import Final
from uuid import UUID

from persistence.models import Event, Position
from persistence.plane import Plane
from persistence.transaction import Transaction

PAGE = 500

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


async def follow(
    plane: Plane,
    tenant_id: UUID,
    after: Position,
    *,
    types: Collection[str] = (),
    pause: float = 0.25,
    actor: str,
    user_id: UUID | None = None,
    source: str = "service",
) -> AsyncGenerator[tuple[Sequence[tuple[Event, Position]], Position]]:
    """Events after a position as they come, for ever, in pages: each with the position behind it, and the position behind the page.

    Who stores the position of what has been dealt with, and comes back with it, misses nothing. types: only these event types; none: all.
    An empty page comes too: it says that the reader lives, and its position may be news. pause: seconds between looks while nothing comes.
    The others: as for Plane.transaction.
    """
    while True:
        async with plane.transaction(tenant_id, actor=actor, user_id=user_id, source=source) as tx:
            page = await tx.events.read_each(after, PAGE)
        after = page[-1][1] if page else after
        yield [found for found in page if not types or found[0].event_type in types], after
        if len(page) < PAGE:
            await asyncio.sleep(pause)


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
