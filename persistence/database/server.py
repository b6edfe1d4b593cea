"""The PostgreSQL to work with: the one that the settings name, or the embedded one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from persistence.database.embedded import DATABASE, SERVICE_LOGIN, EmbeddedServer
from persistence.database.migrator import Migrator
from persistence.errors import ConfigurationError
from persistence.settings import Settings

_ROLES = ("persistence_app", "persistence_worker", "persistence_operator", "persistence_auditor")


@dataclass(frozen=True)
class Server:
    """dsn: for services and workers, an ordinary role; admin_dsn: for migrations, where known; direct_dsn: past the pooler, for LISTEN."""

    dsn: str
    admin_dsn: str | None
    direct_dsn: str
    is_embedded: bool

    @property
    def for_administration(self) -> str:
        """Raises ConfigurationError when no administrator's DSN is known."""
        if self.admin_dsn is None:
            raise ConfigurationError(
                "PERSISTENCE_ADMIN_DSN is not set", hint="it names the login that owns or may create the schema"
            )
        return self.admin_dsn


@asynccontextmanager
async def open_server(settings: Settings, *, migrate: bool = True) -> AsyncIterator[Server]:
    """The server, for as long as the block lasts. The embedded one is started, and migrated unless told otherwise.

    Raises ServerError.
    """
    dsn, admin_dsn = settings.dsn, settings.admin_dsn
    if dsn or admin_dsn:
        named = (dsn or admin_dsn).get_secret_value()  # type: ignore[union-attr]
        direct = settings.direct_dsn.get_secret_value() if settings.direct_dsn else named
        yield Server(named, admin_dsn.get_secret_value() if admin_dsn else None, direct, is_embedded=False)
        return
    embedded = EmbeddedServer(settings.data_dir)
    await asyncio.to_thread(embedded.__enter__)
    try:
        await asyncio.to_thread(_prepare, embedded, migrate=migrate)
        yield Server(embedded.service_dsn, embedded.admin_dsn, embedded.service_dsn, is_embedded=True)
    finally:
        await asyncio.to_thread(embedded.__exit__, None, None, None)


def _prepare(embedded: EmbeddedServer, *, migrate: bool) -> None:
    """Sees to it that the embedded server has the database and the ordinary login that services use."""
    create_database(embedded.dsn("postgres", "postgres"), DATABASE)
    if migrate:
        migrator = Migrator(embedded.admin_dsn)
        if not migrator.status().is_current:
            migrator.up()
        create_login(embedded.admin_dsn, SERVICE_LOGIN)


def create_database(admin_dsn: str, name: str) -> None:
    """Creates a database where it is missing."""
    with psycopg.connect(admin_dsn, autocommit=True) as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            with contextlib.suppress(psycopg.errors.UniqueViolation, psycopg.errors.DuplicateDatabase):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def create_login(admin_dsn: str, name: str) -> None:
    """Creates an ordinary login that may do what services, workers, operators and auditors may. It is no superuser and owns nothing."""
    with psycopg.connect(admin_dsn, autocommit=True) as connection:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (name,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        for role in _ROLES:
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(name)))
