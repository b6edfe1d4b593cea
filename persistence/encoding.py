"""JSON that PostgreSQL can keep: what jsonb cannot hold is refused here, by the name of its field."""

import math
import re
from datetime import date, datetime
from typing import Any
from uuid import UUID

import orjson

from persistence.errors import InvalidInput

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
MAX_DEPTH = 200
"""Nesting beyond this is refused: PostgreSQL's own stack depth limit is not far off."""


def encode(value: Any) -> str:
    """Serialises to JSON text. Raises InvalidInput for what JSON cannot express."""
    return encode_bytes(value).decode()


def encode_bytes(value: Any) -> bytes:
    """As encode, in UTF-8."""
    try:
        return orjson.dumps(value, default=_uuid_text)
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise InvalidInput(f"cannot be written as JSON: {error}") from error


def _uuid_text(value: Any) -> str:
    # The driver's UUIDs are a subclass, which orjson does not take for one.
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def decode(text: str | bytes | None) -> Any:
    """Reads JSON text; None stays None."""
    return None if text is None else orjson.loads(text)


def decode_stored(text: str | None) -> Any:
    """Reads JSON text of a row. What cannot be read (it was written past the plane) becomes ``{"unreadable": why, "text": its beginning}``, so
    that it does not hide the rows beside it.
    """
    try:
        return decode(text)
    except orjson.JSONDecodeError as error:
        return {"unreadable": str(error), "text": str(text)[:1000]}


def check(value: Any, field: str) -> None:
    """Refuses what jsonb cannot hold, naming the place below ``field``.

    That is NUL characters and lone surrogates in text, NaN and infinities, integers beyond 64 bits, keys that are not text,
    nesting deeper than MAX_DEPTH, and types that have no JSON form.
    """
    todo: list[tuple[Any, str, int]] = [(value, field, 0)]
    while todo:
        item, place, depth = todo.pop()
        if item is None or item is True or item is False:
            continue
        kind = type(item)
        if kind is str:
            _check_text(item, place)
        elif kind is int:
            if not -(2**63) <= item < 2**64:
                raise InvalidInput(f"{place}: the integer exceeds 64 bits", hint="write it as text", field=place)
        elif kind is float:
            if not math.isfinite(item):
                raise InvalidInput(f"{place}: {item} has no JSON form", hint="leave it out, or write null", field=place)
        elif kind is dict or kind is list or kind is tuple:
            if depth >= MAX_DEPTH:
                raise InvalidInput(f"{place}: nested deeper than {MAX_DEPTH}", hint="flatten it", field=place)
            if kind is dict:
                for key, child in item.items():
                    if type(key) is not str:
                        raise InvalidInput(f"{place}: the key {key!r} is not text", hint="JSON keys are text", field=place)
                    _check_text(key, f"{place}.{key}")
                    todo.append((child, f"{place}.{key}", depth + 1))
            else:
                todo.extend((child, f"{place}[{index}]", depth + 1) for index, child in enumerate(item))
        elif not isinstance(item, UUID | datetime | date):
            raise InvalidInput(
                f"{place}: {kind.__name__} has no JSON form", hint="use text, numbers, booleans, null, lists or dicts", field=place
            )


def _check_text(text: str, place: str) -> None:
    if text.isascii() and "\x00" not in text:
        return
    found = _UNSTORABLE.search(text)
    if found:
        name = "a NUL character" if found[0] == "\x00" else "a lone surrogate"
        printable = place.encode("ascii", "backslashreplace").decode()
        raise InvalidInput(
            f"{printable}: {name} at position {found.start()}",
            hint="PostgreSQL text cannot hold it; remove it or encode the value (base64)",
            field=printable,
        )


def xml_text(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold."""
    return _NOT_XML.sub("\ufffd", text)
