"""Connections in which names mean what PostgreSQL's catalogue says, whatever others have made in schemas that everybody looks into.

Administrators and auditors work in them: a function or operator of somebody else's would run with their rights (CVE-2018-1058).
"""

from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import RowFactory, tuple_row

from persistence.errors import PermissionDenied, PersistenceError, ServerError

PINNED_ERRORS: Final = psycopg.Error
"""What such a connection may raise."""

_PIN: Final[LiteralString] = "SET search_path = pg_catalog, pg_temp"


def connect_pinned(
    dsn: str, *, autocommit: bool = True, row_factory: RowFactory[Any] = tuple_row, options: str | None = None
) -> psycopg.Connection[Any]:
    """A connection whose search_path is PostgreSQL's own. options: as in a DSN. Raises psycopg.Error."""
    connection: psycopg.Connection[Any] = psycopg.connect(
        dsn, autocommit=True, connect_timeout=10, row_factory=row_factory, options=options
    )
    try:
        connection.execute(_PIN)
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


def refused(error: psycopg.Error) -> PersistenceError:
    """What the database said to an administrator or auditor, in this package's words."""
    words = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return PermissionDenied(
            f"the login may not: {words}",
            hint="PERSISTENCE_ADMIN_DSN names one that migrates, PERSISTENCE_AUDIT_DSN one with persistence_auditor, which reads all tenants",
        )
    return ServerError(f"the database refused: {words}")
