"""One unit of work for one tenant."""

import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import asyncpg

from persistence.context import Context
from persistence.database.appending import Appender, Batch, Reception, append, receive
from persistence.database.failures import DATABASE_ERRORS, is_transient, translated
from persistence.database.pool import enter_tenant, time_limits
from persistence.database.reading import read_rows
from persistence.database.retry import retried
from persistence.database.signing import proof_of
from persistence.database.tables import EFFECTS
from persistence.errors import Conflict, InvalidInput, PersistenceError, Unavailable
from persistence.models import AppendResult, NewEvent
from persistence.repositories import (
    CheckpointRepository,
    ConsumerRepository,
    DataKeyRepository,
    EffectRepository,
    EventRepository,
    LiveRepository,
    MemoryIndexRepository,
    MemoryRecallRepository,
    MemoryRepository,
    OutboxRepository,
    RunRepository,
    SecretRepository,
    SignalRepository,
    SnapshotRepository,
    StepRepository,
    ToolCallRepository,
    VaultAccessRepository,
)
from persistence.repositories.buffer import EventBuffer
from persistence.repositories.rows import by_ids
from persistence.settings import Settings
from persistence.telemetry import EVENTS, TRANSACTIONS, WRITE_SECONDS, span

T = TypeVar("T")

_WRITTEN = {outcome: TRANSACTIONS.labels(outcome) for outcome in ("committed", "conflict", "failed")}

# Behind a transaction-mode pooler the limits cannot be the session's.
_LIMITS = """
SELECT
  pg_catalog.set_config('statement_timeout', $1, true),
  pg_catalog.set_config('lock_timeout', $2, true),
  pg_catalog.set_config('idle_in_transaction_session_timeout', $3, true)
"""

# What the session's last user may have set, gone before it says anything.
_AS_NEW = "RESET SESSION AUTHORIZATION; RESET ALL; DISCARD TEMP"


class _Promise(Awaitable[T]):
    """Something to be awaited, which knows whether it was."""

    def __init__(self, name: str, command: Coroutine[Any, Any, T]) -> None:
        self.name = name
        self._command = command
        self.is_forgotten = True

    def __await__(self) -> Generator[Any, Any, T]:
        self.is_forgotten = False
        return self._command.__await__()

    def drop(self) -> None:
        self._command.close()


class Transaction:
    """Commands buffer events; leaving the block sends them, in one statement and one round trip where nothing was read before.

    An error inside the block drops everything. A failure that passes (serialization, deadlock, lost connection, even while committing) is
    retried: the ids of the events make sure that nothing is recorded twice.
    """

    _BEGIN = "BEGIN"

    def __init__(
        self, context: Context, settings: Settings, pool: asyncpg.Pool, appender: Appender, after_commit: Callable[[], None]
    ) -> None:
        self.context = context
        self.settings = settings
        self._pool = pool
        self._appender = appender
        self._after_commit = after_commit
        self._buffer = EventBuffer(context, settings)
        self._connection: Any = None
        self._delivered = 0
        self._is_open = False
        self._failure: PersistenceError | None = None
        self._rows: list[asyncpg.Record] = []
        self._promises: list[_Promise[Any]] = []

    @cached_property
    def signals(self) -> SignalRepository:
        return SignalRepository(self)

    @cached_property
    def runs(self) -> RunRepository:
        return RunRepository(self)

    @cached_property
    def steps(self) -> StepRepository:
        return StepRepository(self)

    @cached_property
    def tool_calls(self) -> ToolCallRepository:
        return ToolCallRepository(self)

    @cached_property
    def effects(self) -> EffectRepository:
        return EffectRepository(self)

    @cached_property
    def checkpoints(self) -> CheckpointRepository:
        return CheckpointRepository(self)

    @cached_property
    def data_keys(self) -> DataKeyRepository:
        return DataKeyRepository(self)

    @cached_property
    def secrets(self) -> SecretRepository:
        """What secrets there are. Their values: ``plane.secrets``."""
        return SecretRepository(self)

    @cached_property
    def vault_accesses(self) -> VaultAccessRepository:
        return VaultAccessRepository(self)

    @cached_property
    def memories(self) -> MemoryRepository:
        return MemoryRepository(self)

    @cached_property
    def memory_recalls(self) -> MemoryRecallRepository:
        return MemoryRecallRepository(self)

    @cached_property
    def memory_indexes(self) -> MemoryIndexRepository:
        return MemoryIndexRepository(self)

    @cached_property
    def snapshots(self) -> SnapshotRepository:
        """What snapshots there are. Taking them: ``persistence.snapshots``."""
        return SnapshotRepository(self)

    @cached_property
    def outbox(self) -> OutboxRepository:
        return OutboxRepository(self)

    @cached_property
    def events(self) -> EventRepository:
        return EventRepository(self)

    @cached_property
    def consumers(self) -> ConsumerRepository:
        return ConsumerRepository(self)

    @cached_property
    def live(self) -> LiveRepository:
        return LiveRepository(self)

    @property
    def existing(self) -> dict[UUID, UUID]:
        """Effects that were asked for before: the id of the event that asked again, and the id of the effect that is there.

        Complete once the transaction has been sent.
        """
        return {row["event_id"]: row["aggregate_id"] for row in self._rows if not row["is_new"]}

    @property
    def results(self) -> list[AppendResult]:
        """What became of each event. Complete once the transaction has been sent."""
        return [AppendResult.made(**row) for row in self._rows]

    def record(self, event: NewEvent) -> None:
        """Checks an event and buffers it; see EventRepository.append."""
        self._check_usable()
        self._buffer.add(event)

    def has_begun(self, item_id: UUID) -> bool:
        """Whether an aggregate began in this transaction."""
        return item_id in self._buffer.begun

    async def flush(self) -> None:
        """Sends what is buffered, without ending the transaction."""
        self._check_usable()
        self._buffer.seal()
        await self._attempt(self._deliver)

    async def fetch(self, statement: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        """Sends what is buffered, then reads, in the tenant's context."""
        self._check_usable()
        self._buffer.seal()

        async def read() -> Sequence[asyncpg.Record]:
            await self._deliver()
            return await read_rows(self._connection, statement, *arguments)

        return await self._attempt(read)

    def awaited(self, name: str, command: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """A command that has to be awaited before the block ends: leaving it raises InvalidInput otherwise, and nothing is kept."""
        promise = _Promise(name, command)
        self._promises.append(promise)
        return promise

    async def receive(self, signals: str, count: int) -> Sequence[asyncpg.Record]:
        """Sends what is buffered, then takes so many signals in: see SignalRepository.receive_many. Kept like a batch until the transaction ends."""
        self._check_usable()
        self._buffer.seal()
        reception = Reception(signals, count)
        self._buffer.sent.append(reception)
        await self._attempt(self._deliver)
        return reception.answers or []

    def _check_usable(self) -> None:
        if not self._is_open:
            raise PersistenceError("this transaction is over, or was never entered", hint="use it as: async with … as tx")
        if self._failure is not None:
            raise self._lost()

    def _lost(self) -> PersistenceError:
        return PersistenceError(
            f"nothing of this transaction is kept, since a command of it failed: {self._failure}", hint="begin another"
        )

    async def __aenter__(self) -> Self:
        self._is_open = True
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_open = False
        forgotten = [promise for promise in self._promises if promise.is_forgotten]
        for promise in forgotten:
            promise.drop()
        if forgotten and error is None:
            await self._abandon()
            raise InvalidInput(f"{forgotten[0].name}: was not awaited, so nothing of this transaction is kept", hint="await it")
        if error is not None or self._failure is not None:
            await self._abandon()
            if error is None and (self._buffer.sent or self._buffer):
                raise self._lost()
            return
        self._buffer.seal()
        if not self._buffer.sent:
            await self._close()
            return
        begun, outcome = time.perf_counter(), "failed"
        try:
            with span("persistence.transaction", tenant_id=str(self.context.tenant_id), actor=self.context.actor):
                await self._close()
            outcome = "committed"
            EVENTS.inc(len(self._rows))
        except Conflict:
            outcome = "conflict"
            raise
        finally:
            _WRITTEN[outcome].inc()
            WRITE_SECONDS.observe(time.perf_counter() - begun)

    async def _close(self) -> None:
        try:
            await self._attempt(self._finish)
            await self._find_existing()
        except BaseException:
            await self._abandon()
            raise

    async def _find_existing(self) -> None:
        """What was asked for before is what is there: the effects that were returned for it become that."""
        known = {event_id: effect_id for event_id, effect_id in self.existing.items() if event_id in self.effects.requested}
        if not known:
            return
        rows = await self._read_again(by_ids(EFFECTS), self.context.tenant_id, list(set(known.values())))
        found = {effect.id: effect for effect in self.effects.read_rows(rows)}
        for event_id, effect_id in known.items():
            if effect_id in found:
                self.effects.requested[event_id].become(found[effect_id])

    async def _read_again(self, statement: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        """Reads after the end, in the tenant's context."""

        async def read() -> Sequence[asyncpg.Record]:
            async with self._pool.acquire() as connection, connection.transaction(readonly=True):
                await self._enter(connection)
                return await read_rows(connection, statement, *arguments)

        return await retried(read, self.settings)

    async def _attempt(self, work: Callable[[], Awaitable[T]]) -> T:
        async def once() -> T:
            try:
                return await work()
            except BaseException as error:
                if is_transient(error):
                    await self._abandon()
                elif isinstance(error, DATABASE_ERRORS):
                    self._failure = translated(error)
                raise

        return await retried(once, self.settings)

    async def _finish(self) -> None:
        if self._connection is None:
            if not self._buffer.sent:
                return
            [*others, last] = self._buffer.sent
            if not others and isinstance(last, Batch) and not self.settings.transaction_pooler:
                self._rows[:] = await self._appender.append((self.context.tenant_id, self.context.user_id), last)
                return
        await self._deliver()
        await self._connection.execute("COMMIT")
        await self._give_back()
        if self._buffer.asks_for_delivery:
            self._after_commit()

    async def _deliver(self) -> None:
        """Sends what this database transaction has not had yet; begins it first where there is none."""
        if self._connection is None:
            await self._begin()
        place = self.context.tenant_id, self.context.user_id
        while self._delivered < len(self._buffer.sent):
            item, proof = self._buffer.sent[self._delivered], proof_of(self.settings, *place)
            if isinstance(item, Reception):
                await receive(self._connection, place, item, proof)
            else:
                self._rows.extend(await append(self._connection, place, item.text, proof))
            self._delivered += 1

    async def _begin(self) -> None:
        self._connection = await self._pool.acquire()
        self._delivered = 0
        self._rows.clear()
        await self._connection.execute(self._BEGIN)
        if self.settings.transaction_pooler:
            if self.settings.context_secret is not None:
                await self._connection.execute(_AS_NEW)
            await self._connection.execute(_LIMITS, *time_limits(self.settings).values())
        await self._enter(self._connection)

    async def _enter(self, connection: Any) -> None:
        await enter_tenant(connection, self.settings, self.context.tenant_id, self.context.user_id)

    async def _abandon(self) -> None:
        """Leaves the database transaction, if there is one, without a trace."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
        except DATABASE_ERRORS:
            connection.terminate()
        finally:
            await self._pool.release(connection)

    async def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        await self._pool.release(connection)


class Snapshot(Transaction):
    """The same, with all reads of one moment: for answers made of several statements."""

    _BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ"
    _has_begun = False

    async def _begin(self) -> None:
        if self._has_begun:
            raise Unavailable(
                "the connection was lost, and with it the moment of this snapshot", hint="read everything again, in a new one"
            )
        await super()._begin()
        self._has_begun = True


class BoundTransaction(Transaction):
    """The same inside a transaction of the caller's, who commits or rolls back. Nothing is retried: that is the caller's too."""

    def __init__(self, context: Context, settings: Settings, connect: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(context, settings, pool=None, appender=None, after_commit=lambda: None)  # type: ignore[arg-type]
        self._connect = connect

    async def _attempt(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        except DATABASE_ERRORS as error:
            self._failure = translated(error)
            raise self._failure from error

    async def _finish(self) -> None:
        if self._connection is not None or self._buffer.sent:
            await self._deliver()

    async def _read_again(self, statement: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        return await read_rows(self._connection, statement, *arguments)

    async def _begin(self) -> None:
        self._connection = await self._connect()
        await self._enter(self._connection)

    async def _abandon(self) -> None:
        self._connection = None
