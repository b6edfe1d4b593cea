"""The PostgreSQL to work with: the one that the settings name, or the embedded one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from persistence.database.embedded import AUDIT_LOGIN, DATABASE, SERVICE_LOGIN, EmbeddedServer
from persistence.database.migrator import Migrator
from persistence.database.pinned import connect_pinned
from persistence.errors import ConfigurationError
from persistence.settings import Settings

_ROLES = {SERVICE_LOGIN: ("persistence_app", "persistence_worker", "persistence_operator"), AUDIT_LOGIN: ("persistence_auditor",)}


@dataclass(frozen=True)
class Server:
    """The DSNs of one server.

    dsn: for services and workers, an ordinary role. admin_dsn: for migrations, where known. audit_dsn: reads all tenants, for gates and replay.
    direct_dsn: past the pooler, for LISTEN.
    """

    dsn: str
    admin_dsn: str | None
    audit_dsn: str
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
        auditing = (settings.audit_dsn or admin_dsn or dsn).get_secret_value()  # type: ignore[union-attr]
        yield Server(named, admin_dsn.get_secret_value() if admin_dsn else None, auditing, direct, is_embedded=False)
        return
    embedded = EmbeddedServer(settings.data_dir, wal_archive=settings.wal_archive)
    await asyncio.to_thread(embedded.__enter__)
    try:
        await asyncio.to_thread(_prepare, embedded, migrate=migrate)
        auditing = embedded.dsn(AUDIT_LOGIN, DATABASE)
        yield Server(embedded.service_dsn, embedded.admin_dsn, auditing, embedded.service_dsn, is_embedded=True)
    finally:
        await asyncio.to_thread(embedded.__exit__, None, None, None)


def _prepare(embedded: EmbeddedServer, *, migrate: bool) -> None:
    """Sees to it that the embedded server has the database and the ordinary login that services use."""
    create_database(embedded.dsn("postgres", "postgres"), DATABASE)
    if migrate:
        migrator = Migrator(embedded.admin_dsn)
        if not migrator.is_current():
            migrator.up()
        create_logins(embedded.admin_dsn)
        _let_make_tables(embedded.admin_dsn)


def _let_make_tables(admin_dsn: str) -> None:
    """Lets services keep tables of their own beside the plane's, so that their rows and effects commit together: in a schema called as their
    login, where PostgreSQL looks by default for that login and for nobody else.
    """
    with connect_pinned(admin_dsn) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {0} AUTHORIZATION {0}").format(sql.Identifier(SERVICE_LOGIN)))


def create_database(admin_dsn: str, name: str) -> None:
    """Creates a database where it is missing."""
    with connect_pinned(admin_dsn) as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            with contextlib.suppress(psycopg.errors.UniqueViolation, psycopg.errors.DuplicateDatabase):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def create_logins(admin_dsn: str) -> None:
    """Creates two ordinary logins, no superusers and owners of nothing: one for services, workers and operators, and one for auditors.

    They are two because an auditor sees all tenants: a service's login must not.
    """
    with connect_pinned(admin_dsn) as connection:
        for login, roles in _ROLES.items():
            if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (login,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(login)))
            for role in roles:
                connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(login)))
