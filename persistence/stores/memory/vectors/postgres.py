"""Vectors in the database itself, under row level security, searched by pgvector where the server has it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from struct import pack
from typing import Final
from uuid import UUID

from persistence.database.retry import fetched
from persistence.database.signing import proof_of
from persistence.encoding import decode
from persistence.models import MemoryIndex
from persistence.plane import Plane
from persistence.repositories.memory_search import BEFORE_ALL, Hit, MemoryFilter
from persistence.stores.memory.models import Vector
from persistence.stores.memory.vectors import VectorRecord
from persistence.transaction import Transaction

ACTOR: Final = "system:memory"

_REAL: Final = 700
"""The type of its elements."""

_KEEP: Final = "SELECT persistence.index_memories($1, $2, $3, $4, $5, $6, $7)"


def digest_of(vector: Vector) -> str:
    """SHA-256 of a vector as PostgreSQL sends it: array_send of real[]."""
    head = pack(">5i", 1, 0, _REAL, len(vector), 1)
    return sha256(head + b"".join(pack(">if", 4, number) for number in vector)).hexdigest()


class PostgresVectors:
    """A tenant's vectors in the table ``memory_vectors``."""

    name = "pgvector"

    def __init__(self, plane: Plane, tenant_id: UUID) -> None:
        self._plane = plane
        self._tenant_id = tenant_id

    async def write(self, index: MemoryIndex, records: Sequence[VectorRecord]) -> Mapping[UUID, str]:
        """As VectorStore says; digests are SHA-256 of ``array_send``."""
        settings = self._plane.settings
        [[kept]] = await fetched(
            self._plane.pool,
            settings,
            _KEEP,
            self._tenant_id,
            settings.service_user,
            index.id,
            [record.memory_id for record in records],
            [record.digest for record in records],
            [number for record in records for number in record.vector],
            proof_of(settings, self._tenant_id, settings.service_user),
        )
        return {UUID(memory_id): digest for memory_id, digest in decode(kept).items()}

    async def remove(self, index: MemoryIndex, ids: Sequence[UUID]) -> None:
        """They are gone: the database drops them with the texts."""

    async def digests(self, index: MemoryIndex, ids: Sequence[UUID]) -> Mapping[UUID, str]:
        async with self._transaction() as tx:
            return {memory_id: digest for memory_id, (digest, _) in (await tx.memories.vectors(index, ids)).items()}

    async def nearest(self, index: MemoryIndex, vector: Vector, among: MemoryFilter, limit: int) -> list[Hit]:
        async with self._transaction() as tx:
            return await tx.memories.nearest(index, vector, among, limit=limit)

    async def held(self, index: MemoryIndex) -> AsyncIterator[tuple[UUID, str]]:
        after = BEFORE_ALL
        while True:
            async with self._transaction() as tx:
                page = await tx.memories.held(index, after=after)
            if not page:
                return
            for item in page:
                yield item
            after = page[-1][0]

    async def drop(self, index: MemoryIndex) -> None:
        """They are gone: the database drops them when the index is retired."""

    def _transaction(self) -> Transaction:
        return self._plane.transaction(self._tenant_id, actor=ACTOR)


@asynccontextmanager
async def postgres_vectors(plane: Plane, tenant_id: UUID) -> AsyncIterator[PostgresVectors]:
    """A tenant's vectors in the database."""
    yield PostgresVectors(plane, tenant_id)
