"""Members of a snapshot, line by line: JSON as PostgreSQL wrote it, which this process need not be able to read."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import orjson

# PostgreSQL writes the shortest key first.
_ID: Final = re.compile(rb'\{"id": ?"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"')
# Numbers that may not be what they are as 64 bits.
_LONG: Final = re.compile(r"[0-9]{16}|[0-9][eE]|\.[0-9]{10}")
_SHOWN: Final = 1000


def split(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The lines of a member, each with the id that it begins with. Raises ValueError for a line without one."""
    for line in content.split(b"\n"):
        if line:
            yield str(id_of(line)), line


def id_of(line: bytes) -> UUID:
    """The id that a line begins with. Raises ValueError."""
    found = _ID.match(line)
    if found is None:
        raise ValueError(f"a line begins with {line[:60]!r}, not with an id")
    return UUID(found[1].decode())


def parsed(text: str | bytes) -> Any:
    """What a line says, to be shown: what cannot be read here becomes ``{"unreadable": why, "text": its beginning}``."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return {"unreadable": str(error), "text": (text if isinstance(text, str) else text.decode("utf-8", "replace"))[:_SHOWN]}


def exactly(text: str) -> Any:
    """What JSON says, to be written again. Raises ValueError where that would not be the same."""
    said = orjson.loads(text)
    try:
        if _LONG.search(text) and not _same(json.loads(text, parse_float=Decimal), said):
            raise ValueError("it holds a number that would be written otherwise")
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return said


def _same(exact: Any, said: Any) -> bool:
    if isinstance(exact, dict):
        return isinstance(said, dict) and exact.keys() == said.keys() and all(_same(exact[key], said[key]) for key in exact)
    if isinstance(exact, list):
        return isinstance(said, list) and len(exact) == len(said) and all(map(_same, exact, said))
    if isinstance(exact, Decimal):
        return isinstance(said, float) and Decimal(repr(said)) == exact
    if isinstance(exact, int) and not isinstance(exact, bool):
        return isinstance(said, int) and said == exact
    return bool(exact == said)
