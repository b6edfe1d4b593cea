"""persistence worker: the process that delivers effects and executes flows."""

import asyncio
import contextlib
import importlib
import os
import signal
import sys
from dataclasses import dataclass
from typing import Annotated

import structlog
import typer
from prometheus_client import start_http_server

from persistence.cli.console import DataDir, run, set_up_logging, settings_for
from persistence.errors import ConfigurationError
from persistence.executor import Executor
from persistence.flows import Flows
from persistence.outbox import Worker
from persistence.outbox.builtin import add_builtin_handlers
from persistence.outbox.nats_handler import NatsConnection, NatsSettings
from persistence.outbox.processes import Supervisor, beat, process_number, this_command_without
from persistence.plane import Plane
from persistence.secrets.recorded_vault import openers_of
from persistence.stores.memory import Backends

_log = structlog.get_logger(__name__)


def worker(
    app: Annotated[
        str | None, typer.Option("--app", help="package.module:name of a Worker or of Flows; package.module: what it has of both.")
    ] = None,
    builtin: Annotated[
        bool, typer.Option("--builtin/--no-builtin", help="Whether to deliver HTTP_POST and LOG besides the app's own types.")
    ] = True,
    poll_only: Annotated[bool, typer.Option("--poll-only", help="Do not LISTEN, for a pooler that forbids it.")] = False,
    poll_interval: Annotated[float | None, typer.Option(min=0.001, max=86_400, help="Seconds between looks at the queue.")] = None,
    lease: Annotated[
        float | None, typer.Option(min=0.1, max=86_400, help="Seconds an entry is held before another worker may take it.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="How many processes work; those that die, hang or grow are replaced.")
    ] = 1,
    max_memory: Annotated[
        int | None,
        typer.Option(min=32, help="MiB beyond which a process finishes what it holds and is replaced (with --processes)."),
    ] = None,
    unknown_after: Annotated[
        float | None,
        typer.Option(
            min=0, help="Seconds until entries that nobody handles go the way to the dead letters; 0, and by default: never."
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Serve Prometheus metrics here; the second of several processes on the next port, and so on."
        ),
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="The address that metrics are served on.")] = "127.0.0.1",
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    data_dir: DataDir = None,
) -> None:
    """Deliver effects, and execute flows, until SIGTERM or Ctrl-C; then finish or hand back what is held."""
    set_up_logging(log_level, to_terminal=sys.stderr.isatty(), settings=settings_for(data_dir), agent="system:worker")
    given_app = load_app(app) if app else Program(None, None)
    chosen = given_app.worker or Worker()
    if poll_only:
        chosen.listen = False
    if poll_interval is not None:
        chosen.poll_interval = poll_interval
    if lease is not None:
        chosen.lease = lease
    if unknown_after is not None:
        chosen.unknown_after = unknown_after or None

    async def go() -> None:
        stop = stop_on_signals()
        if metrics_port is not None:
            offer_metrics(metrics_host, metrics_port + process_number() - 1)
        beating = asyncio.create_task(beat(stop, max_memory))
        async with contextlib.AsyncExitStack() as stack:
            plane = await stack.enter_async_context(Plane(settings=settings_for(data_dir)))
            backends = await stack.enter_async_context(Backends(plane))
            lock_on_signal(plane)
            warn_of_closed_vault(plane)
            if builtin:
                given = NatsSettings()
                nats = None if given.url is None else await stack.enter_async_context(NatsConnection(given))
                add_builtin_handlers(chosen, backends=backends, nats=nats)
            if given_app.flows:
                executor = Executor(given_app.flows, name=chosen.name, listen=chosen.listen, poll_interval=chosen.poll_interval)
                if lease is not None:
                    executor.lease = lease
                async with asyncio.TaskGroup() as both:
                    if chosen.handlers:
                        both.create_task(chosen.run(plane, stop))
                    both.create_task(executor.run(plane, stop))
            else:
                await chosen.run(plane, stop)
        await beating

    async def supervise() -> None:
        command = this_command_without(("--processes",))
        await Supervisor(command, processes, silence=max(60.0, 2 * chosen.lease), grace=chosen.grace + 15).run(stop_on_signals())

    run(supervise() if processes > 1 else go())


def offer_metrics(host: str, port: int) -> None:
    """Serves this process's metrics on a thread of its own. Raises ConfigurationError when the port cannot be had."""
    try:
        start_http_server(port, host)
    except OSError as error:
        raise ConfigurationError(
            f"--metrics-port: cannot serve on {host}:{port}: {error.strerror}", hint="choose another"
        ) from error


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets. A second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


def lock_on_signal(plane: Plane) -> None:
    """Locks the vault on SIGUSR1, as ``persistence vault lock`` does: at once, and until somebody unlocks it."""

    def on_signal() -> None:
        plane.vault.vault.lock()
        with contextlib.suppress(OSError):  # a folder that cannot be written has no mark either
            plane.vault.vault.lock_everywhere()

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, on_signal)


def warn_of_closed_vault(plane: Plane) -> None:
    """Says at the start what would otherwise be noticed at the first secret."""
    vault = plane.vault.vault
    if vault.exists and (vault.is_locked_by_command or not openers_of(plane.settings)):
        hint = "persistence vault unlock" if vault.is_locked_by_command else "set PERSISTENCE_VAULT_PASSPHRASE, _KEY or _KEY_FILE"
        _log.warning("vault_is_closed", hint=hint, what="effects that need a secret wait until it is open")


@dataclass(frozen=True)
class Program:
    """What a program gives to work with: handlers of effects, and flows."""

    worker: Worker | None
    flows: Flows | None


def load_app(place: str) -> Program:
    """The Worker or the Flows that ``package.module:name`` names; of ``package.module`` alone, what it has of both. Raises ConfigurationError."""
    module_name, _, attribute = place.partition(":")
    if not module_name or place.endswith(":"):
        raise ConfigurationError(f"--app: {place!r} is not of the form package.module or package.module:name")
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"--app: cannot import {module_name}: {error}") from error
    if attribute:
        found = getattr(module, attribute, None)
        if not isinstance(found, Worker | Flows):
            raise ConfigurationError(
                f"--app: {place} is {type(found).__name__}, neither a persistence.outbox.Worker nor a persistence.flows.Flows"
            )
        return Program(found, None) if isinstance(found, Worker) else Program(None, found)
    workers = {id(one): one for one in vars(module).values() if isinstance(one, Worker)}
    flows = {id(one): one for one in vars(module).values() if isinstance(one, Flows)}
    if not workers and not flows:
        raise ConfigurationError(f"--app: {module_name} has neither a Worker nor Flows", hint="name one: package.module:name")
    if len(workers) > 1 or len(flows) > 1:
        raise ConfigurationError(f"--app: {module_name} has several", hint="name one: package.module:name")
    return Program(next(iter(workers.values()), None), next(iter(flows.values()), None))
