"""Connections of services and workers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from persistence.database.failures import is_transient, translated
from persistence.database.signing import proof_of
from persistence.errors import ConfigurationError, ServerError
from persistence.settings import Settings

MINIMUM_SERVER = 16
APPLICATION = "persistence"

# Makes a session as good as new, but for the plans of functions.
_WIPE = """
RESET SESSION AUTHORIZATION;
RESET ALL;
DEALLOCATE ALL;
CLOSE ALL;
UNLISTEN *;
DISCARD TEMP;
SELECT pg_catalog.pg_advisory_unlock_all();
"""

# Enters the tenant for the rest of the transaction, so that row level security lets its rows through.
_ENTER = "SELECT persistence.enter_tenant($1, $2, $3)"

# Whether contexts have to be proven.
_IS_SIGNED = "SELECT persistence.asks_for_proof()"

# The user in whose name services of this installation work.
_SERVICE_USER = "SELECT persistence.service_user()"

# Which schema version the database has.
_SCHEMA_VERSION = "SELECT version_num FROM canon.schema_version"


async def open_pool(dsn: str, settings: Settings) -> asyncpg.Pool:
    """A pool whose sessions have time limits and the schema on their search_path; behind a transaction-mode pooler they have no state at all.

    Raises ServerError when the server is unreachable or too old.
    """
    try:
        return await asyncpg.create_pool(dsn, min_size=settings.pool_min, max_size=settings.pool_max, **_options(settings))
    except Exception as error:
        raise _unreachable(error) from error


async def connect(dsn: str, settings: Settings) -> asyncpg.Connection:
    """One connection with the pool's settings. Raises ServerError."""
    try:
        options = _options(settings)
        options.pop("reset")
        return await asyncpg.connect(dsn, **options)
    except Exception as error:
        raise _unreachable(error) from error


@asynccontextmanager
async def connected(dsn: str, settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """One connection, as ``connect`` makes it, for as long as the block lasts."""
    connection = await connect(dsn, settings)
    try:
        yield connection
    finally:
        await connection.close()


def check_version(major: int) -> None:
    """Raises ServerError when PostgreSQL of this major version is too old."""
    if major < MINIMUM_SERVER:
        raise ServerError(f"PostgreSQL {major} is too old", hint=f"version {MINIMUM_SERVER} or later is needed")


async def check_server(pool: asyncpg.Pool, expected_schema: str) -> None:
    """Raises ServerError unless the server is new enough and migrated to ``expected_schema``."""
    async with pool.acquire() as connection:
        await check_connection(connection, expected_schema)


async def check_connection(connection: Any, expected_schema: str) -> None:
    """The same, of one connection."""
    check_version(connection.get_server_version().major)
    try:
        found = await connection.fetchval(_SCHEMA_VERSION)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        found = None
    except asyncpg.InsufficientPrivilegeError as error:
        raise ServerError(
            "the database is not migrated, or the login has none of the plane's roles",
            hint="run: persistence migrate up; then GRANT persistence_app TO the login",
        ) from error
    if found is None:
        raise ServerError("the database is not migrated", hint="run: persistence migrate up")
    if found != expected_schema:
        raise ServerError(
            f"the database is at schema {found}, this package at {expected_schema}",
            hint="run: persistence migrate up" if found < expected_schema else "install the newer version of this package",
        )


async def service_user(pool: asyncpg.Pool) -> UUID | None:
    """The user in whose name services of this installation work; None for a login that is no operator."""
    async with pool.acquire() as connection:
        try:
            user: UUID = await connection.fetchval(_SERVICE_USER)
        except asyncpg.InsufficientPrivilegeError:
            return None
        except asyncpg.UndefinedFunctionError as error:
            raise translated(error) from error
        return user


async def check_signing(pool: asyncpg.Pool, settings: Settings) -> None:
    """Raises ConfigurationError where contexts are signed, and this process has no secret."""
    async with pool.acquire() as connection:
        if settings.context_secret is None and await connection.fetchval(_IS_SIGNED):
            raise ConfigurationError(
                "contexts are signed in this database: nobody enters a tenant without a proof",
                hint="set PERSISTENCE_CONTEXT_SECRET",
            )


async def enter_tenant(connection: Any, settings: Settings, tenant_id: UUID, user_id: UUID) -> None:
    """Makes a tenant the one that the connection's transaction works for, in the name of a user. Raises what the driver does."""
    await connection.execute(_ENTER, tenant_id, user_id, proof_of(settings, tenant_id, user_id))


def _options(settings: Settings) -> dict[str, Any]:
    is_signed = settings.context_secret is not None
    options: dict[str, Any] = {"timeout": settings.connect_timeout, "reset": _wipe_session if is_signed else _keep_session}
    if is_signed:
        options["statement_cache_size"] = 0  # a statement's name could mean another one by now
    if settings.transaction_pooler:
        return options | {"statement_cache_size": 0}
    session = {"application_name": APPLICATION, "search_path": "persistence", "default_transaction_isolation": "read committed"}
    return options | {"server_settings": {**session, **time_limits(settings)}}


def time_limits(settings: Settings) -> dict[str, str]:
    """The server's settings for the limits, in milliseconds."""
    seconds = {
        "statement_timeout": settings.statement_timeout,
        "lock_timeout": settings.lock_timeout,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout,
    }
    return {name: str(max(1, round(value * 1000))) for name, value in seconds.items()}


async def _keep_session(_: asyncpg.Connection) -> None:
    """Nothing to reset: all that is set is set for one transaction. Saves a round trip each time a connection is given back."""


async def _wipe_session(connection: asyncpg.Connection) -> None:
    """Leaves nothing of what SQL may have left behind for whoever comes next: settings, statements, tables, locks, cursors."""
    await connection.execute(_WIPE)


def _unreachable(error: Exception) -> Exception:
    if isinstance(error, ValueError | asyncpg.ClientConfigurationError):
        return ConfigurationError(f"the DSN cannot be read: {error}", hint="postgresql://user:password@host:port/database")
    if isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error):
        return ServerError(
            f"the DSN leads to a pooler that keeps no sessions: {error}",
            hint="set PERSISTENCE_TRANSACTION_POOLER=true, and PERSISTENCE_DIRECT_DSN past it for what has to listen",
        )
    if isinstance(error, asyncpg.PostgresError) or is_transient(error):
        return ServerError(f"cannot reach the server: {error or type(error).__name__}", hint="check PERSISTENCE_DSN")
    return translated(error)
