"""What migrations are written with: SQL files applied by name, and the reference data of the canon.

A function, policy, trigger or view is one file, `sql/<kind>/<name>.v<N>.sql`. A later version is a new file beside the old one, so that
its migration goes forward with one and back with the other.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import op

from persistence.canon import CANON, Canon
from persistence.database.quoting import naming, verbatim
from persistence.database.sql_files import read
from persistence.encoding import encode


def execute(sql: str) -> None:
    """Runs SQL as it stands, online or into an offline script."""
    op.execute(verbatim(sql))


def apply(path: str, **names: str) -> None:
    """Runs one file below sql/: see sql_files."""
    execute(read(path, **names))


@contextmanager
def as_system() -> Iterator[None]:
    """What is made inside belongs to persistence_system, which is lent the right to create for as long."""
    execute("GRANT CREATE ON SCHEMA persistence TO persistence_system")
    execute("GRANT USAGE ON SCHEMA persistence, canon TO persistence_system")
    execute("SET ROLE persistence_system")
    yield
    execute("SET ROLE persistence_owner")
    execute("REVOKE CREATE ON SCHEMA persistence FROM persistence_system")


def load_canon(canon: Canon = CANON) -> None:
    """Makes the tables of schema canon say what the files of canon/ say."""
    reference = canon.reference_rows()
    for table in reversed(reference):
        execute(naming("DELETE FROM canon.{table}", table=table))
    for table, rows in reference.items():
        document = encode(rows).replace("'", "''")
        execute(
            naming("INSERT INTO canon.{table} SELECT * FROM jsonb_populate_recordset(NULL::canon.{table}, '", table=table)
            + document
            + "')"
        )


def drop_schema_objects() -> None:
    """The way back to nothing: drops all that the migrations made, and keeps roles, schemas and the version table."""
    apply("bootstrap/drop_all.sql")
