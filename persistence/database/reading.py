"""Reading rows of which one value may be none that Python has.

The database refuses times outside the years 1 to 9999; rows written past it may hold one all the same, and must not hide the others.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


async def read_rows(connection: Any, statement: str, *arguments: Any) -> Sequence[asyncpg.Record]:
    """The rows of a statement. Times before the year 1 come as its beginning, those after the year 9999 as its end.

    connection: of asyncpg. Where there is such a time the statement is sent twice.
    """
    try:
        rows: Sequence[asyncpg.Record] = await connection.fetch(statement, *arguments)
    except OverflowError:
        await connection.set_type_codec("timestamptz", schema="pg_catalog", format="tuple", encoder=_encode, decoder=_decode)
        try:
            rows = await connection.fetch(statement, *arguments)
        finally:
            await connection.reset_type_codec("timestamptz", schema="pg_catalog")
    return rows


def _encode(moment: datetime) -> tuple[int]:
    return ((moment - _EPOCH) // timedelta(microseconds=1),)


def _decode(value: tuple[int]) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=value[0])
    except OverflowError:
        return _FIRST if value[0] < 0 else _LAST
