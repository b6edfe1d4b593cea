"""Connections cut between any two messages, above all around COMMIT: every transaction happens once or raises."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from persistence import Plane
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
