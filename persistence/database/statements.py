"""Statements of SQLAlchemy's query builder as asyncpg takes them."""

from typing import Any

from sqlalchemy import Select
from sqlalchemy.dialects.postgresql.asyncpg import dialect

_DIALECT = dialect()  # type: ignore[no-untyped-call]


def compiled(query: Select[Any]) -> tuple[str, list[Any]]:
    """The statement with $1, $2 …, and its values in that order."""
    statement: Any = query.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    values = statement.construct_params()
    return str(statement), [values[name] for name in statement.positiontup or ()]


def as_text(query: Select[Any]) -> str:
    """The statement alone."""
    return str(query.compile(dialect=_DIALECT))
