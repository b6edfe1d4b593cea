"""``python -m benchmarks.memory``: 50,000 memories of 256 dimensions: writing them with their vectors, and what a search takes and finds, beside
comparing all; then the models that run here, on texts of this repository.
"""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from benchmarks.big import say
from benchmarks.server import BenchServer
from benchmarks.systems import plane as system
from persistence import Plane
from persistence.errors import ConfigurationError
from persistence.gates.checks import shipped_suites
from persistence.models import MemoryIndex
from persistence.repositories.memory_search import MemoryFilter
from persistence.resources import PACKAGE
from persistence.stores.memory import Backends, Embedder, MemorySearch, VectorConfig, VectorRecord, open_model
from persistence.stores.memory.models.hashing import FeatureHashing

Numbers = Any
"""An array."""

COUNT = 50_000
QUERIES = 200
LIMIT = 10
DIMENSIONS = 256
ACTOR = "agent:bench"
MODELS = ("hashing-128", "hashing-256", "hashing-512", "hashing-1024", "onnx:minilm")


def main() -> None:
    asyncio.run(compare_models())
    with tempfile.TemporaryDirectory() as folder, BenchServer.started(Path(folder) / "server") as server:
        dsn = server.fresh("memory")
        system.prepare(dsn)
        asyncio.run(measure(dsn, Path(folder) / "data"))


def lines() -> list[str]:
    """What stands in this repository, a line a text, then pairs of lines until there are enough."""
    files = sorted(
        path for ending in ("py", "md", "sql") for path in PACKAGE.parent.rglob(f"*.{ending}") if ".venv" not in path.parts
    )
    found = sorted(
        {line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines() if len(line.strip()) > 30}
    )
    chosen = random.Random(1)
    chosen.shuffle(found)
    while len(found) < COUNT + QUERIES:
        found.append(f"{chosen.choice(found)} {chosen.choice(found)}")
    return found[: COUNT + QUERIES]


async def measure(dsn: str, data: Path) -> None:
    texts = lines()
    model = FeatureHashing(DIMENSIONS)
    vectors = np.array([model.vector(text) for text in texts], dtype=np.float32)
    async with Plane(dsn=dsn, data_dir=data) as plane:
        tenant = await plane.tenants.ensure("bench", actor="system:bench")
        async with Backends(plane, VectorConfig(embedding_model=model.name)) as backends:
            [index] = await Embedder(backends).indexes(tenant.tenant_id)
            ids = await write(plane, backends, tenant.tenant_id, index, texts[:COUNT], vectors)
            for name, among, may in (
                ("any", MemoryFilter(), np.ones(COUNT, bool)),
                ("of every second", MemoryFilter(tags=("even",)), np.arange(COUNT) % 2 == 0),
                ("of one in a hundred", MemoryFilter(tags=("few",)), np.arange(COUNT) % 100 == 0),
            ):
                await search(plane, tenant.tenant_id, index, ids, vectors, name, among, may)
            seconds = []
            for text in texts[COUNT:]:
                began = time.perf_counter()
                await MemorySearch(backends).search(tenant.tenant_id, text, actor=ACTOR)
                seconds.append(time.perf_counter() - began)
            say(f"words and vectors together, with the memories: p50 {p(seconds, 50):.1f} ms, p95 {p(seconds, 95):.1f} ms")


async def write(
    plane: Plane, backends: Backends, tenant_id: UUID, index: MemoryIndex, texts: Sequence[str], vectors: Numbers
) -> dict[UUID, int]:
    """The place of each memory, by its id."""
    store = await backends.store(tenant_id, "pgvector")
    ids: dict[UUID, int] = {}
    remembering, keeping = 0.0, 0.0
    for first in range(0, len(texts), 1000):
        began = time.perf_counter()
        async with plane.transaction(tenant_id, actor=ACTOR) as tx:
            written = [
                tx.memories.remember(text, agent="agent:bench", context="doc", tags=tags(number), embed=False)
                for number, text in enumerate(texts[first : first + 1000], first)
            ]
        async with plane.transaction(tenant_id, actor=ACTOR) as tx:
            memories = await tx.memories.get_many([memory.id for memory in written])
        remembering += time.perf_counter() - began
        ids |= {memory.id: number for number, memory in enumerate(written, first)}
        began = time.perf_counter()
        await store.write(
            index,
            [
                VectorRecord(m.id, m.digest, vectors[ids[m.id]].tolist(), m.agent, m.context, m.tags or (), m.created_at)  # type: ignore[arg-type]
                for m in memories
            ],
        )
        keeping += time.perf_counter() - began
    say(
        f"remembered {len(texts) / remembering:,.0f} memories/s, kept {len(texts) / keeping:,.0f} vectors of {DIMENSIONS}/s, each by batches of 1,000"
    )
    return ids


def tags(number: int) -> list[str]:
    return [name for name, every in (("even", 2), ("few", 100)) if number % every == 0]


async def search(
    plane: Plane, tenant_id: UUID, index: MemoryIndex, ids: dict[UUID, int], vectors: Numbers, name: str,
    among: MemoryFilter, may: Numbers,
) -> None:  # fmt: skip
    right, seconds = 0, []
    for query in vectors[COUNT:]:
        scores = np.where(may, vectors[:COUNT] @ query, -2)
        least = np.sort(scores)[-LIMIT] - 1e-6
        began = time.perf_counter()
        async with plane.transaction(tenant_id, actor=ACTOR) as tx:
            hits = await tx.memories.nearest(index, query.tolist(), among, limit=LIMIT)
        seconds.append(time.perf_counter() - began)
        right += sum(scores[ids[hit.id]] >= least for hit in hits)
    say(f"{name}: recall@{LIMIT} {right / QUERIES / LIMIT:.4f}, p50 {p(seconds, 50):.1f} ms, p95 {p(seconds, 95):.1f} ms")


def p(seconds: Sequence[float], part: int) -> float:
    """Milliseconds."""
    return statistics.quantiles(seconds, n=100)[part - 1] * 1000


async def compare_models() -> None:
    """Each gate's title is asked for, and what it means when it is red is to be found among those of all gates: other words, the same matter."""
    checks = shipped_suites()
    asked, wanted = [check.title for check in checks], [check.means for check in checks]
    some = lines()[:2000]

    async def no_key(_: str) -> str:
        raise AssertionError

    for name in MODELS:
        try:
            model = open_model(name, VectorConfig())
            await model.embed(["ready"], no_key)
        except ConfigurationError as error:
            say(f"{name}: {error.message}")
            continue
        questions, answers = np.array(await model.embed(asked, no_key)), np.array(await model.embed(wanted, no_key))
        ranks = [1 + int((row > row[number]).sum()) for number, row in enumerate(questions @ answers.T)]
        began = time.perf_counter()
        for first in range(0, len(some), model.at_once):
            await model.embed(some[first : first + model.at_once], no_key)
        took = time.perf_counter() - began
        say(
            f"{name}: {model.dimensions} dimensions, MRR {sum(1 / rank for rank in ranks) / len(ranks):.3f}, first {sum(rank == 1 for rank in ranks)} of "
            f"{len(ranks)}, {len(some) / took:,.0f} texts/s"
        )


if __name__ == "__main__":
    main()
