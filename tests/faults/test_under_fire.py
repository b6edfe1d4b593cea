"""The outbox under fire, in short; ``make soak`` is the long form. Each test ends with the same check: see ``fire.check_the_end``."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psycopg
import pytest
from structlog.testing import capture_logs

from persistence import Plane
from persistence.database.embedded import AUDIT_LOGIN, SERVICE_LOGIN, EmbeddedServer
from persistence.database.migrator import Migrator
from persistence.database.programs import hand_over
from persistence.database.server import create_logins
from persistence.errors import PersistenceError, ServerError
from persistence.models import Tenant
from persistence.outbox import Backoff, Delivery, Worker
from persistence.outbox.listener import Listener
from persistence.outbox.queue import OutboxQueue
from persistence.settings import Settings
from tests.debian import program
from tests.faults.fire import WORKER, Receiver, all_settled, check_the_end, request_webhooks, until, worker_environment
from tests.faults.test_lost_connections import SOCKET, proxied
from tests.helpers import let_time_pass, request_effect

KILLS = 20


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver(seed=4).serving() as serving:
        yield serving


@contextlib.contextmanager
def workers(dsn: str, count: int, *more: str, **environment: str) -> Iterator[list["subprocess.Popen[bytes]"]]:
    running = [subprocess.Popen([*WORKER, *more], env=worker_environment(dsn, **environment)) for _ in range(count)]
    try:
        yield running
    finally:
        for worker in running:
            worker.send_signal(signal.SIGTERM)
        for worker in running:
            assert worker.wait(60) in (0, -signal.SIGKILL)


@dataclass
class Ground:
    """A durable server of its own, that may be killed."""

    embedded: EmbeddedServer
    tenant: Tenant

    @property
    def dsn(self) -> str:
        return self.embedded.service_dsn

    def admin(self) -> psycopg.Connection:
        return psycopg.connect(self.embedded.admin_dsn, autocommit=True)

    @property
    def audit_dsn(self) -> str:
        return self.embedded.dsn(AUDIT_LOGIN, "persistence")

    def crash(self) -> None:
        """As when the power fails: everything at once. Then it starts again."""
        pid = int((self.embedded.cluster / "postmaster.pid").read_text().splitlines()[0])
        for process in (pid, *_children(pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            pass
        self.embedded._start()


def _children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


@contextlib.asynccontextmanager
async def ground(folder: Path) -> AsyncIterator[Ground]:
    with EmbeddedServer(folder) as embedded:
        Migrator(embedded.admin_dsn).up() if _has_database(embedded) else None
        create_logins(embedded.admin_dsn)
        async with Plane(dsn=embedded.service_dsn) as plane:
            tenant = await plane.tenants.create("acme", actor="system:test")
        yield Ground(embedded, tenant)


def _has_database(embedded: EmbeddedServer) -> bool:
    with psycopg.connect(embedded.dsn("postgres", "postgres"), autocommit=True) as connection:
        if not connection.execute("SELECT FROM pg_database WHERE datname = 'persistence'").fetchone():
            connection.execute("CREATE DATABASE persistence")
    return True


@pytest.mark.slow
async def test_workers_killed_at_random_moments(
    plane: Plane, tenant: Tenant, dsn: str, audit_dsn: str, admin: psycopg.Connection, receiver: Receiver
) -> None:
    chance = random.Random(20)
    keys: list[str] = []
    receiver.trouble = 0.1
    command, environment = [*WORKER, "--processes", "2"], worker_environment(dsn)
    supervisor = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        for _ in range(KILLS):
            keys += await request_webhooks(plane, tenant.tenant_id, receiver.url, 20)
            await asyncio.sleep(chance.uniform(0, 0.4))  # the moment is the point
            victims = _children(supervisor.pid)
            if victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(victims), signal.SIGKILL)
        receiver.trouble = 0
        await all_settled(admin)
    finally:
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(60) == 0
    await check_the_end(admin, audit_dsn, dsn, keys, receiver)


async def test_a_receiver_that_answers_slowly_half_wrongly_or_never(
    plane: Plane, tenant: Tenant, dsn: str, audit_dsn: str, admin: psycopg.Connection, receiver: Receiver
) -> None:
    receiver.trouble = 0.5
    with workers(dsn, 2):
        keys = await request_webhooks(plane, tenant.tenant_id, receiver.url, 150)
        await until(lambda: _true(len(receiver.modes) == 7 and len(set(receiver.accepted)) > 60))
        receiver.trouble = 0
        await all_settled(admin)
    await check_the_end(admin, audit_dsn, dsn, keys, receiver)


async def _listening(here: Ground, count: int) -> bool:
    """Whether so many workers are at work: they ask their own bells."""
    with here.admin() as admin:
        return admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_notify%' AND pid <> pg_backend_pid()"
        ).fetchone() == (count,)


async def _true(value: bool) -> bool:
    return value


@pytest.mark.slow
async def test_the_server_killed_under_load_and_started_again(tmp_path: Path, receiver: Receiver) -> None:
    async with ground(tmp_path / "plane") as here:
        keys: list[str] = []
        going = True

        async def produce() -> None:
            async with Plane(dsn=here.dsn, retry_for=60) as plane:
                while going:
                    keys.extend(await request_webhooks(plane, here.tenant.tenant_id, receiver.url, 25))
                    await asyncio.sleep(0.02)

        with workers(here.dsn, 2):
            await until(lambda: _listening(here, 2))
            producing = asyncio.create_task(produce())
            for _ in range(3):
                before = len(receiver.accepted)
                await until(lambda before=before: _true(len(receiver.accepted) > before + 50))
                await asyncio.to_thread(here.crash)
            going = False
            await producing
            with here.admin() as admin:
                await all_settled(admin)
        with here.admin() as admin:
            await check_the_end(admin, here.audit_dsn, here.dsn, keys, receiver)


async def test_a_full_disk_refuses_what_it_cannot_keep_and_loses_nothing(tmp_path: Path, receiver: Receiver) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(folder)], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting a small disk takes root's rights")
    try:
        hand_over(folder)
        async with ground(folder) as here:
            keys: list[str] = []
            refused = 0
            with workers(here.dsn, 1):
                async with Plane(dsn=here.dsn, retry_for=1) as plane:
                    with here.admin() as admin:
                        admin.execute("CREATE TABLE public.ballast (block bytea STORAGE EXTERNAL)")

                    for _ in range(300):
                        with contextlib.suppress(psycopg.Error), here.admin() as admin:
                            admin.execute(
                                "INSERT INTO public.ballast SELECT convert_to(repeat(gen_random_uuid()::text, 30000), 'UTF8')"
                            )
                        try:
                            keys += await request_webhooks(plane, here.tenant.tenant_id, receiver.url, 10)
                        except PersistenceError:
                            refused += 1
                            if refused > 3:
                                break
                assert refused, "the disk never filled"
                assert shutil.disk_usage(folder).free < 20 * 2**20
                await asyncio.to_thread(_make_room, here)
                with here.admin() as admin:
                    await all_settled(admin)
            with here.admin() as admin:
                await check_the_end(admin, here.audit_dsn, here.dsn, keys, receiver)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _make_room(here: Ground) -> None:
    """The ballast goes. A server that died of the full disk is given room by hand and started first."""
    try:
        with here.admin() as admin:
            admin.execute("DROP TABLE public.ballast")
    except psycopg.Error:
        subprocess.run(["mount", "-o", "remount,size=400m", str(here.embedded.data_dir)], check=True)
        if not here.embedded._is_running():
            here.embedded._start()
        with here.admin() as admin:
            admin.execute("DROP TABLE public.ballast")


@pytest.mark.parametrize("before_delivery", [True, False], ids=["message lost", "answer lost"])
async def test_a_workers_connection_cut_between_any_two_messages(
    plane: Plane, tenant: Tenant, dsn: str, audit_dsn: str, admin: psycopg.Connection, before_delivery: bool
) -> None:
    """Around claim, settlement and their commits: each is one message there and one back."""
    ledger = Receiver(seed=1)
    keys: list[str] = []

    async def handler(delivery: Delivery) -> None:
        ledger.accepted.append(delivery.idempotency_key)

    async with proxied(dsn) as (scissors, through):
        for cut_after in range(18):
            for number in range(3):
                keys.append(f"{cut_after}-{number}")
                await request_effect(plane, tenant.tenant_id, keys[-1])
            worker = Worker(name="cut", listen=False, settle_batch=2)
            worker.handler("TEST", backoff=Backoff(base=0.001, cap=0.001))(handler)
            async with Plane(dsn=through, pool_min=1, pool_max=1, retry_for=20) as cut:
                scissors.arm(cut_after, before_delivery=before_delivery)
                await worker.drain(cut)
            let_time_pass(admin)
            await worker.drain(plane)
    await check_the_end(admin, audit_dsn, dsn, keys, ledger)


async def test_a_bell_that_is_silently_dead(plane: Plane, tenant: Tenant, dsn: str, admin: psycopg.Connection) -> None:
    """The connection stands, and nothing comes through: the listener notices, and polling goes on meanwhile."""
    from persistence.database.wake import CHANNEL
    from persistence.outbox.listener import Listener

    woken = asyncio.Event()
    async with (
        proxied(dsn) as (_, through),
        _swallowing(through) as (valve, deaf),
        Listener(
            deaf, plane.settings, CHANNEL, heard=lambda _: woken.set(), connected=woken.set, probe_interval=0.05, patience=0.2
        ) as listener,
    ):
        await until(lambda: _true(listener.is_listening))
        valve.clear()
        await until(lambda: _true(not listener.is_listening))
        valve.set()
        await until(lambda: _true(listener.is_listening))
        woken.clear()
        await request_effect(plane, tenant.tenant_id)
        async with asyncio.timeout(10):
            await woken.wait()


@contextlib.asynccontextmanager
async def _swallowing(dsn: str) -> AsyncIterator[tuple[asyncio.Event, str]]:
    """A proxy that keeps what the server says to itself while the event is not set."""
    host = dsn.partition("host=")[2]
    folder = Path(host) / "deaf"
    folder.mkdir()
    valve = asyncio.Event()
    valve.set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(f"{host}/{SOCKET}")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, deaf: bool) -> None:
            while chunk := await source.read(65536):
                if not deaf or valve.is_set():
                    sink.write(chunk)
            sink.close()

        with contextlib.suppress(ConnectionError):
            await asyncio.gather(pump(reader, server_writer, deaf=False), pump(server_reader, writer, deaf=True))

    server = await asyncio.start_unix_server(serve, folder / SOCKET)
    try:
        yield valve, dsn.replace(host, str(folder))
    finally:
        server.close()


@pytest.mark.parametrize("offset", ["-1h", "+1h"])
async def test_a_workers_clock_that_is_wrong_by_an_hour(
    plane: Plane, tenant: Tenant, dsn: str, audit_dsn: str, admin: psycopg.Connection, receiver: Receiver, offset: str
) -> None:
    """Leases, waits and times are the database's; beside it works one whose clock is right."""
    import libfaketime

    library = next(Path(libfaketime.__file__).parent.rglob("libfaketime.so.1"))
    receiver.trouble = 0.2
    faked = {"LD_PRELOAD": str(library), "FAKETIME": offset, "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    shown = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"], env={**os.environ, **faked}, capture_output=True, check=True
    )
    assert abs(float(shown.stdout) - admin.execute("SELECT extract(epoch FROM now())::float").fetchone()[0]) > 3000  # type: ignore[index]
    with workers(dsn, 1, **faked), workers(dsn, 1):
        keys = await request_webhooks(plane, tenant.tenant_id, receiver.url, 100)
        await until(lambda: _true(len(set(receiver.accepted)) > 60))
        receiver.trouble = 0
        await all_settled(admin)
    [(strays,)] = admin.execute(
        "SELECT count(*) FROM orchestration_events "
        "WHERE tenant_id = %s AND occurred_at NOT BETWEEN now() - interval '10 minutes' AND now() + interval '1 minute'",
        (tenant.tenant_id,),
    ).fetchall()
    assert strays == 0
    await check_the_end(admin, audit_dsn, dsn, keys, receiver)


async def test_two_workers_of_one_name(plane: Plane, tenant: Tenant, dsn: str, audit_dsn: str, admin: psycopg.Connection) -> None:
    ledger = Receiver(seed=1)
    keys = [f"key-{number}" for number in range(60)]
    for key in keys:
        await request_effect(plane, tenant.tenant_id, key)

    async def handler(delivery: Delivery) -> None:
        ledger.accepted.append(delivery.idempotency_key)

    def twin() -> Worker:
        worker = Worker(name="twin", listen=False)
        worker.handler("TEST", concurrency=3)(handler)
        return worker

    assert sum(await asyncio.gather(*(twin().drain(plane) for _ in range(3)))) == 60
    assert len(ledger.accepted) == 60
    await check_the_end(admin, audit_dsn, dsn, keys, ledger)


async def test_workers_of_the_first_release_work_beside_new_ones(
    plane: Plane, tenant: Tenant, dsn: str, audit_dsn: str, admin: psycopg.Connection
) -> None:
    """An upgrade migrates first and replaces workers after: what the first release's worker says to the database must go on to work."""
    from tests.faults.first_worker import FirstWorker

    ledger = Receiver(seed=1)
    keys = [f"key-{number}" for number in range(200)]
    for key in keys[:20]:
        await request_effect(plane, tenant.tenant_id, key)
    old_connection, older = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    assert await FirstWorker(old_connection, "TEST").drain(ledger.accepted.append) == 20
    for key in keys[20:]:
        await request_effect(plane, tenant.tenant_id, key)
    new = Worker(name="new", listen=False)

    @new.handler("TEST", concurrency=2)
    async def handler(delivery: Delivery) -> None:
        ledger.accepted.append(delivery.idempotency_key)

    shares = await asyncio.gather(
        FirstWorker(old_connection, "TEST").drain(ledger.accepted.append),
        FirstWorker(older, "TEST").drain(ledger.accepted.append),
        new.drain(plane),
    )
    assert sum(shares) == 180
    await old_connection.close()
    await older.close()
    await check_the_end(admin, audit_dsn, dsn, keys, ledger)


async def test_a_transaction_left_open_does_not_make_claims_dear(
    plane: Plane, tenant: Tenant, dsn: str, admin_dsn: str, admin: psycopg.Connection
) -> None:
    """Rows of settled entries cannot be cleared away then; claims must not wade through them."""
    queue = OutboxQueue(plane.pool, plane.settings, "w")
    worker = Worker(name="tester", listen=False)

    @worker.handler("TEST")
    async def handler(_: Delivery) -> None:
        return None

    async def entries_read_by_a_claim() -> int:
        read = "SELECT idx_tup_read FROM pg_stat_all_indexes WHERE indexrelname = 'outbox_queue_due_idx'"
        async with plane.pool.acquire() as connection:
            await connection.execute("SELECT pg_stat_force_next_flush()")
        admin.execute("SELECT pg_stat_clear_snapshot()")
        [before] = admin.execute(read).fetchone() or (0,)
        [delivery] = await queue.claim({"TEST": 1}, 60)
        async with plane.pool.acquire() as connection:
            await connection.execute("SELECT pg_stat_force_next_flush()")
        [after] = admin.execute(read).fetchone() or (0,)
        await queue.release([delivery])
        return int(after - before)

    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="test")
        tx.effects.request_many(run, "TEST", {f"key-{number}": {} for number in range(3000)})
    admin.execute("UPDATE outbox_queue SET due_at = now() - interval '1 minute'")
    admin.execute("VACUUM outbox_queue")
    with psycopg.connect(admin_dsn) as left_open:
        left_open.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        left_open.execute("SELECT pg_current_xact_id()")
        assert await worker.drain(plane) == 3000
        await request_effect(plane, tenant.tenant_id)
        admin.execute("UPDATE outbox_marks SET swept_to = '-infinity'")
        assert await entries_read_by_a_claim() > 3000
        assert await queue.sweep(["TEST"])
        assert await entries_read_by_a_claim() < 100


@pytest.fixture
async def pgbouncer(dsn: str, tmp_path: Path) -> AsyncIterator[str]:
    """PgBouncer in transaction mode before the database; its DSN. The program is PATH's or Debian's package, unpacked."""
    program, libraries = _pgbouncer(tmp_path)
    database = dsn.partition("@/")[2].partition("?")[0]
    host = dsn.partition("host=")[2]
    folder = tmp_path / "bouncer"
    folder.mkdir(mode=0o755)
    (folder / "users.txt").write_text(f'"{SERVICE_LOGIN}" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{database} = host={host} dbname={database}\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = {folder}\nlisten_port = 6432\n"
        f"auth_type = trust\nauth_file = {folder}/users.txt\npool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 100\nignore_startup_parameters = extra_float_digits\n"
        f"logfile = {folder}/log\npidfile = {folder}/pid\n"
    )
    hand_over(folder)
    hand_over(folder / "users.txt")
    tmp_path.chmod(0o755)
    owner = folder.stat()
    process = await asyncio.create_subprocess_exec(
        str(program), str(folder / "pgbouncer.ini"), env={**os.environ, "LD_LIBRARY_PATH": str(libraries)}, stderr=asyncio.subprocess.DEVNULL,
        user=owner.st_uid or None, group=owner.st_gid or None,
    )  # fmt: skip
    await until(lambda: _true((folder / ".s.PGSQL.6432").exists()), 20)
    yield f"postgresql://{SERVICE_LOGIN}@/{database}?host={folder}&port=6432"
    process.terminate()
    await process.wait()


def _pgbouncer(tmp_path: Path) -> tuple[Path, Path]:
    """The program, and the folder of a library that it needs."""
    folder = tmp_path / "debian"
    found = program("pgbouncer", "pgbouncer", folder, "libc-ares2", "libevent-2.1-7")
    return found, next((path.parent for path in folder.rglob("libcares.so.2")), tmp_path)


async def test_a_pooler_that_was_not_named_is_recognised(pgbouncer: str) -> None:
    with pytest.raises(ServerError, match="PERSISTENCE_TRANSACTION_POOLER=true, and PERSISTENCE_DIRECT_DSN"):
        async with Plane(dsn=pgbouncer):
            pass


async def test_a_listener_behind_a_pooler_says_what_to_set(pgbouncer: str) -> None:
    settings = Settings(dsn=pgbouncer, transaction_pooler=True)  # type: ignore[arg-type]
    with capture_logs() as lines:
        async with Listener(pgbouncer, settings, "anything", heard=lambda _: None, connected=lambda: None):
            await until(lambda: _true(bool(lines)))
    assert lines[0]["event"] == "listener_lost"
    assert "PERSISTENCE_DIRECT_DSN" in lines[0]["hint"]
    assert "--poll-only" in lines[0]["hint"]


async def test_behind_pgbouncer_in_transaction_mode(
    pgbouncer: str, tenant: Tenant, dsn: str, audit_dsn: str, admin: psycopg.Connection, receiver: Receiver
) -> None:
    """More workers and writers than it has connections, none of which may keep anything in its session."""
    receiver.trouble = 0.1
    async with Plane(dsn=pgbouncer, transaction_pooler=True, pool_max=8) as plane:
        with workers(pgbouncer, 3, "--poll-only", PERSISTENCE_TRANSACTION_POOLER="1"):
            sent = await asyncio.gather(*(request_webhooks(plane, tenant.tenant_id, receiver.url, 10) for _ in range(20)))
            keyed = await request_webhooks(plane, tenant.tenant_id, receiver.url, 10, ordering_key="k")
            await until(lambda: _true(len(set(receiver.accepted)) > 150))
            receiver.trouble = 0
            await all_settled(admin)
    await check_the_end(admin, audit_dsn, dsn, [*(key for keys in sent for key in keys), *keyed], receiver)
