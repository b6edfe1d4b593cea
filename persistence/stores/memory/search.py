"""Searching what is remembered: by words, by meaning, and by both together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

import structlog

from persistence.encoding import check
from persistence.errors import ConfigurationError, InvalidInput
from persistence.models import MemoryIndex
from persistence.repositories.memory_search import ANY, Found, Hit, MemoryFilter, check_limit
from persistence.stores.memory.backends import Backends
from persistence.stores.memory.models import ModelFailed, Overloaded, Unembeddable
from persistence.stores.memory.vectors import StoreFailed

Mode = Literal["both", "words", "vectors"]
MODES: Final[tuple[Mode, ...]] = ("both", "words", "vectors")

_SMOOTHING: Final = 60
_DEPTH: Final = 4

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Findings:
    """What a search found, the best first. index: whose vectors were searched, if any were. without: why none were, where they were asked for."""

    found: Sequence[Found]
    index: MemoryIndex | None = None
    without: str | None = None


class MemorySearch:
    """Searches the memories of a tenant."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    async def search(
        self,
        tenant_id: UUID,
        text: str,
        among: MemoryFilter = ANY,
        *,
        actor: str,
        mode: Mode = "both",
        limit: int = 10,
        user_id: UUID | None = None,
    ) -> Findings:
        """The memories that answer a text best.

        mode: words (as in a search engine: quotes, ``or``, ``-``; at most 100), vectors (the nearest in meaning, as the index's model has it), or
        both, ranked together (reciprocal rank fusion). Where vectors cannot be had, both goes on with words and says so; vectors raises.
        among: which may be found. limit: 1 to 1,000; never fewer while so many may be found by vectors. Each has its score, and ``why``: its ranks
        and scores by words and vectors.
        """
        check_limit(limit)
        check(text, "text")
        if mode not in MODES:
            raise InvalidInput(f"mode: {mode!r} is none", hint=f"one of {', '.join(MODES)}", field="mode")
        plane = self._backends.plane
        depth = min(1000, limit * _DEPTH) if mode == "both" else limit
        async with plane.transaction(tenant_id, actor=actor, user_id=user_id) as tx:
            by_words = [] if mode == "vectors" else await tx.memories.matching(text, among, limit=depth, loosely=mode == "both")
            index = None if mode == "words" else await tx.memory_indexes.searched()
        by_vectors: list[Hit] = []
        without = None
        if mode != "words":
            try:
                if index is None:
                    raise ConfigurationError(
                        "no index of memories is searched yet", hint="a worker that delivers EMBED makes the first one"
                    )
                vector = await self._backends.vector(tenant_id, index, text)
                store = await self._backends.store(tenant_id, index.store)
                by_vectors = await store.nearest(index, vector, among, depth)
            except (ConfigurationError, Overloaded, Unembeddable, ModelFailed, StoreFailed) as error:
                if mode == "vectors":
                    raise
                without, index = error.message, None
                _log.warning("searched_without_vectors", error=str(error))
        scores = (
            fused({"words": by_words, "vectors": by_vectors}, limit) if mode == "both" else _plain(mode, by_words or by_vectors)
        )
        async with plane.transaction(tenant_id, actor=actor, user_id=user_id) as tx:
            return Findings(await tx.memories.found(scores), index, without)


def fused(rankings: Mapping[str, Sequence[Hit]], limit: int) -> dict[UUID, tuple[float, Mapping[str, float]]]:
    """Several rankings as one: each adds 1 / (60 + rank). Cormack, Clarke and Büttcher, Reciprocal Rank Fusion (2009)."""
    totals: dict[UUID, float] = {}
    reasons: dict[UUID, dict[str, float]] = {}
    for name, hits in rankings.items():
        for rank, hit in enumerate(hits, 1):
            totals[hit.id] = totals.get(hit.id, 0.0) + 1 / (_SMOOTHING + rank)
            reasons.setdefault(hit.id, {}).update({f"{name}_rank": rank, f"{name}_score": hit.score})
    best = sorted(totals, key=lambda one: (totals[one], one), reverse=True)[:limit]
    return {one: (totals[one], reasons[one]) for one in best}


def _plain(mode: str, hits: Sequence[Hit]) -> dict[UUID, tuple[float, Mapping[str, float]]]:
    return {hit.id: (hit.score, {f"{mode}_rank": rank, f"{mode}_score": hit.score}) for rank, hit in enumerate(hits, 1)}
