from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.encoding import MAX_DEPTH, check, decode, encode
from persistence.errors import InvalidInput

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00")),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00")), inner)
    ),
)


@given(JSON)
def test_what_passes_the_check_survives(value: Any) -> None:
    check(value, "value")
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    ("value", "place", "problem"),
    [
        ({"a": ["x", "nul\x00"]}, r"data\.a\[1\]", "NUL character at position 3"),
        ({"a": "\ud800"}, r"data\.a", "lone surrogate"),
        ({"k\x00": 1}, r"data\.k", "NUL"),
        ({"a": float("nan")}, r"data\.a", "nan"),
        ([1, float("-inf")], r"data\[1\]", "-inf"),
        ({"a": 2**64}, r"data\.a", "64 bits"),
        ({1: "a"}, "data", "the key 1 is not text"),
        ({"a": object()}, r"data\.a", "object has no JSON form"),
        ({"a": b"bytes"}, r"data\.a", "bytes has no JSON form"),
    ],
)
def test_what_postgresql_cannot_hold_is_refused_by_the_name_of_its_field(value: Any, place: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=f"{place}.*{problem}"):
        check(value, "data")


def test_bottomless_nesting_is_refused() -> None:
    value: list[Any] = []
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(InvalidInput, match="nested deeper"):
        check(value, "data")


def test_ids_and_times_become_text() -> None:
    item = uuid4()
    assert decode(encode({"id": item, "at": datetime(2026, 1, 4, tzinfo=UTC)})) == {
        "id": str(item),
        "at": "2026-01-04T00:00:00+00:00",
    }
