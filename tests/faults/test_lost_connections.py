"""Connections cut between any two messages, above all around COMMIT: every transaction happens once or raises."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from persistence import Plane
from persistence.errors import Conflict, IdempotencyMismatch, NotFound, PersistenceError, Unavailable
from persistence.models import Tenant
from tests.helpers import ACTOR, start_run

SOCKET = ".s.PGSQL.5432"


class Scissors:
    """A proxy before the server that cuts the connection at the n-th message of either side, once."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.cut_after: int | None = None
        self.before_delivery = False
        self.passed = 0
        self.has_cut = False
        self.always = False

    def arm(self, cut_after: int, *, before_delivery: bool, always: bool = False) -> None:
        self.cut_after, self.before_delivery, self.passed, self.has_cut, self.always = cut_after, before_delivery, 0, False, always

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        await asyncio.wait(
            {
                asyncio.create_task(self._pump(reader, server_writer, writer)),
                asyncio.create_task(self._pump(server_reader, writer, server_writer)),
            }
        )

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, back: asyncio.StreamWriter) -> None:
        try:
            while chunk := await source.read(65536):
                self.passed += 1
                cuts = self.cut_after is not None and (self.always or not self.has_cut) and self.passed > self.cut_after
                if not (cuts and self.before_delivery):
                    sink.write(chunk)
                    await sink.drain()
                if cuts:
                    self.has_cut = True
                    break
        except ConnectionError:
            pass
        finally:
            sink.close()
            back.close()


@asynccontextmanager
async def proxied(dsn: str) -> AsyncIterator[tuple[Scissors, str]]:
    directory = Path(tempfile.mkdtemp(prefix="cut"))
    host = dsn.partition("host=")[2]
    scissors = Scissors(f"{host}/{SOCKET}")
    server = await asyncio.start_unix_server(scissors.serve, directory / SOCKET)
    try:
        yield scissors, dsn.replace(host, str(directory))
    finally:
        server.close()
        shutil.rmtree(directory)


@pytest.mark.parametrize("before_delivery", [True, False], ids=["message lost", "answer lost"])
@pytest.mark.parametrize("reads", [False, True], ids=["one statement", "explicit transaction"])
async def test_a_connection_cut_anywhere_loses_and_doubles_nothing(
    dsn: str, tenant: Tenant, reads: bool, before_delivery: bool
) -> None:
    async with proxied(dsn) as (scissors, through), Plane(dsn=dsn) as direct, Plane(dsn=through, pool_max=1, retry_for=20) as plane:
        await start_run(plane, tenant.tenant_id)  # statements are prepared
        for cut_after in range(40):
            key = f"{cut_after}"
            scissors.arm(cut_after, before_delivery=before_delivery)
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                run = tx.runs.start(run_type=key)
                if reads:
                    assert (await tx.runs.get(run.id)).status == "RUNNING"
                step = tx.steps.complete(tx.steps.start(run, step_type="work"))
                if reads:
                    assert await tx.steps.count(run_id=run.id) == 1
                tx.effects.request(step, "TEST", spec={"n": cut_after}, idempotency_key=key)
                tx.runs.complete(run)
            async with direct.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                assert (await tx.runs.get(run.id)).status == "COMPLETED"
                assert await tx.events.count(correlation_id=run.correlation_id) == 5
                assert await tx.outbox.count(idempotency_key=key) == 1
            if not scissors.has_cut:
                assert cut_after >= 2
                return
        pytest.fail("the proxy cut every time: the transaction takes more messages than this test looks at")


async def test_nothing_is_half_done_when_the_retries_end(dsn: str, tenant: Tenant, plane: Plane) -> None:
    async with proxied(dsn) as (scissors, through):
        broken = Plane(dsn=through, pool_max=1, retry_for=0.01)
        async with broken:
            await start_run(broken, tenant.tenant_id)
            scissors.arm(0, before_delivery=True, always=True)
            with pytest.raises(Exception, match="did not answer|kept failing"):
                async with broken.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                    tx.runs.start(run_type="lost")
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            assert await tx.runs.count(run_type="lost") == 0


@pytest.mark.parametrize("before_delivery", [True, False], ids=["message lost", "answer lost"])
async def test_a_signal_that_was_received_is_there(dsn: str, tenant: Tenant, before_delivery: bool) -> None:
    """A reception writes at once: when the connection is lost afterwards, it is done again with the rest."""
    async with proxied(dsn) as (scissors, through), Plane(dsn=dsn) as direct, Plane(dsn=through, pool_max=1, retry_for=20) as plane:
        await start_run(plane, tenant.tenant_id)
        for cut_after in range(30):
            scissors.arm(cut_after, before_delivery=before_delivery)
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                signal = await tx.signals.receive("web", f"{cut_after}", "order", {"n": cut_after})
                if cut_after % 2:
                    tx.signals.process(signal)
            async with direct.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                assert (await tx.signals.get(signal.id)).status == ("PROCESSED" if cut_after % 2 else "RECEIVED")
        assert scissors.has_cut is False  # the last ones went through whole


async def test_a_signal_that_somebody_else_received_meanwhile_is_a_conflict(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    with pytest.raises(Conflict, match="somebody else received one of these signals"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            await tx.signals.receive("web", "1", "order", {"n": 1})
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'")
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as other:
                await other.signals.receive("web", "1", "order", {"n": 1})


async def test_a_snapshot_keeps_its_moment_or_says_that_it_lost_it(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    async with plane.snapshot(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.runs.all() == []
        await start_run(plane, tenant.tenant_id)
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'")
        with pytest.raises(Unavailable, match="the moment of this snapshot"):
            await tx.runs.all()


async def test_a_transaction_of_which_a_command_failed_does_not_end_well(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        await tx.signals.receive("web", "1", "order", {"n": 1})
    with pytest.raises(
        PersistenceError, match="nothing of this transaction is kept, since a command of it failed: signal .web, 1."
    ):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.runs.start(run_type="lost")
            with pytest.raises(IdempotencyMismatch):
                await tx.signals.receive("web", "1", "order", {"n": 2})
            with pytest.raises(PersistenceError, match="nothing of this transaction is kept"):
                tx.runs.start(run_type="lost")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.runs.all() == []


async def test_two_commands_of_one_transaction_at_once_are_named(plane: Plane, tenant: Tenant) -> None:
    with pytest.raises(PersistenceError, match="two commands of one transaction were under way at once"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            await tx.flush()
            await tx.runs.all()
            await asyncio.gather(*(tx.runs.all() for _ in range(3)))


async def test_what_was_not_committed_cannot_be_built_upon(plane: Plane, tenant: Tenant) -> None:
    with pytest.raises(ZeroDivisionError):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            run = tx.runs.start(run_type="taken back")
            raise ZeroDivisionError
    with pytest.raises(
        NotFound, match="run_id: there is no such run in this tenant .it belongs to another tenant, or to a transaction"
    ):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.steps.start(run, step_type="s")
