"""Weaviate, by its REST and GraphQL interfaces. Tried against recorded answers only: its server cannot be had where this is tested."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Final
from uuid import UUID

from persistence.models import MemoryIndex
from persistence.repositories.memory_search import Hit, MemoryFilter
from persistence.stores.memory.models import Vector
from persistence.stores.memory.vectors import StoreFailed, VectorRecord
from persistence.stores.memory.vectors.by_http import HttpStore
from persistence.stores.memory.vectors.others import OtherVectors

_PAGE: Final = 1000
_PORT: Final = 8080
_TEXT: Final = [{"name": name, "dataType": ["text"], "tokenization": "field"} for name in ("agent_id", "context", "digest")]
_PROPERTIES: Final = [
    *_TEXT,
    {"name": "timestamp", "dataType": ["date"]},
    {"name": "tags", "dataType": ["text[]"], "tokenization": "field"},
]


class WeaviateVectors(OtherVectors):
    """A class for each index, with the cosine as its measure, and no vectorizer."""

    name: ClassVar[str] = "weaviate"

    async def connect(self, secret: str | None) -> None:
        scheme, headers = ("http", {}) if secret is None else ("https", {"Authorization": f"Bearer {secret}"})
        self._http = HttpStore(self.name, f"{scheme}://{self.config.host}:{self.config.port or _PORT}", headers)

    async def close(self) -> None:
        await self._http.close()

    def collection(self, index: MemoryIndex) -> str:
        return super().collection(index).capitalize()

    async def make(self, index: MemoryIndex) -> None:
        name = self.collection(index)
        if await self._http.ask("GET", f"/v1/schema/{name}", may_miss=True) is None:
            shape = {"class": name, "vectorizer": "none", "vectorIndexConfig": {"distance": "cosine"}, "properties": _PROPERTIES}
            await self._http.ask("POST", "/v1/schema", json=shape)

    async def put(self, index: MemoryIndex, records: Sequence[VectorRecord]) -> None:
        objects = [
            {
                "class": self.collection(index),
                "id": str(record.memory_id),
                "vector": record.vector,
                "properties": record.metadata,
            }
            for record in records
        ]
        answers = await self._http.ask("POST", "/v1/batch/objects", params={"consistency_level": "ALL"}, json={"objects": objects})
        for answer in answers:
            errors = (answer.get("result") or {}).get("errors")
            if errors:  # the batch as a whole is answered 200 all the same
                raise StoreFailed(f"weaviate: refused {answer.get('id')}: {errors}")

    async def delete(self, index: MemoryIndex, ids: Sequence[UUID]) -> None:
        for memory_id in ids:
            await self._http.ask("DELETE", f"/v1/objects/{self.collection(index)}/{memory_id}", may_miss=True)

    async def read(self, index: MemoryIndex, ids: Sequence[UUID]) -> dict[UUID, str]:
        if not ids:
            return {}
        wanted = json.dumps([str(memory_id) for memory_id in ids])
        where = f'where: {{path: ["id"], operator: ContainsAny, valueTextArray: {wanted}}}, limit: {len(ids)}'
        rows = await self._get(index, where, "digest _additional { id }")
        return {UUID(row["_additional"]["id"]): row["digest"] for row in rows}

    async def ask(self, index: MemoryIndex, vector: Vector, among: MemoryFilter, limit: int) -> list[Hit]:
        wanted = {"agent_id": among.agent, "context": among.context}
        conditions = [
            f'{{path: ["{name}"], operator: Equal, valueText: {json.dumps(value)}}}'
            for name, value in wanted.items()
            if value is not None
        ]
        where = f", where: {{operator: And, operands: [{', '.join(conditions)}]}}" if conditions else ""
        rows = await self._get(
            index, f"nearVector: {{vector: {json.dumps(vector)}}}, limit: {limit}{where}", "_additional { id distance }"
        )
        return [Hit(UUID(row["_additional"]["id"]), 1 - row["_additional"]["distance"]) for row in rows]

    async def page(self, index: MemoryIndex, after: Any) -> tuple[list[tuple[UUID, str]], Any]:
        asked = {"class": self.collection(index), "limit": str(_PAGE), **({"after": after} if after else {})}
        answer = await self._http.ask("GET", "/v1/objects", params=asked)
        rows = [(UUID(row["id"]), row["properties"]["digest"]) for row in answer.get("objects") or []]
        return rows, str(rows[-1][0]) if len(rows) == _PAGE else None

    async def destroy(self, index: MemoryIndex) -> None:
        await self._http.ask("DELETE", f"/v1/schema/{self.collection(index)}", may_miss=True)

    async def _get(self, index: MemoryIndex, arguments: str, fields: str) -> list[dict[str, Any]]:
        name = self.collection(index)
        answer = await self._http.ask("POST", "/v1/graphql", json={"query": f"{{ Get {{ {name}({arguments}) {{ {fields} }} }} }}"})
        if answer.get("errors"):
            raise StoreFailed(f"weaviate: {answer['errors']}")
        rows: list[dict[str, Any]] = answer["data"]["Get"][name]
        return rows
