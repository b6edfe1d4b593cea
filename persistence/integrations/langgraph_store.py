"""A store for LangGraph (extra ``langgraph``): what graphs remember across threads, as memories with their history, found by words and by meaning.

An item is a memory of the agent ``langgraph``: its value as JSON is the text; namespace and key are tags. What is put again supersedes what was
there; what is deleted is forgotten for good.
"""

import asyncio
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import count
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final
from urllib.parse import quote, unquote
from uuid import UUID

from langgraph.store.base import BaseStore, GetOp, Item, ListNamespacesOp, MatchCondition, Op, PutOp, Result, SearchItem, SearchOp

from persistence.errors import Conflict, InvalidInput, InvalidTransition
from persistence.integrations.threads import from_thread, running_loop
from persistence.models import Memory
from persistence.repositories.memory_search import MOST_FOUND, MemoryFilter
from persistence.stores.memory import Backends, Findings, MemorySearch
from persistence.transaction import Transaction

AGENT: Final = "langgraph"

_IN: Final = "in:"
_UNDER: Final = "under:"
_KEY: Final = "key:"
_SINCE: Final = "since:"
_LONGEST_TAG: Final = 100
_TRIES: Final = 20
_OPERATORS: Final = {"$eq": eq, "$ne": ne, "$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}


class PersistenceStore(BaseStore):
    """Keeps what graphs put, in the name of an actor of a tenant.

    Namespaces, joined, and keys have at most 94 characters as they stand in an address. Found by meaning is what a worker has embedded
    (``persistence worker``); until then by words; of a query the best thousand. Use the asynchronous methods in the event loop that the plane was
    opened in; the others from threads.
    """

    supports_ttl = False

    def __init__(self, backends: Backends, tenant_id: UUID, *, actor: str, user_id: UUID | None = None) -> None:
        self._backends = backends
        self._plane = backends.plane
        self._tenant_id = tenant_id
        self._actor = actor
        self._user_id = user_id
        self._loop: asyncio.AbstractEventLoop | None = running_loop()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Answers what is asked as it was before, then puts what is to be put, in one transaction; of what is put twice the last counts."""
        asked = list(ops)
        results: list[Result] = []
        for op in asked:
            if isinstance(op, GetOp):
                results.append(await self._get(op))
            elif isinstance(op, SearchOp):
                results.append(await self._search(op))
            elif isinstance(op, ListNamespacesOp):
                results.append(await self._namespaces(op))
            else:
                results.append(None)
        puts = {(op.namespace, op.key): op for op in asked if isinstance(op, PutOp)}
        if puts:
            await self._put(list(puts.values()))
        return results

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        return from_thread(self._loop, self.abatch(ops))

    async def _get(self, op: GetOp) -> Item | None:
        async with self._reading() as tx:
            memory = await _there(tx, op.namespace, op.key)
        return None if memory is None else Item(**_parts(memory))

    async def _put(self, puts: Sequence[PutOp]) -> None:
        firsts: list[PutOp] = []
        for left in reversed(range(_TRIES)):
            try:
                async with self._plane.transaction(self._tenant_id, actor=self._actor, user_id=self._user_id) as tx:
                    for op in puts:
                        there = await _there(tx, op.namespace, op.key)
                        if op.value is None:
                            for one in await _all_there(tx, op.namespace, op.key):
                                await _forget(tx, one)
                            continue
                        since = _since(there) if there is not None else datetime.now(UTC).isoformat()
                        tx.memories.remember(
                            _written(op.value),
                            agent=AGENT,
                            context="doc",
                            tags=[*_tags(op.namespace, op.key), f"{_SINCE}{since}"],
                            supersedes=there,
                            embed=op.index is not False,
                        )
                        if there is None:
                            firsts.append(op)
            except (Conflict, InvalidTransition):  # somebody else put it meanwhile
                if not left:
                    raise
                firsts.clear()
            else:
                break
        for op in firsts:
            await self._keep_one(op, _TRIES)

    async def _keep_one(self, op: PutOp, tries: int) -> None:
        """Of several who put the first item of a key at once the last stays."""
        try:
            async with self._plane.transaction(self._tenant_id, actor=self._actor, user_id=self._user_id) as tx:
                for one in (await _all_there(tx, op.namespace, op.key))[1:]:
                    await _forget(tx, one)
        except (Conflict, InvalidTransition):
            if not tries:
                raise
            await self._keep_one(op, tries - 1)

    async def _list(self, op: SearchOp, among: MemoryFilter) -> list[SearchItem]:
        """What fits, the newest first, page after page."""
        wanted, items = op.offset + op.limit, list[SearchItem]()
        async with self._reading() as tx:
            for start in count(0, MOST_FOUND):
                page = await tx.memories.those(among, limit=MOST_FOUND, offset=start)
                found = (SearchItem(**_parts(memory), score=None) for memory in page if memory.content is not None)
                items += [item for item in found if _fits(item.value, op.filter or {})]
                if len(page) < MOST_FOUND or len(items) >= wanted:
                    break
        return items[op.offset : wanted]

    async def _search(self, op: SearchOp) -> list[SearchItem]:
        among = MemoryFilter(agent=AGENT, tags=[_tag(_UNDER, _joined(op.namespace_prefix))])
        if not op.query:
            return await self._list(op, among)
        wanted = op.offset + op.limit
        asked = wanted if not op.filter else min(MOST_FOUND, 4 * wanted)
        while True:
            asked = max(1, min(MOST_FOUND, asked))
            findings: Findings = await MemorySearch(self._backends).search(
                self._tenant_id, op.query, among, actor=self._actor, user_id=self._user_id, limit=asked
            )
            scored = [(one.memory, one.why.get("vectors_score", one.score)) for one in findings.found]
            items = [SearchItem(**_parts(memory), score=score) for memory, score in scored if memory.content is not None]
            items = [item for item in items if _fits(item.value, op.filter or {})]
            if len(items) >= wanted or len(scored) < asked or asked == MOST_FOUND:
                return items[op.offset : wanted]
            asked *= 4

    async def _namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        async with self._reading() as tx:
            tags = await tx.memories.tags(_IN, MemoryFilter(agent=AGENT))
        found = {_split(tag.removeprefix(_IN)) for tag in tags}
        fitting = {
            one[: op.max_depth] if op.max_depth is not None else one
            for one in found
            if all(_matches(one, condition) for condition in op.match_conditions or ())
        }
        return sorted(fitting)[op.offset : op.offset + op.limit]

    def _reading(self) -> Transaction:
        return self._plane.snapshot(self._tenant_id, actor=self._actor, user_id=self._user_id)


async def _forget(tx: Transaction, memory: Memory | None) -> None:
    """Forgets an item with all that stood in its place before."""
    while memory is not None:
        if memory.status != "FORGOTTEN":
            tx.memories.forget(memory, "deleted from the store")
        memory = None if memory.supersedes is None else await tx.memories.find(memory.supersedes)


async def _there(tx: Transaction, namespace: tuple[str, ...], key: str) -> Memory | None:
    found = await _all_there(tx, namespace, key)
    return found[0] if found else None


async def _all_there(tx: Transaction, namespace: tuple[str, ...], key: str) -> list[Memory]:
    """The items of a key, the newest first: one, but for the moment in which several put it."""
    tags = [_tag(_IN, _joined(namespace)), _tag(_KEY, quote(key, safe=""))]
    return await tx.memories.those(MemoryFilter(agent=AGENT, tags=tags), limit=100)


def _tags(namespace: tuple[str, ...], key: str) -> list[str]:
    above = [_tag(_UNDER, _joined(namespace[:depth])) for depth in range(len(namespace) + 1)]
    return [_tag(_IN, _joined(namespace)), _tag(_KEY, quote(key, safe="")), *above]


def _tag(kind: str, text: str) -> str:
    tag = f"{kind}{text}"
    if len(tag) > _LONGEST_TAG:
        field = "key" if kind == _KEY else "namespace"
        raise InvalidInput(f"{field}: has {len(text)} characters as in an address", hint=f"at most {_LONGEST_TAG - 6}", field=field)
    return tag


def _joined(namespace: tuple[str, ...]) -> str:
    return "/".join(quote(part, safe="") for part in namespace)


def _split(text: str) -> tuple[str, ...]:
    return tuple(unquote(part) for part in text.split("/")) if text else ()


def _written(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"value: is not JSON: {error}", hint="give texts, numbers, lists and objects", field="value") from error


def _parts(memory: Memory) -> dict[str, Any]:
    tags = {kind: tag for tag in memory.tags or () for kind in (_IN, _KEY) if tag.startswith(kind)}
    return {
        "value": json.loads(memory.content or "null"),
        "key": unquote(tags[_KEY].removeprefix(_KEY)),
        "namespace": _split(tags[_IN].removeprefix(_IN)),
        "created_at": datetime.fromisoformat(_since(memory)),
        "updated_at": memory.created_at,
    }


def _since(memory: Memory) -> str:
    return next(tag.removeprefix(_SINCE) for tag in memory.tags or () if tag.startswith(_SINCE))


def _fits(value: Any, wanted: dict[str, Any]) -> bool:
    return all(_is_like(value.get(name), condition) for name, condition in wanted.items())


def _is_like(value: Any, condition: Any) -> bool:
    if isinstance(condition, dict) and any(name.startswith("$") for name in condition):
        return all(_compares(value, name, other) for name, other in condition.items())
    if isinstance(condition, dict):
        return isinstance(value, dict) and all(_is_like(value.get(name), other) for name, other in condition.items())
    return bool(value == condition)


def _compares(value: Any, name: str, other: Any) -> bool:
    if name not in _OPERATORS:
        raise InvalidInput(f"filter: {name!r} is no operator", hint=f"one of {', '.join(_OPERATORS)}", field="filter")
    try:
        return bool(_OPERATORS[name](value, other))
    except TypeError:  # what cannot be compared is not greater, nor less
        return False


def _matches(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    path = condition.path
    if len(namespace) < len(path):
        return False
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[len(namespace) - len(path) :]
    return all(wanted in {"*", have} for have, wanted in zip(part, path, strict=True))
