"""Scopes: what kind of data something is."""

import re
from typing import Final

from persistence.errors import MalformedData
from persistence.models.base import Model

MAX_SCOPE: Final = 190
"""Characters of a scope: its signal channel has room for no more."""

_SEGMENT: Final = re.compile("[a-z][a-z0-9_]*")


class ParsedScope(Model):
    """A scope's parts. raw: the scope as it was given."""

    source: str
    category: str
    subcategory: str | None = None
    raw: str


def parse_scope(scope: str) -> ParsedScope:
    """The parts of ``source.category[.subcategory]``. Raises MalformedData for anything else."""
    parts = scope.split(".")
    if len(scope) > MAX_SCOPE or len(parts) not in {2, 3} or not all(_SEGMENT.fullmatch(part) for part in parts):
        raise MalformedData(
            f"scope: {scope[:MAX_SCOPE]!r} is none",
            hint="write source.category or source.category.subcategory, each of a-z, 0-9 and _ and beginning with a letter, "
            f"at most {MAX_SCOPE} characters in all",
            field="scope",
        )
    return ParsedScope(source=parts[0], category=parts[1], subcategory=parts[2] if len(parts) == 3 else None, raw=scope)


def scope_to_path_segments(scope: str) -> list[str]:
    """The folders of a scope, from the outermost on. Raises MalformedData for what is no scope."""
    return parse_scope(scope).raw.split(".")
