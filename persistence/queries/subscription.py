"""Following a tenant's log as it grows."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from persistence.database.retry import fetched
from persistence.encoding import encode
from persistence.models import Event, Model, Position
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


# Where there is something new, among many tenants.
_WATCH: Final = "SELECT w.n, w.has_events, w.feed, w.last FROM persistence.watch_tenants($1, $2, $3, $4) AS w"

# Takes away what was told long ago.
_SWEEP: Final = "SELECT persistence.sweep_live()"


# Puts on record who began to follow what.
_OPENED: Final = "SELECT persistence.record_streams($1, $2, $3::text::jsonb, $4)"


class Opening(Model):
    """Somebody began to follow a channel. token_id: with which token; actor: as whom."""

    token_id: UUID
    actor: str
    channel: str
    at: datetime


@dataclass(frozen=True)
class News:
    """has_events: behind the position that was given. feed: whose numbers those of what is told and not kept are, if ever anything was; last: the
    last one.
    """

    has_events: bool
    feed: UUID | None
    last: int


async def watch(plane: Plane, tenants: Sequence[UUID], positions: Sequence[Position]) -> list[News]:
    """Whether there is something new in each of these tenants. positions: to where their logs were read. Raises what the database raises."""
    rows = await fetched(
        plane.pool,
        plane.settings,
        _WATCH,
        tenants,
        [position.epoch for position in positions],
        [str(position.transaction_id) for position in positions],
        [position.sequence_number for position in positions],
    )
    found = {row["n"]: News(row["has_events"], row["feed"], row["last"] or 0) for row in rows}
    return [found[n] for n in range(1, len(tenants) + 1)]


async def sweep_live(plane: Plane) -> None:
    """Takes away what was told, and not to be kept, more than ten minutes ago."""
    await fetched(plane.pool, plane.settings, _SWEEP)


async def record_openings(tx: Transaction, openings: Sequence[Opening]) -> None:
    """Puts on record who began to follow what, at most 1,000 at a time."""
    context = tx.context
    listed = encode([opening.model_dump(mode="json") for opening in openings])
    await tx.fetch(_OPENED, context.tenant_id, context.user_id, listed, context.actor)


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
