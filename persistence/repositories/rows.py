"""Reading rows as models: columns, keyset pages, filters. All within one tenant."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Generic, TypeVar, Unpack
from uuid import UUID

import asyncpg
from sqlalchemy import Column, Select, Table, Text, Uuid, any_, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

from persistence.canon import CANON
from persistence.database.statements import as_text, compiled
from persistence.encoding import decode_stored
from persistence.errors import InvalidInput, NotFound
from persistence.models import Model, Page
from persistence.repositories.filters import Filters
from persistence.repositories.work import Work

R = TypeVar("R", bound=Model)

MAX_PAGE = 1000
_CLOSED = "sealed"  # functions alone give it to services, and record who asked


class RowReader(Generic[R]):
    """Reads one table's rows as one model.

    The table's columns bear the names of the model's fields, and its rows are keyed by (tenant_id, id); ids are UUIDv7, so their
    order is that of creation.
    """

    table: Table
    model: type[R]

    def __init__(self, work: Work) -> None:
        self._work = work

    async def get(self, item_id: UUID) -> R:
        """The one with this id. Raises NotFound."""
        found = await self.find(item_id)
        if found is None:
            raise NotFound(f"{self.model.__name__} {item_id} does not exist in this tenant", hint="check the id and the tenant")
        return found

    async def find(self, item_id: UUID) -> R | None:
        """The one with this id, or None."""
        items = await self.get_many([item_id])
        return items[0] if items else None

    async def get_many(self, ids: Sequence[UUID]) -> Sequence[R]:
        """Those of these ids that exist, in the order of their ids."""
        rows = await self._work.fetch(by_ids(self.table), self._work.context.tenant_id, list(ids))
        return await self._presented([self._read(row) for row in rows])

    async def list(
        self, *, limit: int = 100, after: UUID | None = None, newest_first: bool = False, **filters: Unpack[Filters]
    ) -> Page[R]:
        """A page of at most ``limit`` (1 to 1000), beginning after the id ``after``.

        filters: a column and the value it must have, or a list of values. Raises InvalidInput for one that the table does not have, and for a
        status that there is not.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidInput(f"limit: {limit} is not between 1 and {MAX_PAGE}", field="limit")
        rows = await self._fetch(_page(self.table, self._work.context.tenant_id, filters, limit, after, newest_first=newest_first))
        items = await self._presented([self._read(row) for row in rows[:limit]])
        return Page[R](items=items, next=rows[limit - 1]["id"] if len(rows) > limit else None)

    async def all(self, **filters: Unpack[Filters]) -> Sequence[R]:
        """All that the filters of ``list`` leave, in the order of their ids, read page after page."""
        page = await self.list(limit=MAX_PAGE, **filters)
        items = [*page.items]
        while page.next is not None:
            page = await self.list(limit=MAX_PAGE, after=page.next, **filters)
            items.extend(page.items)
        return items

    async def count(self, **filters: Unpack[Filters]) -> int:
        """How many there are, with the filters of ``list``."""
        query = _filtered(select(func.count()).select_from(self.table), self.table, self._work.context.tenant_id, filters)
        rows = await self._fetch(query)
        return int(rows[0][0])

    async def _fetch(self, query: Select[Any]) -> Sequence[asyncpg.Record]:
        text, values = compiled(query)
        return await self._work.fetch(text, *values)

    async def _presented(self, items: Sequence[R]) -> Sequence[R]:
        """What was read, as it is handed out."""
        return items

    def read_rows(self, rows: Sequence[asyncpg.Record]) -> Sequence[R]:
        """Rows of this table as models."""
        return [self._read(row) for row in rows]

    def _read(self, row: asyncpg.Record) -> R:
        return read_row(self.model, dict(row.items()), _json_columns(self.table))


def page_statement(table: Table, *filters: str) -> str:
    """The text of the statement that ``list`` sends for these filters, each with one value."""
    nobody = UUID(int=0)
    values: dict[str, Any] = {name: bindparam(name) for name in filters}
    return as_text(_page(table, nobody, values, MAX_PAGE, nobody, newest_first=False))


def _page(
    table: Table, tenant_id: UUID, filters: Mapping[str, Any], limit: int, after: UUID | None, *, newest_first: bool
) -> Select[Any]:
    key = table.c.id
    query = _filtered(select(*_columns(table)), table, tenant_id, filters)
    if after is not None:
        query = query.where(key < after if newest_first else key > after)
    return query.order_by(key.desc() if newest_first else key).limit(limit + 1)


def _filtered(query: Select[Any], table: Table, tenant_id: UUID, filters: Mapping[str, Any]) -> Select[Any]:
    query = query.where(table.c.tenant_id == tenant_id)
    for name, value in filters.items():
        column = table.c.get(name)
        if column is None or name in {"tenant_id", _CLOSED}:
            choices = ", ".join(sorted(c.name for c in table.c if c.name != "tenant_id" and not _is_json(c)))
            raise InvalidInput(f"filter {name!r}: {table.name} cannot be filtered by it", hint=f"choose from {choices}", field=name)
        values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
        if name == "status":
            _check_statuses(table, values)
        query = query.where(column.in_(values) if values != [value] else column == value)
    return query


def _check_statuses(table: Table, values: Sequence[Any]) -> None:
    known = next((kind.statuses for kind in CANON.aggregates.values() if kind.table == table.name), ())
    for value in values:
        if isinstance(value, str) and value not in known:
            raise InvalidInput(
                f"status {value!r}: {table.name} have no such status", hint=f"choose from {', '.join(known)}", field="status"
            )


def read_row(model: type[R], values: dict[str, Any], json_columns: frozenset[str]) -> R:
    """A model of what the database returned, by column. It is not validated again."""
    for name in json_columns:
        values[name] = decode_stored(values[name])
    return model.made(**values)


def _is_json(column: Column[Any]) -> bool:
    return isinstance(column.type, JSON | JSONB)


@cache
def _json_columns(table: Table) -> frozenset[str]:
    return frozenset(column.name for column in table.c if _is_json(column))


@cache
def _columns(table: Table) -> tuple[Any, ...]:
    # JSON travels as text, so that a codec set on a caller's connection does not matter.
    return tuple(
        cast(column, Text).label(column.name) if _is_json(column) else column for column in table.c if column.name != _CLOSED
    )


@cache
def by_correlations(table: Table) -> str:
    """The statement that reads rows of a tenant by their correlations."""
    ids = any_(cast(bindparam("ids"), ARRAY(Uuid)))
    return as_text(select(*_columns(table)).where(table.c.tenant_id == bindparam("tenant_id"), table.c.correlation_id == ids))


@cache
def by_ids(table: Table) -> str:
    """The statement that reads rows of a tenant by their ids."""
    ids = any_(cast(bindparam("ids"), ARRAY(Uuid)))
    query = select(*_columns(table)).where(table.c.tenant_id == bindparam("tenant_id"), table.c.id == ids).order_by(table.c.id)
    return as_text(query)
