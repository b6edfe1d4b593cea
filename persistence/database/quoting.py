"""SQL as it stands in a file, and the one way an identifier that varies gets into it."""

from sqlalchemy import TextClause, text


def quote(identifier: str) -> str:
    """An identifier, quoted."""
    return '"' + identifier.replace('"', '""') + '"'


def naming(statement: str, **identifiers: str) -> str:
    """A statement in which ``{name}`` stands for a quoted identifier."""
    for placeholder, identifier in identifiers.items():
        statement = statement.replace("{" + placeholder + "}", quote(identifier))
    return statement


def verbatim(statement: str) -> TextClause:
    """A statement that is taken as it stands: a colon is a colon, a backslash a backslash."""
    return text(statement.replace(":", "\\:"))
