"""Finding memories: by their words, by their vectors, and among which."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from persistence.database.tables import MEMORIES
from persistence.encoding import check, encode
from persistence.errors import InvalidInput
from persistence.models import Memory, MemoryIndex
from persistence.models.memory import CONTEXTS, MemoryContext
from persistence.repositories.base import moment
from persistence.repositories.rows import RowReader

BEFORE_ALL: Final = UUID(int=0)
"""Where a list of ids begins."""

_MOST_TAGS: Final = 50
_ITERATIVE: Final = [0, 8]
MOST_FOUND: Final = 1_000
MOST_WORDS: Final = 100
"""Words that a search takes: ranking costs more with each of them, for all that are found."""
_WORD: Final = re.compile(r"\w+")

# What may be found: what was known at a moment, as far as it holds then.
_ELIGIBLE: Final = """
  AND ($3::text IS NULL OR m.agent = $3)
  AND ($4::text IS NULL OR m.context = $4)
  AND ($5::text IS NULL OR m.tags @> $5::jsonb)
  AND CASE WHEN $6::timestamptz IS NULL THEN m.status = 'ACTIVE' AND m.valid_from <= now() AND (m.valid_until IS NULL OR m.valid_until > now())
    ELSE m.created_at <= $6 AND m.valid_from <= $6 AND (m.ended_at IS NULL OR m.ended_at > $6) AND (m.valid_until IS NULL OR m.valid_until > $6)
      AND (m.version < 3 OR (
        SELECT e.event_type
        FROM persistence.orchestration_events AS e
        WHERE e.tenant_id = $1
          AND e.aggregate_id = m.id
          AND e.event_type IN ('MEMORY_PRUNED', 'MEMORY_RESTORED')
          AND e.created_at <= $6
        ORDER BY e.aggregate_version DESC
        LIMIT 1
      ) IS DISTINCT FROM 'MEMORY_PRUNED') END
  AND ($7::timestamptz IS NULL OR m.created_at >= $7)
  AND ($8::timestamptz IS NULL OR m.created_at < $8)
"""

# Those that have the words. Of very many no more than so many are ranked.
_MATCHING: Final = f"""
SELECT x.id, ts_rank_cd(x.words, x.asked) AS score
FROM (
  SELECT m.id, m.words, q.words AS asked
  FROM persistence.memories AS m
  CROSS JOIN websearch_to_tsquery('simple', $2) AS q (words)
  WHERE m.tenant_id = $1
    AND m.words @@ q.words
{_ELIGIBLE}
  LIMIT 5000
) AS x
ORDER BY score DESC, x.id DESC
LIMIT $9
"""  # noqa: S608  both parts are constants

# Those that have any of the words. Of very many no more than so many are looked at.
_RESEMBLING: Final = f"""
SELECT x.id, ts_rank(x.words, x.asked) AS score
FROM (
  SELECT m.id, m.words, q.words AS asked
  FROM persistence.memories AS m
  CROSS JOIN CAST(replace(plainto_tsquery('simple', $2)::text, ' & ', ' | ') AS tsquery) AS q (words)
  WHERE m.tenant_id = $1
    AND m.words @@ q.words
{_ELIGIBLE}
  LIMIT 5000
) AS x
ORDER BY score DESC, x.id DESC
LIMIT $9
"""  # noqa: S608

_AMONG: Final = f"""
SELECT m.id
FROM persistence.memories AS m
WHERE m.tenant_id = $1
  AND m.id = ANY ($2::uuid[])
{_ELIGIBLE}
"""  # noqa: S608

_EXTENSION: Final = """
SELECT n.nspname, e.extversion
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'
"""

_NEAREST: Final = """
SELECT n.id, n.score
FROM persistence.nearest_memories($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8, $9, $10) AS n
"""

# Those that may be found, whatever is in them.
_ALL_OF_THEM: Final = f"""
SELECT m.id
FROM persistence.memories AS m
WHERE m.tenant_id = $1
  AND $2::uuid IS NULL
{_ELIGIBLE}
ORDER BY m.id DESC
LIMIT $9
OFFSET $10
"""  # noqa: S608

_TAGS: Final = f"""
SELECT DISTINCT t.tag
FROM persistence.memories AS m
CROSS JOIN jsonb_array_elements_text(m.tags) AS t (tag)
WHERE m.tenant_id = $1
  AND starts_with(t.tag, $2)
{_ELIGIBLE}
ORDER BY t.tag
"""  # noqa: S608

_UNUSED: Final = """
SELECT
  m.id,
  coalesce(m.importance, 0.5)
    * (1 + ln(1 + (SELECT count(*) FROM persistence.memory_recalls AS r WHERE r.tenant_id = $1 AND r.memories @> to_jsonb(ARRAY[m.id::text]))))
    * 0.5 ^ (extract(epoch FROM now() - m.created_at) / extract(epoch FROM $2::interval)) AS strength
FROM persistence.memories AS m
WHERE m.tenant_id = $1
  AND m.status = 'ACTIVE'
  AND ($3::text IS NULL OR m.agent = $3)
  AND m.created_at < now() - $2::interval
ORDER BY strength, m.id
LIMIT $4
"""

_VECTORS: Final = """
SELECT v.memory_id, v.digest, v.embedding
FROM persistence.memory_vectors AS v
WHERE v.tenant_id = $1
  AND v.index_id = $2
  AND v.memory_id = ANY ($3::uuid[])
"""

_HELD: Final = """
SELECT v.memory_id AS id, v.digest
FROM persistence.memory_vectors AS v
WHERE v.tenant_id = $1
  AND v.index_id = $2
  AND v.memory_id > $3
ORDER BY v.memory_id
LIMIT $4
"""

_WANTED: Final = """
SELECT m.id, m.digest
FROM persistence.memories AS m
WHERE m.tenant_id = $1
  AND m.status <> 'FORGOTTEN'
  AND m.is_embedded IS NOT FALSE
  AND m.id > $2
ORDER BY m.id
LIMIT $3
"""


def checked_tags(tags: Sequence[str]) -> None:
    """Raises InvalidInput for what are no tags."""
    if isinstance(tags, str) or len(tags) > _MOST_TAGS or not all(isinstance(tag, str) and 1 <= len(tag) <= 100 for tag in tags):
        raise InvalidInput("tags: are at most 50 texts of 1 to 100 characters", field="tags")


@dataclass(frozen=True)
class MemoryFilter:
    """Which memories may be found.

    agent: whose; context: learned where; tags: all of them. at: what was known, and held, at that moment; None: now. since, until: learned from and
    before when.
    """

    agent: str | None = None
    context: MemoryContext | None = None
    tags: Sequence[str] = ()
    at: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        checked_tags(self.tags)
        for name in ("at", "since", "until"):
            moment(getattr(self, name), name)
        if self.context is not None and self.context not in CONTEXTS:
            raise InvalidInput(f"context: is {self.context!r}", hint=f"one of {', '.join(CONTEXTS)}", field="context")

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the statements above take from their third argument on."""
        return self.agent, self.context, encode(list(self.tags)) if self.tags else None, self.at, self.since, self.until


ANY: Final = MemoryFilter()


@dataclass(frozen=True)
class Extension:
    """pgvector, as the database has it. schema: where its types are."""

    schema: str
    version: str

    @property
    def searches_widely(self) -> bool:
        """Whether its indexes go on until enough are found: from 0.8 on. Older ones are not asked."""
        parts = [int(part) for part in self.version.split(".")[:2] if part.isdigit()]
        return parts >= _ITERATIVE


@dataclass(frozen=True)
class Hit:
    """A memory by its id. score: the higher the better, to be compared within one search only."""

    id: UUID
    score: float


@dataclass(frozen=True)
class Found:
    """A memory that a search found. score: the higher the better, to be compared within one search only. why: what gave it that score."""

    memory: Memory
    score: float
    why: Mapping[str, float] = field(default_factory=dict)


class MemoryReader(RowReader[Memory]):
    """Reads memories, and searches them."""

    table = MEMORIES
    model = Memory

    async def search(
        self,
        words: str,
        *,
        agent: str | None = None,
        context: MemoryContext | None = None,
        tags: Sequence[str] = (),
        at: datetime | None = None,
        limit: int = 10,
    ) -> list[Found]:
        """Memories with these words, the best first. words: as in a search engine: quotes, ``or``, ``-`` before what is not wanted.

        tags: all of them. at: what was known and held at that moment; None: now. limit: 1 to 1,000. By what they mean, too: ``MemorySearch``.
        """
        hits = await self.matching(words, MemoryFilter(agent, context, tags, at), limit=limit)
        return await self.found({hit.id: (hit.score, {}) for hit in hits})

    async def matching(self, words: str, among: MemoryFilter = ANY, *, limit: int = 10, loosely: bool = False) -> list[Hit]:
        """Those with these words, at most MOST_WORDS, the best first. loosely: where fewer than ``limit`` have all of them, also those that have
        any; of a longer text that is the first so many different words. Raises InvalidInput.
        """
        check(words, "words")
        check_limit(limit)
        asked = _WORD.findall(words)
        if len(asked) > MOST_WORDS and not loosely:
            raise InvalidInput(f"words: are {len(asked):,}", hint=f"at most {MOST_WORDS}", field="words")
        is_short = len(asked) <= MOST_WORDS
        text = words if is_short else " ".join(list(dict.fromkeys(asked))[:MOST_WORDS])
        arguments = (self._work.context.tenant_id, text, *among.arguments, limit)
        hits = _hits(await self._work.fetch(_MATCHING, *arguments)) if is_short else []
        if loosely and len(hits) < limit:
            there = {hit.id for hit in hits}
            hits += [hit for hit in _hits(await self._work.fetch(_RESEMBLING, *arguments)) if hit.id not in there]
        return hits[:limit]

    async def nearest(
        self, index: MemoryIndex, vector: Sequence[float], among: MemoryFilter = ANY, *, limit: int = 10
    ) -> list[Hit]:
        """Those whose vectors in an index of this database are nearest, the nearest first; the score is the cosine of the angle.

        Never fewer than ``limit`` while so many are there: where few may be found, or the index gives too few, all of them are compared.
        vector: of length 1, with the index's dimensions. Raises InvalidInput.
        """
        check_limit(limit)
        if len(vector) != index.dimensions:
            raise InvalidInput(f"vector: has {len(vector)} dimensions, the index {index.dimensions}", field="vector")
        given = (self._work.context.tenant_id, index.id, *among.arguments, list(vector), limit)
        return _hits(await self._work.fetch(_NEAREST, *given))

    async def pgvector(self) -> "Extension | None":
        """What the database has of pgvector; None: nothing, and vectors are compared one by one."""
        rows = await self._work.fetch(_EXTENSION)
        return Extension(rows[0]["nspname"], rows[0]["extversion"]) if rows else None

    async def among(self, ids: Sequence[UUID], among: MemoryFilter = ANY) -> set[UUID]:
        """Those of these ids that may be found."""
        rows = await self._work.fetch(_AMONG, self._work.context.tenant_id, list(ids), *among.arguments)
        return {row["id"] for row in rows}

    async def those(self, among: MemoryFilter = ANY, *, limit: int = 10, offset: int = 0) -> list[Memory]:
        """Those that may be found, the newest first, without the first ``offset`` of them."""
        check_limit(limit)
        rows = await self._work.fetch(_ALL_OF_THEM, self._work.context.tenant_id, None, *among.arguments, limit, offset)
        return sorted(await self.get_many([row["id"] for row in rows]), key=lambda memory: memory.id, reverse=True)

    async def tags(self, beginning: str, among: MemoryFilter = ANY) -> list[str]:
        """The tags of those that may be found, as far as they begin so."""
        rows = await self._work.fetch(_TAGS, self._work.context.tenant_id, beginning, *among.arguments)
        return [row["tag"] for row in rows]

    async def found(self, scores: Mapping[UUID, tuple[float, Mapping[str, float]]]) -> list[Found]:
        """Memories with the scores that a search gave them, the best first."""
        memories = await self.get_many(list(scores))
        found = [Found(memory, *scores[memory.id]) for memory in memories if memory.content is not None]
        return sorted(found, key=lambda one: (one.score, one.memory.id), reverse=True)

    async def weakest(self, half_life: timedelta, *, agent: str | None = None, limit: int = 100) -> list[Hit]:
        """Those that matter least, the least first: importance (0.5 where it is not said), by how often it was used, halved with each
        ``half_life`` of its age. None that is younger than that.
        """
        check_limit(limit)
        if not timedelta() < half_life < timedelta(days=36_500):
            raise InvalidInput("half_life: must be more than nothing, and less than 100 years", field="half_life")
        rows = await self._work.fetch(_UNUSED, self._work.context.tenant_id, half_life, agent, limit)
        return [Hit(row["id"], row["strength"]) for row in rows]

    async def vectors(self, index: MemoryIndex, ids: Sequence[UUID]) -> dict[UUID, tuple[str, list[float]]]:
        """What an index of this database has of these memories: the digest of the text, and the vector."""
        rows = await self._work.fetch(_VECTORS, self._work.context.tenant_id, index.id, list(ids))
        return {row["memory_id"]: (row["digest"], row["embedding"]) for row in rows}

    async def held(self, index: MemoryIndex, *, after: UUID = BEFORE_ALL, limit: int = 10_000) -> list[tuple[UUID, str]]:
        """A page of what an index of this database has: ids of memories, and digests of the texts that the vectors were made from."""
        rows = await self._work.fetch(_HELD, self._work.context.tenant_id, index.id, after, limit)
        return [(row["id"], row["digest"]) for row in rows]

    async def with_texts(self, *, after: UUID = BEFORE_ALL, limit: int = 10_000) -> list[tuple[UUID, str]]:
        """A page of what an index is to have: ids and digests of all memories that are not forgotten, and whose vectors are wanted."""
        rows = await self._work.fetch(_WANTED, self._work.context.tenant_id, after, limit)
        return [(row["id"], row["digest"]) for row in rows]


def check_limit(limit: int) -> None:
    """Raises InvalidInput."""
    if not 1 <= limit <= MOST_FOUND:
        raise InvalidInput("limit: must be 1 to 1,000", field="limit")


def _hits(rows: Sequence[Any]) -> list[Hit]:
    return [Hit(row["id"], float(row["score"])) for row in rows]
