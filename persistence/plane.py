"""What services hold in their hands."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack
from uuid import UUID

import asyncpg
from pydantic import SecretStr
from sqlalchemy import text
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from persistence.context import Context
from persistence.database.appending import Appender, Receiver, Reception, Rows
from persistence.database.migrator import head_revision
from persistence.database.pool import check_server, open_pool, service_user
from persistence.database.retry import fetched, retried
from persistence.database.server import Server, open_server
from persistence.database.signing import proof_of
from persistence.database.wake import FLOWS, Bell
from persistence.dead_letters import DeadLetters
from persistence.errors import ConfigurationError, Conflict, InvalidInput, PersistenceError, first_problem
from persistence.flows.client import FlowClient
from persistence.limits import Limits
from persistence.models import Channel, Json, LivePosition, NewSignal, Signal
from persistence.repositories.signals import documents, received
from persistence.repositories.streams import PUBLISH, publication
from persistence.secrets import RecordedVault, Secrets, Subjects, open_vault
from persistence.settings import Overrides, Settings
from persistence.telemetry import watch_pool
from persistence.tenants import TenantAdministration
from persistence.tokens import Tokens
from persistence.transaction import BoundTransaction, Snapshot, Transaction

T = TypeVar("T")


class Plane:
    """The persistence plane of one database.

    Use it as ``async with Plane("postgresql://…") as plane``, or call ``open`` and ``close``. Without a DSN, from the arguments or the
    environment, it brings the embedded server with it. One plane serves a whole process; it is safe to share among tasks of one event loop.
    """

    def __init__(
        self, dsn: str | SecretStr | None = None, *, settings: Settings | None = None, **overrides: Unpack[Overrides]
    ) -> None:
        """dsn: of a login for services and workers; none: that of the settings. settings: none: those of the environment. overrides: fields of
        Settings. Raises ConfigurationError for one that is wrong, or that there is not.
        """
        given: dict[str, Any] = {**overrides, **({} if dsn is None else {"dsn": dsn})}
        self.settings = settings_with(settings, given)
        self._resources = AsyncExitStack()
        self._pool: asyncpg.Pool | None = None
        self._server: Server | None = None
        self._bell: Bell | None = None
        self._flow_bell: Bell | None = None
        self._flows: FlowClient | None = None
        self._appender: Appender | None = None
        self._receiver: Receiver | None = None
        self._vault: RecordedVault | None = None

    async def open(self) -> Self:
        """Connects. Raises ServerError when the server is missing, too old, unreachable or not migrated."""
        async with AsyncExitStack() as resources:
            server = await resources.enter_async_context(open_server(self.settings))
            pool = await open_pool(server.dsn, self.settings)
            resources.push_async_callback(_close_pool, pool)
            await check_server(pool, head_revision())
            if self.settings.user_id is None:
                self.settings = settings_with(self.settings, {"user_id": await service_user(pool)})
            watch_pool(pool)
            bell = self._bell = await resources.enter_async_context(Bell(pool))
            self._flow_bell = await resources.enter_async_context(Bell(pool, FLOWS))
            self._server, self._pool = server, pool
            self._appender, self._receiver = Appender(pool, self.settings, bell), Receiver(pool, self.settings)
            self._resources = resources.pop_all()
        return self

    async def close(self) -> None:
        """Waits for what is under way, locks the vault, and disconnects."""
        if self._vault is not None:
            self._vault.vault.lock()
            with suppress(PersistenceError):
                await self._vault.tell()
            self._vault = None
        self._pool = None
        await self._resources.aclose()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    @property
    def server(self) -> Server:
        """The server it is connected to: its DSNs."""
        if self._server is None:
            raise PersistenceError("the plane is not open", hint="use it as: async with Plane(…) as plane")
        return self._server

    @property
    def pool(self) -> asyncpg.Pool:
        if self._pool is None:
            raise PersistenceError("the plane is not open", hint="use it as: async with Plane(…) as plane")
        return self._pool

    @property
    def tenants(self) -> TenantAdministration:
        """Making tenants; the login needs persistence_operator."""
        return TenantAdministration(self.pool, self.settings)

    @property
    def limits(self) -> Limits:
        """How much of the outbox's work tenants and effect types may have; the login needs persistence_operator."""
        return Limits(self.pool, self.settings)

    @property
    def tokens(self) -> Tokens:
        """Access to the HTTP service; to issue and revoke, the login needs persistence_operator."""
        return Tokens(self.pool, self.settings)

    @property
    def flows(self) -> FlowClient:
        """Starting runs of flows, telling them, and what comes of them."""
        if self._flows is None:
            self._flows = FlowClient(self)
        return self._flows

    @property
    def vault(self) -> RecordedVault:
        """The vault of this process, opened when it is needed by what the environment gives. Raises ConfigurationError."""
        if self._vault is None:
            self._vault = RecordedVault(
                open_vault(self.settings), self.pool, self.settings, f"system:{socket.gethostname()[:60]}:{os.getpid()}"
            )
        return self._vault

    @property
    def secrets(self) -> Secrets:
        """Secrets of tenants: sealed by the vault, each reading on the record."""
        return Secrets(self.vault, self.transaction, self._context, self.pool, self.settings)

    @property
    def subjects(self) -> Subjects:
        """Personal data in events, which can be erased."""
        return Subjects(self.vault, self.transaction, self._context, self.pool, self.settings)

    def dead_letters(self, tenant_id: UUID, *, actor: str, user_id: UUID | None = None, source: str = "service") -> DeadLetters:
        """A tenant's dead letters, to requeue or discard; the login needs persistence_operator. Arguments as for ``transaction``."""
        return DeadLetters(self.pool, self.settings, self._context(tenant_id, actor, user_id, source), self.wake)

    def transaction(
        self,
        tenant_id: UUID,
        *,
        actor: str,
        user_id: UUID | None = None,
        source: str = "service",
        correlation_id: UUID | None = None,
        causation_id: UUID | None = None,
    ) -> Transaction:
        """A unit of work for one tenant, to be used with ``async with``.

        actor: who acts, as ``agent:…``, ``user:…``, ``system:…`` or ``external:…``, at most 100 characters.
        user_id: the user in whose name; a member of the tenant; none: the settings'.
        source: the component that writes, such as the service's name; at most 200 characters.
        correlation_id: given to what begins here without a cause of its own; none: a new one each.
        causation_id: the event that caused this transaction, where it is not one of the objects passed in.
        """
        pool = self.pool
        assert self._appender is not None
        context = self._context(tenant_id, actor, user_id, source, correlation_id, causation_id)
        return Transaction(context, self.settings, pool, self._appender, self.wake)

    async def receive(
        self, tenant_id: UUID, signals: Sequence[NewSignal], *, actor: str, user_id: UUID | None = None, source: str = "service"
    ) -> list[Signal]:
        """Takes signals in, each (source_channel, source_id) once, and commits: in one round trip, together with those of callers that come at
        the same time. One answer a signal, in the order given; ``is_new`` says whether this call received it. Arguments as for ``transaction``.

        The same source with another type or payload is an IdempotencyMismatch, and then none of these is taken in.
        """
        if not signals or self.settings.transaction_pooler:
            async with self.transaction(tenant_id, actor=actor, user_id=user_id, source=source) as tx:
                return await tx.signals.receive_many(signals)
        assert self._receiver is not None
        receiver = self._receiver
        context = self._context(tenant_id, actor, user_id, source)
        reception = Reception(documents(context, signals), len(signals))

        async def once() -> Rows:
            return await receiver.receive((context.tenant_id, context.user_id), reception)

        return received(context, signals, await retried(once, self.settings))

    async def publish(
        self, tenant_id: UUID, channel: str | Channel, *contents: Json, actor: str, user_id: UUID | None = None
    ) -> LivePosition:
        """Tells those who follow a channel: ``chat:ROOM``, ``logs:AGENT`` or ``tokens:ID``. Nothing of it is kept for more than ten minutes, and
        nothing lasting may rely on it. In one round trip, by itself; a failure that passes may tell it twice.

        contents: what JSON can express, at most 1,000 of 16 KiB each. Returns the position behind the last.
        """
        if not contents:
            raise InvalidInput("contents: there are none", hint="pass what is to be told", field="contents")
        found = channel if isinstance(channel, Channel) else Channel.parse(channel)
        channels, texts = publication([found] * len(contents), contents)
        context = self._context(tenant_id, actor, user_id, "service")
        assert context.user_id is not None
        proof = proof_of(self.settings, context.tenant_id, context.user_id)
        [row] = await fetched(
            self.pool, self.settings, PUBLISH, context.tenant_id, context.user_id, channels, texts, context.actor, proof
        )
        return LivePosition(feed=row["feed"], number=row["last"])

    def snapshot(
        self,
        tenant_id: UUID,
        *,
        actor: str,
        user_id: UUID | None = None,
        source: str = "service",
        correlation_id: UUID | None = None,
        causation_id: UUID | None = None,
    ) -> Snapshot:
        """A transaction that sees the tenant as it was at its first read. Arguments as for ``transaction``.

        Runs and steps that others can see cannot end in it: what began in them meanwhile would not be seen.
        """
        pool = self.pool
        assert self._appender is not None
        context = self._context(tenant_id, actor, user_id, source, correlation_id, causation_id)
        return Snapshot(context, self.settings, pool, self._appender, self.wake)

    def bind(
        self,
        connection: Any,
        tenant_id: UUID,
        *,
        actor: str,
        user_id: UUID | None = None,
        source: str = "service",
        correlation_id: UUID | None = None,
        causation_id: UUID | None = None,
    ) -> BoundTransaction:
        """The same inside the caller's own transaction, so that a domain row and its effect commit together, or not at all.

        connection: an asyncpg connection, or an SQLAlchemy AsyncSession or AsyncConnection on the asyncpg driver, in a transaction.
        Its login needs persistence_app. Workers notice the effects when they poll; call ``wake`` after the commit to be sooner.
        """

        async def connect() -> Any:
            return await _driver_connection(connection)

        context = self._context(tenant_id, actor, user_id, source, correlation_id, causation_id)
        return BoundTransaction(context, self.settings, connect)

    async def decide(
        self,
        tenant_id: UUID,
        body: Callable[[Transaction], Awaitable[T]],
        *,
        actor: str,
        attempts: int = 5,
        user_id: UUID | None = None,
        source: str = "service",
        correlation_id: UUID | None = None,
        causation_id: UUID | None = None,
    ) -> T:
        """Runs ``body(tx)`` in a transaction, and anew when somebody else changed what it had read (Conflict), at most ``attempts`` times.

        ``body`` must read what it decides on inside, and do nothing but persistence.
        """
        tries = AsyncRetrying(
            retry=retry_if_exception_type(Conflict),
            wait=wait_random_exponential(multiplier=0.005, max=0.5),
            stop=stop_after_attempt(attempts),
            reraise=True,
        )

        async def once() -> T:
            async with self.transaction(
                tenant_id,
                actor=actor,
                user_id=user_id,
                source=source,
                correlation_id=correlation_id,
                causation_id=causation_id,
            ) as tx:
                return await body(tx)

        return await tries(once)

    def wake(self) -> None:
        """Tells the workers that there is something to deliver. Calls within a few milliseconds become one."""
        if self._bell is not None:
            self._bell.ring()

    def wake_executors(self) -> None:
        """Tells the executors that there are runs to take up. Calls within a few milliseconds become one."""
        for tell in self.flows.executors:
            tell(None)
        if self._flow_bell is not None:
            self._flow_bell.ring()

    def _context(
        self,
        tenant_id: UUID,
        actor: str,
        user_id: UUID | None,
        source: str,
        correlation_id: UUID | None = None,
        causation_id: UUID | None = None,
    ) -> Context:
        try:
            return Context(
                tenant_id=tenant_id,
                actor=actor,
                user_id=user_id or self.settings.service_user,
                source=source,
                correlation_id=correlation_id,
                causation_id=causation_id,
            )
        except ValueError as error:
            field, problem = first_problem(error)
            hint = None
            if field == "tenant_id":
                hint = "await what gives the tenant, and pass its tenant_id" if isawaitable(tenant_id) else "pass tenant.tenant_id"
            raise InvalidInput(f"{field}: {problem}", hint=hint, field=field) from error


def settings_with(settings: Settings | None, overrides: dict[str, Any]) -> Settings:
    """Settings with some fields replaced. Raises ConfigurationError, naming the field."""
    try:
        if settings is None:
            return Settings(**overrides)
        return Settings.model_validate({**settings.model_dump(), **overrides})
    except ValueError as error:
        field, problem = first_problem(error)
        raise ConfigurationError(
            f"settings: {field}: {problem}",
            hint="docs/settings.md lists them" if field not in Settings.model_fields else None,
            field=field,
        ) from error


async def _driver_connection(connection: Any) -> Any:
    if isinstance(connection, asyncpg.Connection) or type(connection).__name__ == "PoolConnectionProxy":
        driver = connection
    else:
        driver = await _below_sqlalchemy(connection)
    if not driver.is_in_transaction():
        raise ConfigurationError(
            "bind: the connection is not in a transaction", hint="begin one first, so that both commit together"
        )
    return driver


async def _below_sqlalchemy(connection: Any) -> Any:
    # Whoever has such a session has imported it; others need not wait for it.
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession  # noqa: PLC0415

    if isinstance(connection, AsyncSession):
        connection = await connection.connection()
    if not isinstance(connection, AsyncConnection):
        raise ConfigurationError(
            f"bind: {type(connection).__name__} is neither an asyncpg connection nor an SQLAlchemy AsyncSession or AsyncConnection"
        )
    await connection.execute(text("SELECT 1"))  # SQLAlchemy begins the transaction with the first statement
    raw = await connection.get_raw_connection()
    if not isinstance(raw.driver_connection, asyncpg.Connection):
        raise ConfigurationError(
            f"bind: the session's driver is {connection.dialect.driver}", hint="use postgresql+asyncpg:// for it"
        )
    return raw.driver_connection


async def _close_pool(pool: asyncpg.Pool) -> None:
    try:
        await asyncio.wait_for(pool.close(), timeout=10)
    except TimeoutError:
        pool.terminate()
