"""The one way an identifier that varies gets into SQL."""


def quote(identifier: str) -> str:
    """An identifier, quoted."""
    return '"' + identifier.replace('"', '""') + '"'


def naming(statement: str, **identifiers: str) -> str:
    """A statement in which ``{name}`` stands for a quoted identifier."""
    for placeholder, identifier in identifiers.items():
        statement = statement.replace("{" + placeholder + "}", quote(identifier))
    return statement
