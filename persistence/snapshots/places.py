"""Who may do what with a tenant's snapshots at one moment, across processes; and how many of them one process takes at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from uuid import UUID
from weakref import WeakKeyDictionary

import asyncpg

from persistence.database.failures import DATABASE_ERRORS, translated
from persistence.errors import Conflict
from persistence.plane import Plane

_AT_ONCE: Final = 4
_PATIENCE: Final = 10.0
_PAUSE: Final = 0.1
_places: WeakKeyDictionary[Plane, asyncio.Semaphore] = WeakKeyDictionary()

# Many may read and take snapshots of a tenant while nobody deletes any; of one subject one is taken at a time. Nobody waits in the server for any of
# these: one who gives up waiting there would keep its place in the queue, before others.
_SHARE = "SELECT pg_try_advisory_lock_shared(hashtextextended($1, 7003))"
_ALONE = "SELECT pg_try_advisory_lock(hashtextextended($1, 7003))"
_ONE = "SELECT pg_try_advisory_lock(hashtextextended($1, 7004))"


class Held:
    """Locks that are held as long as their connection is."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def check(self) -> None:
        """Raises Conflict where the connection, and the locks with it, is lost."""
        try:
            await self._connection.fetchval("SELECT 1")
        except DATABASE_ERRORS as error:
            raise Conflict("the connection that kept others away was lost", hint="try again") from error


@asynccontextmanager
async def taking(plane: Plane, tenant_id: UUID, of: str, *, is_reading: bool = False) -> AsyncIterator[Held]:
    """One is taken: of: what it is of. Few at once in a process; who comes later waits. is_reading: none can be deleted already.

    Raises Conflict where the same is being taken elsewhere, or where deleting takes too long.
    """
    async with _locked(plane, tenant_id, None if is_reading else _SHARE) as connection:
        if not await connection.fetchval(_ONE, f"{tenant_id} {of}"):
            raise Conflict(f"a snapshot of {of} is being taken already", hint="wait for it")
        yield Held(connection)


@asynccontextmanager
async def reading(plane: Plane, tenant_id: UUID) -> AsyncIterator[None]:
    """None of the tenant's is deleted meanwhile. Few at once in a process. Raises Conflict where deleting takes too long."""
    async with _locked(plane, tenant_id, _SHARE):
        yield


@asynccontextmanager
async def deleting(plane: Plane, tenant_id: UUID) -> AsyncIterator[None]:
    """None of the tenant's is taken or read meanwhile. Raises Conflict where that takes too long."""
    async with _locked(plane, tenant_id, _ALONE):
        yield


@asynccontextmanager
async def _locked(plane: Plane, tenant_id: UUID, statement: str | None) -> AsyncIterator[asyncpg.Connection]:
    """Tries for a place and the lock, and gives both back in between: who waits for a tenant's lock is in nobody else's way."""
    places = _places.setdefault(plane, asyncio.Semaphore(_AT_ONCE))
    until = None
    while True:
        async with AsyncExitStack() as stack:
            if statement is not None:  # what is part of a reading has a place already
                await stack.enter_async_context(places)
            connection = await stack.enter_async_context(_connection(plane))
            if statement is None or await connection.fetchval(statement, str(tenant_id)):
                yield connection
                return
        now = asyncio.get_running_loop().time()
        until = until or now + _PATIENCE
        if now >= until:
            raise Conflict("snapshots of this tenant are being taken, read or deleted", hint="try again in a moment")
        await asyncio.sleep(_PAUSE)


@asynccontextmanager
async def _connection(plane: Plane) -> AsyncIterator[asyncpg.Connection]:
    """One past the pool, whose connections what is done meanwhile needs, and past the pooler. Its end gives up the locks."""
    try:
        connection = await asyncpg.connect(plane.server.direct_dsn)
    except DATABASE_ERRORS as error:
        raise translated(error) from error
    try:
        yield connection
    finally:
        connection.terminate()
