"""What is remembered: one memory with its whole story, and how much was learned and used over time."""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

from persistence.errors import InvalidInput
from persistence.models import Effect, Event, Memory, MemoryIndex, MemoryRecall, Model
from persistence.transaction import Transaction

_RECALLS = 100
_LONGEST_CHAIN = 100
MOST_DAYS = 366

# What each agent learned and used on each day.
_ACTIVITY = """
SELECT x.day, x.agent, sum(x.learned)::integer AS learned, sum(x.used)::integer AS used
FROM (
  SELECT (m.created_at AT TIME ZONE 'UTC')::date AS day, m.agent, count(*) AS learned, 0 AS used
  FROM persistence.memories AS m
  WHERE m.tenant_id = $1
    AND m.created_at >= (date_trunc('day', now(), 'UTC') - make_interval(days => $2 - 1))
  GROUP BY 1, 2
  UNION ALL
  SELECT (r.created_at AT TIME ZONE 'UTC')::date, r.agent, 0, count(*)
  FROM persistence.memory_recalls AS r
  WHERE r.tenant_id = $1
    AND r.created_at >= (date_trunc('day', now(), 'UTC') - make_interval(days => $2 - 1))
  GROUP BY 1, 2
) AS x
GROUP BY x.day, x.agent
ORDER BY x.day, x.agent
"""


class MemoryStory(Model):
    """A memory with all there is about it.

    earlier, later: what it took the place of, and what took its place, each in the order of time. events: its own. effects: what was asked for
    it, such as its vectors. indexes: those of this database that have its vector. recalls: who used it, the newest first, at most 100.
    """

    memory: Memory
    earlier: Sequence[Memory]
    later: Sequence[Memory]
    events: Sequence[Event]
    effects: Sequence[Effect]
    indexes: Sequence[MemoryIndex]
    recalls: Sequence[MemoryRecall]


class MemoryActivity(Model):
    """What an agent did on a day (UTC). learned: memories; used: recalls."""

    day: date
    agent: str
    learned: int
    used: int


async def memory_story(tx: Transaction, memory_id: UUID) -> MemoryStory:
    """A memory, where it came from, what became of it, and who used it. Raises NotFound."""
    memory = await tx.memories.get(memory_id)
    earlier: list[Memory] = []
    while (before := (earlier[0] if earlier else memory).supersedes) is not None and len(earlier) < _LONGEST_CHAIN:
        earlier.insert(0, await tx.memories.get(before))
    later: list[Memory] = []
    while (after := (later[-1] if later else memory).superseded_by) is not None and len(later) < _LONGEST_CHAIN:
        later.append(await tx.memories.get(after))
    indexes = [
        index
        for index in await tx.memory_indexes.kept_up()
        if index.store == "pgvector" and await tx.memories.vectors(index, [memory_id])
    ]
    return MemoryStory(
        memory=memory,
        earlier=earlier,
        later=later,
        events=await tx.events.of_aggregate(memory_id),
        effects=await tx.effects.all(memory_id=memory_id),
        indexes=indexes,
        recalls=await tx.memory_recalls.of(memory, limit=_RECALLS),
    )


async def memory_activity(tx: Transaction, days: int = 35) -> list[MemoryActivity]:
    """What each agent learned and used on each of the last days, as far as it did anything. days: 1 to 366, today among them. Raises InvalidInput."""
    if not 1 <= days <= MOST_DAYS:
        raise InvalidInput(f"days: must be 1 to {MOST_DAYS}", field="days")
    rows = await tx.fetch(_ACTIVITY, tx.context.tenant_id, days)
    return [MemoryActivity(day=row["day"], agent=row["agent"], learned=row["learned"], used=row["used"]) for row in rows]
