"""Starting runs of flows, telling them, and what comes of them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID, uuid4, uuid5

from persistence.encoding import decode
from persistence.errors import Conflict, FlowCancelled, FlowFailed, IdempotencyMismatch, InvalidInput
from persistence.flows.cancelling import CHANNEL
from persistence.flows.codec import to_json
from persistence.flows.definitions import Definition, definition_of
from persistence.flows.steering import cancel_run, fork_run, retry_run
from persistence.models import FlowTerms, Run, Signal, Tenant
from persistence.transaction import Transaction

_ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
_RUNS: Final = UUID("6f1f0f9e-6c2b-5c43-9f0e-5b1a1e0f7a11")
_FIRST_LOOK: Final = 0.01
_FIRST_LOOK_HERE: Final = 0.25
_LONGEST_LOOK: Final = 0.5

# What a run published last.
STATE = """
SELECT s.input_data::text AS state
FROM persistence.steps AS s
WHERE s.tenant_id = $1
  AND s.run_id = $2
  AND s.step_type = 'publish'
ORDER BY s.step_index DESC
LIMIT 1
"""


class HasTransactions(Protocol):
    """What is needed of a plane."""

    def transaction(self, tenant_id: UUID, *, actor: str, user_id: UUID | None = None) -> Transaction: ...

    def wake_executors(self) -> None: ...


@dataclass
class FlowClient:
    """Runs of flows, from outside: ``plane.flows``."""

    _plane: HasTransactions
    _waiting: dict[UUID, set["asyncio.Future[tuple[str, Any]]"]] = field(default_factory=dict)
    executors: list[Callable[[Definition | None], bool]] = field(default_factory=list)
    """Those of this process: what tells each that a run of a flow, or of any, is to be taken up, and says whether it will."""

    async def start(
        self,
        flow: Callable[..., Any],
        given: Any = None,
        tenant: Tenant | UUID | None = None,
        *,
        key: str | None = None,
        ordering_key: str | None = None,
        priority: int = 0,
        starts_at: datetime | None = None,
        deadline: datetime | timedelta | None = None,
        actor: str = "system:flows",
        user_id: UUID | None = None,
    ) -> "Handle":
        """Starts a run of a flow; executors that have it take it up.

        flow: its function, as decorated. given: its input, as the function takes it. key: the same key of the same flow is the same run, whoever
        asks and how often; with another input it is an IdempotencyMismatch. ordering_key: of the tenant's runs of one key one is under way at a
        time, in the order of their start. priority: -100 to 100; lower goes first. starts_at: not before. deadline: then it fails; none: the flow's.
        """
        tenant_id = _tenant_id(tenant)
        definition = definition_of(flow)
        try:
            async with self._plane.transaction(tenant_id, actor=actor, user_id=user_id) as tx:
                run = self.start_in(
                    tx, flow, given, key=key, ordering_key=ordering_key, priority=priority, starts_at=starts_at, deadline=deadline
                )
        except Conflict:
            run_id = run_of(tenant_id, definition.name, key or "")
            async with self._plane.transaction(tenant_id, actor=actor, user_id=user_id) as tx:
                there = await tx.runs.find(run_id)
            if there is None or key is None:
                raise
            if there.input_data != definition.encoded(given):
                raise IdempotencyMismatch(
                    f"flow {definition.name}: a run was started under {key!r} with another input",
                    hint="a key names one run for ever",
                    field="key",
                ) from None
            return Handle(self, tenant_id, there.id, definition, actor, user_id, is_new=False)
        if starts_at is not None or ordering_key is not None or not any(takes(definition) for takes in self.executors):
            self._plane.wake_executors()
        return Handle(self, tenant_id, run.id, definition, actor, user_id)

    def start_in(
        self,
        tx: Transaction,
        flow: Callable[..., Any],
        given: Any = None,
        *,
        key: str | None = None,
        ordering_key: str | None = None,
        priority: int = 0,
        starts_at: datetime | None = None,
        deadline: datetime | timedelta | None = None,
        origin: Signal | Run | None = None,
    ) -> Run:
        """The same as a part of a transaction. Where the key is known, sending it is a Conflict. origin: the signal or run that it begins with."""
        definition = definition_of(flow)
        limit = definition.deadline if deadline is None else deadline
        if isinstance(limit, timedelta):
            limit = (starts_at or datetime.now(UTC)) + limit
        return tx.runs.create(
            origin,
            run_type=definition.name,
            input=definition.encoded(given),
            run_id=None if key is None else run_of(tx.context.tenant_id, definition.name, key),
            flow=FlowTerms(
                version=definition.version,
                key=key,
                ordering_key=ordering_key,
                priority=priority,
                starts_at=starts_at,
                deadline=limit,
            ),
        )

    async def signal(
        self,
        signal_type: str,
        tenant: Tenant | UUID | None = None,
        *,
        key: str | UUID,
        payload: Any = None,
        id: str | None = None,  # noqa: A002  the word that a caller expects
        actor: str = "system:flows",
        user_id: UUID | None = None,
    ) -> Signal:
        """Gives a signal to the run that waits for this type and key, now or later; each is given to one run.

        key: as the flow names it, or a run's id for one that names none. payload: JSON, or a model or dataclass. id: the same id is the same
        signal; none: a new one.
        """
        tenant_id = _tenant_id(tenant)
        async with self._plane.transaction(tenant_id, actor=actor, user_id=user_id) as tx:
            return await tx.signals.receive(
                CHANNEL, id or str(uuid4()), signal_type, to_json(payload, "payload"), signal_key=str(key)
            )

    def handle(
        self,
        flow: Callable[..., Any],
        run_id: UUID,
        tenant: Tenant | UUID,
        *,
        actor: str = "system:flows",
        user_id: UUID | None = None,
    ) -> "Handle":
        """A run that was started before."""
        return Handle(self, _tenant_id(tenant), run_id, definition_of(flow), actor, user_id, is_new=False)

    async def cancel(
        self,
        run_id: UUID,
        tenant: Tenant | UUID,
        reason: str = "it was cancelled",
        *,
        actor: str = "system:flows",
        user_id: UUID | None = None,
    ) -> None:
        """Asks for a run to end: its executor undoes what the flow said with ``compensate``. One that has not begun, or failed, ends at once. Raises
        InvalidTransition for one that has ended.
        """
        async with self._plane.transaction(_tenant_id(tenant), actor=actor, user_id=user_id) as tx:
            await cancel_run(tx, _of_flow(await tx.runs.get(run_id)), reason)

    async def retry(self, run_id: UUID, tenant: Tenant | UUID, *, actor: str = "system:flows", user_id: UUID | None = None) -> Run:
        """Lets a failed run go on: the step that failed it is tried again, and the flow goes on from there, in the code as it is now. Raises
        InvalidTransition for one that has not failed, and where what it did was undone.
        """
        async with self._plane.transaction(_tenant_id(tenant), actor=actor, user_id=user_id) as tx:
            again = await retry_run(tx, _of_flow(await tx.runs.get(run_id)))
        self._plane.wake_executors()
        return again

    async def fork(
        self,
        run_id: UUID,
        tenant: Tenant | UUID,
        at: str,
        *,
        version: int | None = None,
        actor: str = "system:flows",
        user_id: UUID | None = None,
    ) -> Run:
        """Starts a new run that has done what this one did before a step (its position, or its id), and goes on from there. version: of the flow;
        none: the same. What the steps before gave is taken over as it is recorded.
        """
        async with self._plane.transaction(_tenant_id(tenant), actor=actor, user_id=user_id) as tx:
            forked = await fork_run(tx, _of_flow(await tx.runs.get(run_id)), at, version=version)
        self._plane.wake_executors()
        return forked

    def tell(self, run_id: UUID, status: str, outcome: Any) -> None:
        """Says how a run ended that this process executed: whoever waits for it here need not look."""
        for future in self._waiting.pop(run_id, ()):
            if not future.done():
                future.set_result((status, outcome))

    async def _ending(self, handle: "Handle") -> tuple[str, Any]:
        told: asyncio.Future[tuple[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(handle.run_id, set()).add(told)
        pause = _FIRST_LOOK_HERE if self.executors else _FIRST_LOOK  # who executes it here says how it ended
        try:
            while True:
                with_pause, _ = await asyncio.wait({told}, timeout=pause)
                if with_pause:
                    return told.result()
                run = await handle.run()
                if run.status in _ENDED:
                    return run.status, run.output_result if run.status == "COMPLETED" else run.error_details
                pause = min(_LONGEST_LOOK, pause * 1.5)
        finally:
            waiting = self._waiting.get(handle.run_id)
            if waiting is not None:
                waiting.discard(told)
                if not waiting:
                    del self._waiting[handle.run_id]


@dataclass(frozen=True)
class Handle:
    """One run of a flow. is_new: whether this very call started it."""

    _client: FlowClient = field(repr=False)
    tenant_id: UUID
    run_id: UUID
    _definition: Definition = field(repr=False)
    _actor: str = field(repr=False)
    _user_id: UUID | None = field(repr=False)
    is_new: bool = True

    def _transaction(self) -> Transaction:
        return self._client._plane.transaction(self.tenant_id, actor=self._actor, user_id=self._user_id)

    async def run(self) -> Run:
        """The run as it is now."""
        async with self._transaction() as tx:
            return await tx.runs.get(self.run_id)

    async def result(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        """What the flow gives back, once it has ended. Raises FlowFailed, FlowCancelled, and TimeoutError after so many seconds."""
        async with asyncio.timeout(timeout):
            status, outcome = await self._client._ending(self)
        if status == "COMPLETED":
            return self._definition.output(outcome)
        said = outcome or {}
        kind, detail = said.get("type", status.capitalize()), said.get("message", "")
        error = FlowCancelled if status == "CANCELLED" else FlowFailed
        raise error(f"run {self.run_id} of flow {self._definition.name}: {kind}: {detail}", kind, detail)

    async def cancel(self, reason: str = "it was cancelled") -> None:
        """See FlowClient.cancel."""
        await self._client.cancel(self.run_id, self.tenant_id, reason, actor=self._actor, user_id=self._user_id)

    async def retry(self) -> Run:
        """See FlowClient.retry."""
        return await self._client.retry(self.run_id, self.tenant_id, actor=self._actor, user_id=self._user_id)

    async def state(self) -> Any:
        """What the flow published last; None before it did."""
        async with self._transaction() as tx:
            rows = await tx.fetch(STATE, self.tenant_id, self.run_id)
        return decode(rows[0]["state"]) if rows else None


def _of_flow(run: Run) -> Run:
    if run.flow_version is None:
        raise InvalidInput(f"run {run.id} is no flow's", hint="its service moves it: tx.runs.cancel, tx.runs.retry", field="run_id")
    return run


def run_of(tenant_id: UUID, flow: str, key: str) -> UUID:
    """The id of the run that a key names."""
    return uuid5(_RUNS, f"{tenant_id}/{flow}/{key}")


def _tenant_id(tenant: Tenant | UUID | None) -> UUID:
    if isinstance(tenant, Tenant):
        return tenant.tenant_id
    if isinstance(tenant, UUID):
        return tenant
    raise InvalidInput("tenant: is missing", hint="pass the tenant, or its tenant_id", field="tenant")
