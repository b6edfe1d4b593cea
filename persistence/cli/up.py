"""persistence up and demo: everything together, on the embedded server or on yours."""

import asyncio
import sys
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console

from persistence.cli.console import DataDir, console, set_up_logging, settings_for
from persistence.cli.tenant import operator
from persistence.cli.trace import print_trace
from persistence.cli.worker import load_worker, stop_on_signals
from persistence.database.migrator import Migrator
from persistence.database.server import open_server
from persistence.models import Tenant
from persistence.outbox import Worker
from persistence.outbox.builtin import add_builtin_handlers
from persistence.plane import Plane
from persistence.queries.trace import trace_run
from persistence.sample import add_sample_handlers, play
from persistence.settings import Settings

TENANT = "demo"
_SETTLE_SECONDS = 30.0

App = Annotated[str | None, typer.Option("--app", help="package.module:name of a Worker to run besides the built-in effect types.")]


def up(app: App = None, data_dir: DataDir = None) -> None:
    """Start everything: server, schema, a first tenant, a worker, a small sample on the first start. Serves until Ctrl-C."""
    _run(settings_for(data_dir), app, stays=True)


def demo(data_dir: DataDir = None) -> None:
    """Do the same once and leave."""
    _run(settings_for(data_dir), None, stays=False)


def _run(settings: Settings, app: str | None, *, stays: bool) -> None:
    set_up_logging("warning", to_terminal=sys.stderr.isatty())
    worker = add_builtin_handlers(load_worker(app) if app else Worker())
    add_sample_handlers(worker)
    asyncio.run(_serve(settings, worker, stays=stays))


async def _serve(settings: Settings, worker: Worker, *, stays: bool) -> None:
    stop = stop_on_signals()
    async with open_server(settings) as server:
        if not server.is_embedded and server.admin_dsn:
            Migrator(server.admin_dsn).up()
        async with Plane(settings) as plane:
            console.print(
                f"server   {'embedded, ' + str(settings.data_dir) if server.is_embedded else 'by PERSISTENCE_DSN'}", highlight=False
            )
            tenant, is_first = await _first_tenant(plane)
            console.print(f"tenant   {tenant.name} {tenant.tenant_id}", highlight=False)
            delivering = asyncio.create_task(worker.run(plane, stop))
            try:
                if is_first or not stays:
                    await _show_sample(plane, tenant, stop)
                if stays and not stop.is_set():
                    _say_ready(console, server.dsn)
                    await asyncio.wait({delivering, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stop.set()
                await delivering


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
            if not await tx.effects.count(run_id=runs, status="PENDING"):
                return True
        await asyncio.sleep(0.05)
    return False


def _say_ready(target: Console, dsn: str) -> None:
    target.print("\n[bold green]ready[/bold green]", dsn, highlight=False, soft_wrap=True)
    target.print(
        "         Ctrl-C stops it; try: persistence trace --help, persistence dlq list, persistence replay --verify",
        highlight=False,
    )
