"""JSON as text: whether it is an object, and single parts of it, without making objects of the whole."""

import codecs
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson

from persistence.errors import InvalidInput, MalformedData, NotFound
from persistence.models.base import Json

_SLICE: Final = 1024 * 1024
_SHOWN: Final = 64 * 1024
_BLANK: Final = b" \t\r\n"
_INDEX: Final = re.compile("0|[1-9][0-9]*", re.ASCII)

Text = bytes | memoryview


def check_object(text: Text, field: str = "body") -> None:
    """Raises MalformedData for what is not one JSON object in UTF-8 (RFC 8259). Takes no memory of its own, however large the text."""
    hint = 'send one JSON object, such as {"hello": "world"}'
    try:
        _check_encoding(text)
        msgspec.json.decode(text, type=msgspec.Raw)
    except RecursionError:
        raise MalformedData(f"{field}: nested too deeply", hint="flatten it", field=field) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedData(f"{field}: is no JSON: {error}", hint=hint, field=field) from error
    if bytes(text[:_SLICE]).lstrip(_BLANK)[:1] != b"{":
        raise MalformedData(f"{field}: is JSON, but no object", hint=hint, field=field)


def _check_encoding(text: Text) -> None:
    # The scanner looks at structure only.
    decoder = codecs.getincrementaldecoder("utf-8")()
    for begin in range(0, len(text), _SLICE):
        decoder.decode(text[begin : begin + _SLICE])
    decoder.decode(b"", final=True)


def written(value: Mapping[str, Json]) -> bytes:
    """A JSON object as text. Integers keep all their digits. Raises InvalidInput for what JSON cannot express."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"data: cannot be written as JSON: {error}", field="data") from error


def part_of(text: Text, pointer: str) -> Any:
    """The value that a JSON Pointer (RFC 6901) names; only what lies on the way is read. Raises NotFound, MalformedData."""
    here: Any = text
    for token in pointer.split("/")[1:]:
        try:
            here = memoryview(_child(here, token.replace("~1", "/").replace("~0", "~")))
        except (KeyError, IndexError, msgspec.DecodeError):
            raise NotFound(f"there is nothing at {pointer!r}") from None
    try:
        return json.loads(bytes(here))
    except (ValueError, RecursionError) as error:
        raise MalformedData(f"what is at {pointer!r} cannot be read: {error}") from error


def member(text: Text, name: str) -> memoryview:
    """A member of an object, as the text that it is. Raises KeyError."""
    return memoryview(_child(text, name))


def _child(text: Text, token: str) -> msgspec.Raw:
    if bytes(text[:_SLICE]).lstrip(_BLANK)[:1] != b"[":
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])[token]
    if not _INDEX.fullmatch(token):
        raise KeyError(token)
    return msgspec.json.decode(text, type=list[msgspec.Raw])[int(token)]


@dataclass(frozen=True)
class Preview:
    """The beginning of a file, for people. rest: bytes that are not shown."""

    text: str
    rest: int


def preview(file: int) -> Preview:
    """The beginning of an open file; a small one laid out."""
    size = os.fstat(file).st_size
    begun = os.pread(file, _SHOWN, 0)
    if size <= len(begun):
        with suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):
            begun = orjson.dumps(orjson.loads(begun), option=orjson.OPT_INDENT_2)
    return Preview(begun.decode(errors="ignore"), max(0, size - _SHOWN))
