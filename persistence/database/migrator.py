"""Brings a database to a version of the schema and back."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from io import StringIO
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import Connection, TextClause, create_engine, text
from sqlalchemy.exc import DBAPIError

from persistence.database.pinned import connect_pinned
from persistence.database.pool import check_version
from persistence.database.quoting import verbatim
from persistence.errors import PermissionDenied, ServerError
from persistence.resources import resource

if TYPE_CHECKING:
    from alembic.config import Config

_LOCK = "hashtextextended('persistence.migrate', 0)"
LOCK_TIMEOUT = "10s"


@dataclass(frozen=True)
class SchemaStatus:
    """current, head: revisions; None before the first migration. pending: those still to run, oldest first."""

    current: str | None
    head: str
    pending: tuple[str, ...]

    @property
    def is_current(self) -> bool:
        return self.current == self.head


class Migrator:
    """Migrations of the database that an administrator's DSN names.

    All methods raise ServerError when the server is unreachable or too old, and PermissionDenied when the login may not migrate.
    Two migrators at once wait for each other. A statement that waits for a table lock longer than ten seconds fails, and its migration with it.
    """

    def __init__(self, admin_dsn: str) -> None:
        self._dsn = admin_dsn

    def up(self, revision: str = "head") -> SchemaStatus:
        """Runs the migrations that are missing, up to ``revision``."""
        with self._connection() as connection:
            _alembic("command").upgrade(_config(connection), revision)
            status = _status(connection)
            if status.is_current:
                connection.execute(text("RESET ROLE"))
                connection.execute(_bootstrap_statement("vectors"))
                connection.commit()
            return status

    def down(self, revision: str = "-1") -> SchemaStatus:
        """Takes migrations back, down to ``revision`` (``base`` for all)."""
        with self._connection() as connection:
            _alembic("command").downgrade(_config(connection), revision)
            return _status(connection)

    def is_current(self) -> bool:
        """Whether the database has the newest version. Quicker than ``status``."""
        with self._connect() as connection:
            try:
                row = connection.execute("SELECT version_num FROM canon.schema_version").fetchone()
            except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
                return False
        return row is not None and row[0] == head_revision()

    def status(self) -> SchemaStatus:
        with self._connection() as connection:
            return _status(connection)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        engine = create_engine("postgresql+psycopg://", creator=self._connect)
        try:
            with engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            if isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
                raise PermissionDenied(
                    f"the login may not migrate: {_first_line(error.orig)}",
                    hint=error.orig.diag.message_hint or "use a login with CREATEROLE and CREATE on the database",
                ) from error
            raise ServerError(f"migration failed: {str(error.orig).strip()}") from error
        except _alembic("util").CommandError as error:
            raise ServerError(
                f"{error}: this package knows the schema up to {head_revision()}",
                hint="install the version of this package that migrated the database, or a newer one",
            ) from error
        finally:
            engine.dispose()

    def _connect(self) -> psycopg.Connection:
        try:
            connection = connect_pinned(self._dsn, autocommit=False)
        except psycopg.Error as error:
            raise ServerError(f"cannot reach the server: {_first_line(error)}", hint="check PERSISTENCE_ADMIN_DSN") from error
        try:
            check_version(connection.info.server_version // 10_000)
        except ServerError:
            connection.close()
            raise
        return connection


@cache
def head_revision() -> str:
    """The newest schema version that this package knows: migrations are named by theirs, which begin with their time."""
    return max(path.name.partition("_")[0] for path in (resource("migrations") / "versions").glob("[0-9]*_*.py"))


def _alembic(module: str) -> Any:
    """A part of Alembic, which takes a quarter of a second to import: only who migrates waits for it."""
    return import_module(f"alembic.{module}")


def offline_script(revision: str = "head") -> str:
    """The SQL of all migrations up to ``revision``, for somebody else to run. ``A:B`` gives those from A to B, backwards where B is older."""
    buffer = StringIO()
    config = _config(None)
    config.output_buffer = buffer
    if ":" in revision and not revision.startswith(":") and _is_backwards(*revision.split(":", 1)):
        _alembic("command").downgrade(config, revision, sql=True)
    else:
        _alembic("command").upgrade(config, revision, sql=True)
        if revision.rpartition(":")[2] == "head":
            buffer.write(f"RESET ROLE;\n\n{_bootstrap_text('vectors')}")
    return buffer.getvalue()


def _is_backwards(start: str, end: str) -> bool:
    return end == "base" or (end != "head" and start != "base" and end < start)


def bootstrap(connection: Connection) -> None:
    """Makes roles and schemas where they are missing, and takes the lock that lets one migrator at a time go on."""
    connection.execute(text(f"SELECT pg_advisory_lock({_LOCK})"))
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    for statement in bootstrap_statements():
        connection.execute(statement)
    connection.commit()


def bootstrap_statements() -> list[TextClause]:
    """What makes the roles and schemas, each of which may be there already."""
    return [_bootstrap_statement(name) for name in ("roles", "schemas")]


def _bootstrap_statement(name: str) -> TextClause:
    return verbatim(_bootstrap_text(name))


def _bootstrap_text(name: str) -> str:
    return (resource("migrations") / "sql" / "bootstrap" / f"{name}.sql").read_text(encoding="utf-8")


def prepare_session(connection: Connection) -> None:
    """From here on the connection acts as persistence_owner, in its schema."""
    connection.execute(text("SET ROLE persistence_owner"))
    connection.execute(text("SET search_path = persistence, pg_temp"))
    connection.commit()


def _status(connection: Connection) -> SchemaStatus:
    # An administrator who is no superuser owns the schema without being let in.
    if connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = 'persistence_owner' AND pg_has_role(oid, 'SET')")).first():
        connection.execute(text("SET ROLE persistence_owner"))
    context = _alembic("runtime.migration").MigrationContext.configure(
        connection, opts={"version_table": "schema_version", "version_table_schema": "canon"}
    )
    current = context.get_current_revision()
    script = _alembic("script").ScriptDirectory.from_config(_config(None))
    head = head_revision()
    pending = [revision.revision for revision in script.iterate_revisions(head, current)]
    return SchemaStatus(current, head, tuple(reversed(pending)))


def _config(connection: Connection | None) -> "Config":
    config: Config = _alembic("config").Config()
    config.set_main_option("script_location", str(resource("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
