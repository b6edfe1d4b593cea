"""A database with a history in which everything occurs, shared by tests that take back what they do to it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from uuid import UUID

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.database.embedded import AUDIT_LOGIN, SERVICE_LOGIN
from persistence.executor import Executor
from persistence.flows import Flow, Flows
from persistence.models import Channel, Position, Role
from persistence.outbox import Delivery, Worker
from persistence.outbox.embed_handler import add_embed_handler
from persistence.sample import add_sample_handlers, play
from persistence.stores.memory import Backends, Upkeep
from persistence.vault import Opener
from tests.conftest import TestServer
from tests.helpers import request_effect

_VERIFIED = """
SELECT persistence.record_backup_verification(
  gen_random_uuid(), 'BACKUP_VERIFIED', '{"backup_label": "first", "taken_at": "2026-01-04T00:00:00Z", "findings": {}}', 'system:test'
)
"""


async def write_history(plane: Plane) -> None:
    """Signals, runs that ended well and badly, tool calls, effects delivered, dead and waiting, a saved state, a verified backup."""
    tenant = await plane.tenants.create("acme", actor="system:test")
    await play(plane, tenant.tenant_id)
    worker = Worker(name="tester", listen=False)
    add_sample_handlers(worker)
    await worker.drain(plane)
    await request_effect(plane, tenant.tenant_id)
    await write_ordered_effects(plane, tenant.tenant_id)
    await plane.limits.set("TEST", tenant_id=tenant.tenant_id, weight=2, max_concurrency=5, max_rate=8.5, actor="system:test")
    await plane.tokens.issue(tenant.tenant_id, "ci", role=Role.READER, acts_as="agent:ci", actor="system:test")
    await write_secrets(plane, tenant.tenant_id)
    await plane.publish(tenant.tenant_id, "chat:desk", "hello", actor="agent:x")
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        consumer = await tx.consumers.hold("billing", Channel("events"))
        [(_, position)] = await tx.events.read_each(limit=1)
        await tx.consumers.ack(consumer, position)
        await tx.consumers.hold("gone", Channel("events"))
        assert await tx.consumers.remove("gone")
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        taken = tx.snapshots.take(
            "2026-01-04T000000Z",
            snapshot_kind="tenant",
            subject=None,
            position=Position(),
            digest="0" * 64,
            size_bytes=1,
            cause="manual",
        )
    auditor = await asyncpg.connect(plane.server.audit_dsn)
    prove = "SELECT persistence.record_snapshot_proof($1, $2, $3, $4::text::jsonb, 'user:ada')"
    await auditor.execute(prove, tenant.tenant_id, taken.id, "SNAPSHOT_VERIFIED", '{"findings": {}}')
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        tx.snapshots.restore(await tx.snapshots.get(taken.id), "elsewhere")
    await auditor.execute(prove, tenant.tenant_id, taken.id, "SNAPSHOT_REFUSED", '{"error_details": {"message": "changed"}}')
    await auditor.close()
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        parent = tx.runs.start(run_type="saved")
        tx.checkpoints.save(parent, {"n": 1})
        tx.runs.start(parent, run_type="child")
    await write_memories(plane, tenant.tenant_id)
    await write_flows(plane, tenant.tenant_id)
    async with plane.pool.acquire() as connection:
        await connection.execute("SELECT persistence.refresh_projections()")
    administrator = await asyncpg.connect(plane.server.for_administration)
    await administrator.execute(_VERIFIED)
    await administrator.execute("SELECT persistence.record_gates('{\"checks\": [], \"seconds\": 0}', 'system:test')")
    await administrator.close()


async def write_flows(plane: Plane, tenant_id: UUID) -> None:
    """Runs of flows: one that has ended, one that waits and one behind it in its key, one that nobody can execute."""
    flows, others = Flows(), Flows()

    async def price() -> int:
        return 5

    @flows.flow("desk")
    async def desk(run: Flow) -> None:
        await run.step(price)
        await run.signal("go")

    @others.flow("desk", version=9)
    async def later(run: Flow) -> None:
        await run.step(price)

    executor = Executor(flows, name="tester", listen=False)
    await plane.flows.start(desk, None, tenant_id, ordering_key="desk")
    ended = await plane.flows.start(desk, None, tenant_id)
    await executor.drain(plane)
    await plane.flows.start(desk, None, tenant_id, ordering_key="desk")
    await plane.flows.signal("go", tenant_id, key=ended.run_id)
    await plane.flows.start(desk, None, tenant_id)
    await executor.drain(plane)
    await plane.flows.start(later, None, tenant_id)


async def write_memories(plane: Plane, tenant_id: UUID) -> None:
    """What an agent learned in a run, what it knows better since, what was left aside, brought back and forgotten."""
    async with plane.transaction(tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="learning")
        first = tx.memories.remember("the customer likes tea", agent="agent:x", context="chat", origin=run, tags=["taste"])
        tx.memories.remember("the customer likes coffee", agent="agent:x", context="chat", origin=run, supersedes=first)
        pruned = tx.memories.remember("it rained", agent="agent:x", context="doc", importance=0.1)
        tx.memories.restore(tx.memories.prune(pruned, "old"), "asked for")
        gone = tx.memories.remember("a secret", agent="agent:x", context="workflow", origin=run)
        tx.memories.forget(gone, "it was personal")
        await tx.flush()
        tx.memory_recalls.record([first], agent="agent:x", origin=run)
    async with Backends(plane) as backends:
        worker = add_embed_handler(Worker(name="tester", listen=False), backends)
        await worker.drain(plane)
        upkeep = Upkeep(backends)
        second, _ = await upkeep.begin(tenant_id, actor="agent:x")
        await worker.drain(plane)
        await upkeep.activate(tenant_id, second.id, "tried", actor="agent:x")
        third, _ = await upkeep.begin(tenant_id, actor="agent:x")
        await worker.drain(plane)
        await upkeep.retire(tenant_id, third.id, "not needed", actor="agent:x")


async def write_secrets(plane: Plane, tenant_id: UUID) -> None:
    """Secrets that are held, over and destroyed; keys of subjects, one of them erased; a vault that has been used."""
    vault = plane.vault
    vault.vault.create([Opener("environment", bytearray(32))])
    await vault.changed("created")
    await plane.secrets.set(tenant_id, "stripe", "first", actor="user:ada", keep=1)
    await plane.secrets.rotate(tenant_id, actor="user:ada")
    later = datetime.now(UTC) + timedelta(days=300)
    await plane.secrets.set(tenant_id, "stripe", "second", actor="user:ada", keep=1, expires_at=later, max_reads=5)
    with await plane.secrets.read(tenant_id, "stripe", purpose="a test", actor="agent:x"):
        pass
    for subject in ("customer:1", "customer:2"):
        await plane.subjects.key(tenant_id, subject, purpose="a test", actor="agent:x")
    await plane.subjects.erase(tenant_id, "customer:2", "asked for", actor="user:ada")


async def write_ordered_effects(plane: Plane, tenant_id: UUID) -> None:
    """Of one ordering key a dead letter that blocks it and an entry that waits; of another a dead letter that does not. The destination failed."""
    async with plane.transaction(tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="ordered")
        for key in ("strict-1", "strict-2", "lenient-1"):
            name = key.partition("-")[0]
            tx.effects.request(run, name, spec={}, idempotency_key=key, ordering_key=name, priority=3, destination="there")

    async def refuse(_: Delivery) -> None:
        raise TimeoutError("there")

    worker = Worker(name="tester", listen=False)
    worker.handler("strict", max_attempts=1)(refuse)
    worker.handler("lenient", max_attempts=1, blocks_key=False)(refuse)
    await worker.drain(plane)


@pytest.fixture(scope="session")
def history(test_server: TestServer, template: SimpleNamespace) -> Iterator[TestServer]:
    """Where the database is, with its name as template_dbname."""
    name = "history"
    administration = f"postgresql://postgres@/postgres?host={test_server.host}"
    with psycopg.connect(administration, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template.template_dbname}")
    place = TestServer(host=test_server.host, template_dbname=name)

    async def write() -> None:
        dsns = {
            "dsn": dsn_of(place, SERVICE_LOGIN),
            "admin_dsn": dsn_of(place, "postgres"),
            "audit_dsn": dsn_of(place, AUDIT_LOGIN),
        }
        with TemporaryDirectory() as folder:
            async with Plane(**dsns, data_dir=Path(folder)) as plane:
                await write_history(plane)

    asyncio.run(write())
    yield place
    with psycopg.connect(administration, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def dsn_of(place: TestServer, user: str) -> str:
    return f"postgresql://{user}@/{place.template_dbname}?host={place.host}"


@pytest.fixture
def history_admin_dsn(history: TestServer) -> str:
    return dsn_of(history, "postgres")


@pytest.fixture
def history_audit_dsn(history: TestServer) -> str:
    return dsn_of(history, AUDIT_LOGIN)


@pytest.fixture
def history_dsn(history: TestServer) -> str:
    return dsn_of(history, SERVICE_LOGIN)


@pytest.fixture
async def superuser(history_admin_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """In a transaction that is rolled back."""
    connection = await asyncpg.connect(history_admin_dsn)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()
