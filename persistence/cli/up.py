"""persistence up and demo: everything together, on the embedded server or on yours."""

import asyncio
import contextlib
import os
import sys
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import structlog
import typer

from persistence.cli.console import DataDir, console, run, set_up_logging, settings_for
from persistence.cli.serve import PORT
from persistence.cli.tenant import operator
from persistence.cli.trace import print_trace
from persistence.cli.worker import Program, load_app, stop_on_signals
from persistence.database.migrator import Migrator
from persistence.database.server import open_server
from persistence.errors import ConfigurationError, NotAuthenticated, PersistenceError
from persistence.executor import Executor
from persistence.flows import Flows
from persistence.gates.checks import shipped_suites
from persistence.gates.fit import Options, Runner
from persistence.gates.record import record
from persistence.ingest import open_ingest
from persistence.models import Role, Tenant
from persistence.outbox import Worker
from persistence.outbox.builtin import add_builtin_handlers
from persistence.plane import Plane
from persistence.queries.database_state import database_state
from persistence.queries.trace import trace_run
from persistence.repositories.memories import EMBED
from persistence.sample import add_sample_handlers, play
from persistence.settings import LIVE_SOCKET, Settings
from persistence.stores.memory import Backends

_log = structlog.get_logger(__name__)

TENANT = "demo"
_SETTLE_SECONDS = 30.0
_HOST = "127.0.0.1"

_LOGIN = "console.token"
_DAY = timedelta(days=1)

App = Annotated[
    str | None, typer.Option("--app", help="package.module:name of a Worker or of Flows to run besides the built-in effect types.")
]


Port = Annotated[int | None, typer.Option(min=0, max=65535, help=f"Of service and console; {PORT} where it is free, else any.")]


def up(app: App = None, port: Port = None, data_dir: DataDir = None) -> None:
    """Start everything: server, schema, a first tenant, a worker, service and console, a small sample on the first start. Until Ctrl-C."""
    _run(settings_for(data_dir), app, port, stays=True)


def demo(data_dir: DataDir = None) -> None:
    """Do the same once and leave."""
    _run(settings_for(data_dir), None, None, stays=False)


def _run(settings: Settings, app: str | None, port: int | None, *, stays: bool) -> None:
    set_up_logging("warning", to_terminal=sys.stderr.isatty())
    given = load_app(app) if app else Program(None, None)
    worker = given.worker or Worker()
    add_sample_handlers(worker)
    run(_work(settings, worker, given.flows, port, stays=stays))


async def _work(settings: Settings, worker: Worker, flows: Flows | None, port: int | None, *, stays: bool) -> None:
    stop = stop_on_signals()
    async with open_server(settings) as server:
        if not server.is_embedded and server.admin_dsn:
            Migrator(server.admin_dsn).up()
        async with Plane(settings=settings) as plane, Backends(plane) as backends:
            console.print(
                f"server   {'embedded, ' + str(settings.data_dir) if server.is_embedded else 'by PERSISTENCE_DSN'}", highlight=False
            )
            tenant, is_first = await _first_tenant(plane)
            console.print(f"tenant   {tenant.name} {tenant.tenant_id}", highlight=False)
            delivering = asyncio.create_task(add_builtin_handlers(worker, backends=backends).run(plane, stop))
            executing = asyncio.create_task(Executor(flows).run(plane, stop)) if flows else None
            try:
                if is_first or not stays:
                    await _show_sample(plane, tenant, stop)
                if stays and not stop.is_set():
                    await _stay(plane, tenant, port, delivering, stop)
            finally:
                stop.set()
                await delivering
                if executing is not None:
                    await executing


async def _first_tenant(plane: Plane) -> tuple[Tenant, bool]:
    tenants = await plane.tenants.list()
    for tenant in tenants:
        if tenant.name == TENANT:
            return tenant, False
    return await plane.tenants.create(TENANT, actor=operator()), True


async def _show_sample(plane: Plane, tenant: Tenant, stop: asyncio.Event) -> None:
    runs = await play(plane, tenant.tenant_id)
    shown = runs[0]
    settled = await _wait_until_settled(plane, tenant.tenant_id, runs, stop)
    async with plane.transaction(tenant.tenant_id, actor="system:demo") as tx:
        trace = await trace_run(tx, shown)
    console.print(
        f"sample   {len(runs)} orchestrations{'' if settled else ', still being delivered'}; this is one of them:\n",
        highlight=False,
    )
    print_trace(trace)


async def _wait_until_settled(plane: Plane, tenant_id: UUID, runs: list[UUID], stop: asyncio.Event) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SETTLE_SECONDS
    while loop.time() < deadline and not stop.is_set():
        async with plane.transaction(tenant_id, actor="system:demo") as tx:
            if not await tx.effects.count(run_id=runs, status="PENDING") + await tx.effects.count(
                effect_type=EMBED, status="PENDING"
            ):
                return True
        await asyncio.sleep(0.05)
    return False


async def _stay(plane: Plane, tenant: Tenant, port: int | None, delivering: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Serves until it is told to stop, or the worker ends."""
    # Takes a third of a second that no other command needs to wait for.
    from persistence.service import create_app  # noqa: PLC0415
    from persistence.service.server import listen, serve  # noqa: PLC0415

    beside = plane.settings.data_dir / LIVE_SOCKET
    async with AsyncExitStack() as stack:
        try:
            listening = stack.enter_context(listen(_HOST, PORT if port is None else port, beside))
        except ConfigurationError:
            if port is not None:
                raise
            listening = stack.enter_context(listen(_HOST, 0, beside))  # the usual one is taken
        ingest = await stack.enter_async_context(open_ingest(plane.settings, plane))
        app = create_app(plane, ingest)
        serving = asyncio.create_task(serve(app, listening, stop))
        judging = asyncio.create_task(_judge(plane))
        code = app.state.sessions.code(await _console_token(plane, tenant))
        login = f"{listening.url}/console/login?code={code}"
        console.print("\n[bold green]ready[/bold green]", plane.server.dsn, highlight=False, soft_wrap=True)
        console.print(f"console  {login}", highlight=False, soft_wrap=True)
        console.print(
            f"         good once, for ten minutes; later with the token in {plane.settings.data_dir / _LOGIN}",
            highlight=False,
            soft_wrap=True,
        )
        console.print("         Ctrl-C stops it; try: persistence runs list, persistence dlq list", highlight=False)
        await asyncio.wait({delivering, serving, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        judging.cancel()
        await asyncio.gather(judging, return_exceptions=True)
        await serving


async def _console_token(plane: Plane, tenant: Tenant) -> str:
    """The token of this data directory's console: made at the first start, and kept in a file that only its owner can read."""
    place = plane.settings.data_dir / _LOGIN
    with contextlib.suppress(FileNotFoundError, NotAuthenticated):
        text = place.read_text().strip()
        if (await plane.tokens.authenticate(text)).tenant_id == tenant.tenant_id:
            return text
    text, _ = await plane.tokens.issue(tenant.tenant_id, "console", role=Role.ADMIN, acts_as=operator(), actor=operator())
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    return text


async def _judge(plane: Plane) -> None:
    """Holds the database to the law once a day, and keeps what came of it for the console."""
    while True:
        try:
            await _judge_once(plane)
        except PersistenceError as error:
            _log.warning("gates_not_run", error=str(error))
        await asyncio.sleep(_DAY.total_seconds() / 24)


async def _judge_once(plane: Plane) -> None:
    """Runs the gates if that was not done within a day; after the first time only on what is newer, where that is expensive."""
    server, settings = plane.server, plane.settings
    last = (await database_state(server.audit_dsn, settings)).gates
    if last is not None and datetime.now(UTC) - last.ran_at < _DAY:
        return
    options = Options(jobs=1, since=last.ran_at - _DAY if last else None)
    begun = time.monotonic()
    outcomes = await Runner(server.audit_dsn, server.dsn, settings, options).run(shipped_suites())
    await record(server.audit_dsn, settings, outcomes, options, seconds=time.monotonic() - begun, actor="system:gates")
