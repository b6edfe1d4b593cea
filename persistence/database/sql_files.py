"""The SQL files of the migrations as statements.

A file below ``migrations/sql`` is SQL, and three kinds of words in braces:

- ``{table}``: an identifier that whoever applies the file gives.
- ``{lawful_event}``: what ``sql/parts/lawful_event.v1.sql`` says; what several functions have in common stands there once.
- ``{deltas}`` and its like, in functions that apply what events did: such a file is two functions, one over the deltas of a batch and one of a
  single delta d, called as the other with ``_one``.
"""

import re
from functools import cache
from typing import Final

from persistence.database.quoting import quote
from persistence.resources import resource

SQL = resource("migrations") / "sql"

_PLACEHOLDER: Final = re.compile(r"\{(\w+)(?: (\w+))?\}")

_OF_BATCH: Final = {
    "one": "",
    "deltas": "deltas persistence.aggregate_delta[], creations integer, changes integer",
    "these": "deltas, creations, changes",
    "all": "deltas",
    "some_begin": "creations > 0",
    "how_many_begin": "creations",
    "those_that_begin": "FROM unnest(deltas) AS d WHERE d.aggregate_type = '{kind}' AND d.first_version = 1",
    "unless_there": "",
    "some_go_on": "changes > 0",
    "how_many_go_on": "changes",
    "those_that_go_on": "FROM unnest(deltas) AS d WHERE d.aggregate_type = '{kind}' AND d.first_version > 1",
}
_OF_ONE: Final = {
    "one": "_one",
    "deltas": "d persistence.aggregate_delta",
    "these": "d",
    "all": "ARRAY[d]",
    "some_begin": "d.first_version = 1",
    "how_many_begin": "1",
    "those_that_begin": "WHERE true",
    "unless_there": "ON CONFLICT DO NOTHING",
    "some_go_on": "d.first_version > 1",
    "how_many_go_on": "1",
    "those_that_go_on": "WHERE true",
}


def read(path: str, **names: str) -> str:
    """What a file below ``sql/`` says, with its placeholders filled in. A word in braces that is none of them stays."""
    text = (SQL / path).read_text(encoding="utf-8")
    if "{deltas}" not in text:
        return _filled(text, names)
    return "\n".join(_filled(text, {**form, **names}) for form in (_OF_BATCH, _OF_ONE))


def _filled(text: str, words: dict[str, str]) -> str:
    def fill(found: re.Match[str]) -> str:
        name, kind = found.groups()
        if name in _OF_BATCH and name in words:
            return words[name].replace("{kind}", kind or "")
        if name in words:
            return quote(words[name])
        return _parts().get(name, found[0])

    return _PLACEHOLDER.sub(fill, text)


@cache
def _parts() -> dict[str, str]:
    parts = {}
    for path in (SQL / "parts").glob("*.v1.sql"):
        lines = path.read_text(encoding="utf-8").splitlines()
        parts[path.name.split(".")[0]] = "\n".join(line for line in lines if not line.startswith("--"))
    return parts
