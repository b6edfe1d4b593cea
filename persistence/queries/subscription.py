"""Following a tenant's log as it grows."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from uuid import UUID

from persistence.models import Event, Position
from persistence.plane import Plane

PAGE = 500


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
