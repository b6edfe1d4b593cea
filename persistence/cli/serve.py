"""persistence serve: the HTTP service and the console."""

import asyncio
import sys
from typing import Annotated

import typer

from persistence.cli.console import DataDir, console, run, set_up_logging, settings_for
from persistence.cli.worker import lock_on_signal, stop_on_signals
from persistence.database.pool import check_signing
from persistence.ingest import open_ingest
from persistence.plane import Plane
from persistence.settings import LIVE_SOCKET, MEBIBYTE
from persistence.snapshots.scheduling import Scheduler, read_snapshot_config

PORT = 8640
_POOL = 30

Host = Annotated[str, typer.Option(help="The address to listen on. Put a proxy with TLS before it where that is not this host.")]


def serve_command(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any that is free.")] = PORT,
    max_body: Annotated[int, typer.Option(min=1, max=1024, help="MiB of a request's body.")] = 1,
    max_data: Annotated[int, typer.Option(min=1, max=1024, help="MiB of posted data.")] = 50,
    requests_per_second: Annotated[int, typer.Option(min=1, help="Of one token.")] = 100,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    data_dir: DataDir = None,
) -> None:
    """Serve /v1, /console, /healthz, /readyz and /metrics until SIGTERM or Ctrl-C."""
    set_up_logging(log_level, to_terminal=sys.stderr.isatty(), settings=settings_for(data_dir), agent="system:service")

    # Takes a third of a second that no other command needs to wait for.
    from persistence.service import create_app  # noqa: PLC0415
    from persistence.service.server import listen, serve  # noqa: PLC0415

    async def go() -> None:
        stop = stop_on_signals()
        settings = settings_for(data_dir)
        with listen(host, port, settings.data_dir / LIVE_SOCKET) as listening:
            if "pool_max" not in settings.model_fields_set:
                settings = settings.model_copy(update={"pool_max": max(_POOL, settings.pool_min)})
            async with (
                Plane(settings=settings) as plane,
                open_ingest(settings, plane, max_bytes=max_data * MEBIBYTE, writes_apart=True) as ingest,
            ):
                lock_on_signal(plane)
                await check_signing(plane.pool, settings)
                ingest.rules.rules()  # says now what is wrong with them
                scheduling = asyncio.create_task(Scheduler(plane, read_snapshot_config(settings.config_folder)).keep())
                app = create_app(plane, ingest, max_body=max_body * MEBIBYTE, requests_per_second=requests_per_second)
                serving = asyncio.create_task(serve(app, listening, stop))
                console.print(f"console  {listening.url}/console/", highlight=False, soft_wrap=True)
                console.print("         persistence token issue NAME --role operator makes a token to log in with", highlight=False)
                await serving
                scheduling.cancel()
                await asyncio.gather(scheduling, return_exceptions=True)

    run(go())
