"""persistence logs, persistence config: what processes log, and how they are told to."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from persistence.cli.console import (
    DataDir,
    Format,
    OutputFormat,
    TenantOption,
    console,
    find_tenant,
    parse_moment,
    print_json,
    print_rows,
    run,
    settings_for,
)
from persistence.cli.tenant import operator
from persistence.cli.worker import stop_on_signals
from persistence.configuration import Section, parse_duration
from persistence.encoding import encode
from persistence.errors import ConfigurationError
from persistence.logs import read_log_config
from persistence.logs.configuration import FILE as LOGGING
from persistence.logs.configuration import NAME
from persistence.logs.reading import LineFilter, follow_lines, log_files, read_lines
from persistence.logs.sink import check_stream
from persistence.models import Event
from persistence.plane import Plane
from persistence.queries.words import clock
from persistence.settings import Settings
from persistence.snapshots.scheduling import FILE as SNAPSHOTS
from persistence.snapshots.scheduling import read_snapshot_config
from persistence.stores.memory.configuration import FILE as VECTORS
from persistence.stores.memory.configuration import read_vector_config
from persistence.vault import read_vault_config
from persistence.vault.configuration import FILE as VAULT

app = typer.Typer(help="Log lines of processes, and of agents.", no_args_is_help=True)
config = typer.Typer(help="The configuration files.", no_args_is_help=True)

Agent = Annotated[str | None, typer.Option(help="Of this agent; with a dot at its end: of all below it.")]


def log_folder(settings: Settings) -> Path:
    """Where the log files are. Raises ConfigurationError."""
    output = read_log_config(settings.config_folder).output
    return (output or settings.data_dir / "logs" / NAME).parent


@app.command("tail")
def tail(
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with those to come, until Ctrl-C.")] = False,
    agent: Agent = None,
    event: Annotated[str | None, typer.Option(help="Of this event.")] = None,
    level: Annotated[str | None, typer.Option(help="Of this level, or graver.")] = None,
    since: Annotated[str | None, typer.Option(help="Not older than this time, or so long ago: 15m, 2h.")] = None,
    stream: Annotated[str | None, typer.Option(help="Of this stream; all unless given.")] = None,
    text: Annotated[str | None, typer.Option(help="With this text in it.")] = None,
    correlation: Annotated[str | None, typer.Option(help="Of this correlation.")] = None,
    output: OutputFormat = Format.TABLE,
    data_dir: DataDir = None,
) -> None:
    """Show the last lines of the log files, the newest last."""
    folder = log_folder(settings_for(data_dir))
    check_stream(stream)
    wanted = LineFilter(since=_moment(since), agent=agent, event=event, level=level, correlation_id=correlation, text=text)
    found: list[dict[str, Any]] = []
    for line in read_lines(log_files(folder, stream), wanted):
        found.append(line)
        if since is None and len(found) > 2 * lines + 1000:
            del found[:-lines]
    for line in found if since is not None else found[len(found) - min(lines, len(found)) :]:
        _print(line, output)
    if follow:
        try:
            for line in follow_lines(folder, stream, wanted):
                _print(line, output)
                sys.stdout.flush()
        except KeyboardInterrupt:
            return


@app.command("follow")
def follow_events(
    agent: Annotated[
        str | None, typer.Option(help="Events of this actor; with a dot, slash or colon at its end: of all below it.")
    ] = None,
    tenant: TenantOption = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=1000, help="How many of the last to begin with.")] = 20,
    once: Annotated[bool, typer.Option("--once", help="Do not wait for more.")] = False,
    output: OutputFormat = Format.TABLE,
    data_dir: DataDir = None,
) -> None:
    """Show a tenant's log of events as lines of its agents: what they did, as durable as it gets."""

    async def go() -> None:
        stop = stop_on_signals()
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            async with plane.transaction(found.tenant_id, actor=operator()) as tx:
                newest, position = await tx.events.newest(lines)
            for event, _ in reversed(newest):
                _print_event(event, agent, output)
            while not once and not stop.is_set():
                async with plane.transaction(found.tenant_id, actor=operator()) as tx:
                    events, position = await tx.events.read(position)
                for event in events:
                    _print_event(event, agent, output)
                sys.stdout.flush()
                if not events:
                    await asyncio.wait({asyncio.create_task(stop.wait())}, timeout=0.5)

    run(go())


@config.command("check")
def check(data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Read the configuration files, and say what they come to. Exit status 2 when one is wrong."""
    settings = settings_for(data_dir)
    folder = settings.config_folder
    found: dict[str, Section] = {
        VAULT: read_vault_config(folder),
        LOGGING: read_log_config(folder),
        SNAPSHOTS: read_snapshot_config(folder),
        VECTORS: read_vector_config(folder),
    }
    known = set(found)
    unknown = sorted(path.name for path in folder.glob("*.y*ml") if path.name not in known) if folder.is_dir() else []
    if unknown:
        raise ConfigurationError(f"{folder / unknown[0]}: is no file of this package", hint=f"it knows {', '.join(sorted(known))}")
    if output is Format.JSON:
        print_json({name: section.model_dump(mode="json") for name, section in found.items()})
        return
    for name, section in found.items():
        where = folder / name
        console.print(
            f"{where}{'' if where.exists() else ' (is not there: the defaults)'}", style="bold", highlight=False, soft_wrap=True
        )
        print_rows(("key", "value"), [(key, _shown(value)) for key, value in section])


def _shown(value: Any) -> str:
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g} s"
    return "" if value is None else str(value)


def _print(line: dict[str, Any], output: Format) -> None:
    if output is Format.JSON:
        sys.stdout.write(encode(line) + "\n")
        return
    known = ("timestamp", "level", "agent", "event", "summary")
    rest = "  ".join(
        f"{name}={value if isinstance(value, str) else encode(value)}" for name, value in line.items() if name not in known
    )
    moment, level, agent, event, summary = (str(line.get(name, "")) for name in known)
    text = f"{moment[:23]} {level:8} {agent}  {event}: {summary}{'  ' + rest if rest else ''}"
    console.print("".join(c if c.isprintable() else "·" for c in text), markup=False, highlight=False, soft_wrap=True)


def _print_event(event: Event, agent: str | None, output: Format) -> None:
    if agent is not None and event.actor != agent and not (agent[-1] in ".:/" and event.actor.startswith(agent)):
        return
    line = {
        "timestamp": event.occurred_at.isoformat().replace("+00:00", "Z"),
        "level": "info",
        "agent": event.actor,
        "event": event.event_type.lower(),
        "summary": _summary(event),
        "correlation_id": str(event.correlation_id),
        "event_id": str(event.id),
    }
    if output is Format.JSON:
        _print(line, output)
    else:
        console.print(f"{clock(event.occurred_at)} {event.actor}  {line['summary']}", markup=False, highlight=False, soft_wrap=True)


def _summary(event: Event) -> str:
    """An event in a sentence, as far as its own data go."""
    what = event.event_type.replace("_", " ").lower()
    names = [
        event.event_data.get(key)
        for key in ("run_type", "step_type", "tool_name", "effect_type", "signal_type", "name", "purpose", "reason")
    ]
    named = next((str(name) for name in names if isinstance(name, str)), "")
    return f"{what} {named}".strip() + f" ({event.aggregate_type.lower()} {_short(event.aggregate_id)})"


def _short(item_id: UUID) -> str:
    return str(item_id)[-12:]


def _moment(since: str | None) -> datetime | None:
    if since is None:
        return None
    try:
        return datetime.now(UTC) - parse_duration(since)
    except ValueError:
        return parse_moment(since, "--since", "neither a time nor a duration")
