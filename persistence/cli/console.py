"""What commands share: options, output for people and for machines, the tenant meant."""

import asyncio
import atexit
import logging
import os
import sys
from collections.abc import Coroutine, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import UUID

import structlog
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from persistence.encoding import encode
from persistence.errors import ConfigurationError, NotFound, PermissionDenied, PersistenceError
from persistence.logs import LogSink, open_logs
from persistence.logs.agents import use_sink
from persistence.logs.bridges import LineHandler, redacting, structlog_processor
from persistence.logs.shipping import Shipper
from persistence.models import Model, Tenant
from persistence.models.base import in_utc
from persistence.plane import Plane, settings_with
from persistence.settings import Settings

try:
    import uvloop
except ImportError:  # it does not run on Windows
    uvloop = None  # type: ignore[assignment]

T = TypeVar("T")


def _width(stream: Any) -> int | None:
    """None: as wide as the terminal, or as COLUMNS says. What goes into a file or a pipe is not folded: ids stay whole."""
    return None if stream.isatty() or "COLUMNS" in os.environ else 1000


console = Console(width=_width(sys.stdout))
error_console = Console(stderr=True, width=_width(sys.stderr))


class Format(StrEnum):
    """table: for people. json: for machines, one document on standard output."""

    TABLE = "table"
    JSON = "json"


DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Data directory of the embedded server.", envvar="PERSISTENCE_DATA_DIR")
]
OutputFormat = Annotated[Format, typer.Option("--format", help="How data are printed.")]
TenantOption = Annotated[
    str | None, typer.Option("--tenant", help="Name or id of the tenant; may be left out while there is only one.")
]


class RunByDefault(TyperGroup):
    """A group whose command ``run`` is meant when none is named: ``persistence fit SUITE`` is ``persistence fit run SUITE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


def settings_for(data_dir: Path | None, **overrides: Any) -> Settings:
    """Settings from the environment, with what the command line says on top."""
    given = {name: value for name, value in overrides.items() if value is not None}
    if data_dir is not None:
        given["data_dir"] = data_dir
    return settings_with(None, given)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a command's coroutine, on a faster loop where there is one."""
    if uvloop is not None:
        return uvloop.run(work)
    return asyncio.run(work)


def print_error(error: PersistenceError) -> None:
    """What happened, and what to do next, on standard error."""
    error_console.print(f"error: {error.message}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    if error.hint:
        error_console.print(f"       {error.hint}", markup=False, highlight=False, soft_wrap=True)


def print_json(document: Any) -> None:
    sys.stdout.write(encode(plain(document)) + "\n")


def plain(value: Any) -> Any:
    """Models, ids and times as JSON has them."""
    if isinstance(value, Model):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text("" if cell is None else str(cell)) for cell in row))
    console.print(table)


async def find_tenant(plane: Plane, wanted: str | None) -> Tenant:
    """The tenant that a command is meant for. Raises NotFound, or ConfigurationError when it must be named."""
    try:
        tenants = await plane.tenants.list()
    except PermissionDenied:  # a login that is no operator knows its own by their ids
        if wanted is None:
            raise ConfigurationError("this login may not list tenants", hint="say which with --tenant ID") from None
        return await plane.tenants.get(parse_id(wanted, "--tenant"))
    if wanted is None:
        if len(tenants) == 1:
            return tenants[0]
        raise ConfigurationError(
            "there is no tenant yet" if not tenants else f"there are {len(tenants)} tenants",
            hint="persistence tenant create NAME" if not tenants else "say which with --tenant",
        )
    while tenants:
        for tenant in tenants:
            if wanted in {tenant.name, str(tenant.tenant_id)}:
                return tenant
        tenants = await plane.tenants.list(after=tenants[-1].tenant_id)
    raise NotFound(f"there is no tenant {wanted!r}", hint="List the tenants with: persistence tenant list")


def parse_id(text: str, what: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ConfigurationError(f"{what}: {text!r} is no UUID") from None


def parse_moment(text: str, what: str, complaint: str = "no time") -> datetime:
    """Reads an ISO 8601 time; one without a time zone is in UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{what}: {text!r} is {complaint}", hint="such as 2026-01-31T12:00:00Z") from None
    return in_utc(moment)


def set_up_logging(
    level: str = "info", *, to_terminal: bool, settings: Settings | None = None, agent: str = "system:command"
) -> None:
    """Log lines on standard error: for people in a terminal, JSON Lines elsewhere. settings: of a process that stays: lines go to its log files,
    too, as logging.yaml has it. agent: who it is there.
    """
    lowest = logging.getLevelNamesMapping()[level.upper()]
    sink = None if settings is None else _open_sink(settings, agent)
    to_files = [] if sink is None else [structlog_processor(sink, agent, lowest)]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=True) if to_terminal else structlog.processors.JSONRenderer(serializer=_dumps)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *to_files,
            redacting,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(lowest if sink is None else logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _open_sink(settings: Settings, agent: str) -> LogSink:
    """The log files of this process, for as long as it lives."""
    sink = open_logs(settings.config_folder, settings.data_dir)
    use_sink(sink)
    shippers: list[Shipper] = []

    def ship(sink: LogSink) -> None:
        while shippers:
            shippers.pop().close()
        if sink.config.logstash is not None:
            shippers.append(Shipper(sink, sink.config.logstash))

    def close() -> None:
        sink.close()
        while shippers:
            shippers.pop().close()

    ship(sink)
    sink.on_reload = ship
    atexit.register(close)
    logging.getLogger().addHandler(LineHandler(sink, agent))
    return sink


def _dumps(document: Any, **_: Any) -> str:
    return encode(plain(document))
