"""Scopes, envelopes, times, JSON as text, rules: what data files are made of."""

import errno
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from persistence.errors import ConfigurationError, MalformedData, NotFound
from persistence.ingest import (
    DataFileEnvelope,
    IngestResponse,
    create_data_file_envelope,
    parse_scope,
    scope_to_path_segments,
)
from persistence.ingest.hierarchy import mapped
from persistence.ingest.paths import (
    Stamps,
    build_data_file_path,
    build_scope_dir,
    filename_to_timestamp,
    generate_collected_at,
    timestamp_to_filename,
)
from persistence.ingest.rules import RuleFile
from persistence.ingest.text import check_object, part_of

STAMP = "2026-01-21T10:00:00Z"


# Scopes


def test_a_scope_of_two_parts() -> None:
    assert parse_scope("instagram.profile").model_dump() == {
        "source": "instagram",
        "category": "profile",
        "subcategory": None,
        "raw": "instagram.profile",
    }


def test_a_scope_of_three_parts() -> None:
    assert parse_scope("chatgpt.conversations.shared").subcategory == "shared"


def test_underscores_are_allowed() -> None:
    assert parse_scope("youtube.watch_history").category == "watch_history"


@pytest.mark.parametrize(
    "scope",
    [
        "a", "a.b.c.d", "Instagram.Profile", "123.abc",
        "", ".", "a.", ".b", "a..b", "a.b\n", "a.b/../c", "a/b.c", "a.b\0", "ä.b", "a.é", "a.b ", "a.-b", "a.b.", "a." + "b" * 200,
    ],
)  # fmt: skip
def test_what_is_no_scope_is_refused_by_name(scope: str) -> None:
    with pytest.raises(MalformedData, match="scope:"):
        parse_scope(scope)


def test_a_scopes_folders() -> None:
    assert scope_to_path_segments("chatgpt.conversations.shared") == ["chatgpt", "conversations", "shared"]


# Envelopes

VALID = {"version": "1.0", "scope": "instagram.profile", "collectedAt": STAMP, "data": {"name": "ada"}}


def test_a_valid_envelope() -> None:
    assert DataFileEnvelope.model_validate(VALID).data == {"name": "ada"}


@pytest.mark.parametrize(
    "wrong", [{"version": "2.0"}, {"collectedAt": "not-a-date"}, {"collectedAt": "2026-02-30T10:00:00Z"}, {"data": []}]
)
def test_a_wrong_envelope(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DataFileEnvelope.model_validate({**VALID, **wrong})


def test_making_an_envelope() -> None:
    made = create_data_file_envelope("instagram.profile", STAMP, {"name": "ada"})
    assert made.model_dump(by_alias=True) == VALID


def test_an_answer() -> None:
    answer = IngestResponse.model_validate({"scope": "instagram.profile", "collectedAt": STAMP, "status": "stored"})
    assert answer.status == "stored"
    with pytest.raises(ValidationError):
        IngestResponse.model_validate({"scope": "instagram.profile", "collectedAt": STAMP, "status": "lost"})


# Paths and times


def test_times_and_names() -> None:
    assert timestamp_to_filename(STAMP) == "2026-01-21T10-00-00Z"
    assert filename_to_timestamp("2026-01-21T10-00-00Z") == STAMP


@given(st.datetimes(), st.booleans())
def test_a_name_leads_back_to_its_time(moment: Any, whole: bool) -> None:
    text = f"{moment:%Y-%m-%dT%H:%M:%S}" if whole else f"{moment:%Y-%m-%dT%H:%M:%S.%f}"
    text = text.rjust(len("0001-01-01T00:00:00") + (0 if whole else 7), "0") + "Z"
    assert filename_to_timestamp(timestamp_to_filename(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "latest",
        "../../etc/passwd",
        "2026-01-21T10:00:00",
        "2026-01-21T10:00-00Z",
        "2026-01-21T10:00:00Z\n",
        "2026-01-21T25:00:00Z",
    ],
)
def test_what_is_no_time_names_no_file(text: str) -> None:
    for read in (timestamp_to_filename, filename_to_timestamp):
        with pytest.raises(MalformedData):
            read(text)


def test_the_place_of_a_file() -> None:
    assert build_data_file_path("/data", "instagram.profile", STAMP) == Path("/data/instagram/profile/2026-01-21T10-00-00Z.json")
    assert build_data_file_path("/data", "chatgpt.conversations.shared", STAMP).parts[2:5] == ("chatgpt", "conversations", "shared")
    assert build_scope_dir("/data", "instagram.profile") == Path("/data/instagram/profile")


def test_this_moment() -> None:
    now = generate_collected_at()
    assert "." not in now
    assert timestamp_to_filename(now).endswith("Z")


@given(st.lists(st.tuples(st.integers(-3_000_000, 3_000_000), st.sampled_from("ab")), max_size=60))
def test_times_of_collection_are_distinct_and_in_order_whatever_the_clock_does(moves: list[tuple[int, str]]) -> None:
    now = [1_768_989_600_000_000]

    def clock() -> int:
        return now[0] * 1000

    stamps = Stamps(clock)
    seen: list[tuple[str, str]] = []
    for move, series in moves:
        now[0] += move
        seen.append((series, stamps.next(series)))
    for series in "ab":
        times = [stamp for name, stamp in seen if name == series]
        keys = [stamp.removesuffix("Z") for stamp in times]
        assert keys == sorted(set(keys))
        seconds = [key[:19] for key in keys]
        assert all(("." not in key) == (seconds.index(key[:19]) == index) for index, key in enumerate(keys))


# JSON as text


def accepted(check: Callable[[bytes], object], text: bytes) -> bool:
    try:
        check(text)
    except (MalformedData, orjson.JSONDecodeError):
        return False
    return True


def as_object(text: bytes) -> None:
    if not isinstance(orjson.loads(text), dict):
        raise MalformedData("no object")


BEYOND_FLOATS = re.compile(rb"[eE][+]?\d{3}|\d{300}")
DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), children, max_size=4)
    ),
    max_leaves=20,
)


@given(DOCUMENTS, st.booleans(), st.integers(0, 400), st.binary(max_size=3), st.integers(0, 2))
def test_exactly_json_objects_are_taken(document: Any, ascii_only: bool, place: int, noise: bytes, cut: int) -> None:
    """The same texts as another reader of JSON takes, whole or with some bytes exchanged."""
    text = json.dumps(document, ensure_ascii=ascii_only).encode()
    place = min(place, len(text))
    for candidate in (text, text[:place] + noise + text[place + cut :]):
        assume(not BEYOND_FLOATS.search(candidate))  # numbers that JSON has and floats have not
        assert accepted(check_object, candidate) == accepted(as_object, candidate), candidate


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "no JSON"), (b"{", "no JSON"), (b'{"a":1} {"b":2}', "no JSON"), (b"[1]", "no object"), (b'"text"', "no object"), (b"null", "no object"),
        (b'{"a":NaN}', "no JSON"), (b'{"a":"\xff"}', "no JSON"), (b'\xef\xbb\xbf{"a":1}', "no JSON"), (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deep"),
        (b'{"a":1},"scope":"x.y","b":{}', "no JSON"),
    ],
)  # fmt: skip
def test_what_is_no_object_is_refused(text: bytes, said: str) -> None:
    with pytest.raises(MalformedData, match=said):
        check_object(text)


DOCUMENT = b'{"data": {"issue": {"labels": ["bug", {"a/b": 1, "m~n": 2}], "title": "It \\u00e4"}}, "scope": "github.issues"}'


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/data/issue/title", "It ä"), ("/data/issue/labels/0", "bug"), ("/data/issue/labels/1/a~1b", 1), ("/data/issue/labels/1/m~0n", 2),
        ("", orjson.loads(DOCUMENT)), ("/scope", "github.issues"),
    ],
)  # fmt: skip
def test_a_part_of_a_text(pointer: str, value: Any) -> None:
    assert part_of(DOCUMENT, pointer) == value
    with tempfile.TemporaryFile() as file:
        file.write(DOCUMENT)
        file.flush()
        assert part_of(mapped(file.fileno()), pointer) == value


@pytest.mark.parametrize(
    "pointer",
    ["/nothing", "/data/issue/labels/2", "/data/issue/labels/-1", "/data/issue/labels/00", "/scope/x", "/data/issue/title/0"],
)
def test_a_part_that_is_not_there(pointer: str) -> None:
    with pytest.raises(NotFound, match="nothing at"):
        part_of(DOCUMENT, pointer)


# Rules

RULES = """
data:github.issues:
  run: triage
  effects:
    - type: LOG
      spec: {title: {$from: /data/issue/title}, list: [{$from: /scope}]}
data:github.*:
  run: archive
data:chat.logs.*:
  run: chat
"""


def rules(tmp_path: Path, text: str) -> Any:
    place = RuleFile(tmp_path)
    place.replace(text)
    return place.rules()


@pytest.mark.parametrize(
    ("scope", "run"),
    [
        ("github.issues", "triage"),
        ("github.push", "archive"),
        ("github.issues.opened", "archive"),
        ("chat.logs.old", "chat"),
        ("chat.logs", None),
        ("web.form", None),
    ],
)
def test_the_first_rule_that_fits(tmp_path: Path, scope: str, run: str | None) -> None:
    found = rules(tmp_path, RULES).rule_for(scope)
    assert (found[1].run if found else None) == run


def test_a_rule_takes_parts_of_the_data(tmp_path: Path) -> None:
    _, rule = rules(tmp_path, RULES).rule_for("github.issues")
    assert rule.specs(DOCUMENT) == [{"title": "It ä", "list": ["github.issues"]}]
    with pytest.raises(NotFound):
        rule.specs(b'{"data":{}}')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "holds no rules"), ("", "holds no rules"), ("false", "holds no rules"), ("data:*: {run: a}\ndata:*: {run: b}", "comes twice"),
        ("data:a.b: &a {run: x}\ndata:c.d: *a", "aliases are not for rules"), ("data:*: {run: 2020-99-99}", "no YAML"), ("[" * 5000, "no YAML"),
        ("data:*: {run: x} #" + "x" * 1_100_000, "more than"),
        ("github.issues: {run: x}", "begin with data:"), ("data:Github.x: {run: x}", "scope:"), ("data:a.b: {}", "run"),
        ("data:a.b: {run: x, efects: []}", "efects"), ("data:a.b: {run: x, effects: [{type: T, spec: {$from: data}}]}", "JSON Pointer"), ("a: [", "no YAML"),
        ("data:a.b: {run: x, effects: [{type: T, priority: 101}]}", "priority"), ("data:*.b: {run: x}", "scope:"),
    ],
)  # fmt: skip
def test_a_rule_file_that_is_wrong_says_where(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        rules(tmp_path, text)


def test_rules_that_are_wrong_do_not_take_the_place_of_those_that_hold(tmp_path: Path) -> None:
    rules(tmp_path, RULES)
    with pytest.raises(ConfigurationError):
        rules(tmp_path, "a: [")
    assert RuleFile(tmp_path).text() == RULES
    assert [path.name for path in tmp_path.iterdir()] == ["rules.yaml"]


def test_rules_are_read_anew_when_they_change(tmp_path: Path) -> None:
    place, other = RuleFile(tmp_path / "data"), RuleFile(tmp_path / "data")
    assert place.rules().rule_for("github.issues") is None
    other.replace("data:*: {run: one}")
    assert place.rules().rule_for("github.issues")[1].run == "one"  # type: ignore[index]
    other.replace("data:*: {run: two}")
    assert place.rules().rule_for("github.issues")[1].run == "two"  # type: ignore[index]
    place.path.write_text("data:*: {run: ")  # by hand
    with pytest.raises(ConfigurationError, match="no YAML"):
        place.rules()
    place.path.unlink()
    place.path.mkdir()
    with pytest.raises(ConfigurationError, match="is no file|" + os.strerror(errno.EISDIR)):
        place.rules()
    place.path.rmdir()
    place.path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="leads nowhere"):
        place.rules()
    place.path.unlink()
    os.mkfifo(place.path)
    with pytest.raises(ConfigurationError, match="is no file"):
        place.rules()
    other.replace(None)
    assert place.rules().root == {}
