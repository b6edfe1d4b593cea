"""persistence events: the log as it grows."""

import asyncio
import sys
from collections.abc import Collection, Coroutine, Sequence
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.text import Text

from persistence.cli.console import (
    DataDir,
    Format,
    OutputFormat,
    TenantOption,
    console,
    find_tenant,
    plain,
    run,
    settings_for,
)
from persistence.cli.reading import READER
from persistence.cli.worker import stop_on_signals
from persistence.encoding import encode
from persistence.errors import ConfigurationError
from persistence.models import Event, Position
from persistence.plane import Plane
from persistence.queries.subscription import follow
from persistence.queries.words import clock

app = typer.Typer(help="The log of events.", no_args_is_help=True)


@app.command("tail")
def tail(
    following: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is recorded from now on, until Ctrl-C.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=1000, help="So many of the newest to begin with.")] = 20,
    after: Annotated[str | None, typer.Option(help="Begin after this position instead, as the JSON lines give it.")] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only events of this type; may be given more than once.")
    ] = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Print the newest events, and with --follow all that come: none is missed, none comes twice. As JSON Lines each has its position."""
    begin = _position(after) if after is not None else None
    wanted = frozenset(types or ())

    async def go() -> None:
        stop = stop_on_signals()
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            async with plane.transaction(found.tenant_id, actor=READER) as tx:
                if begin is None:
                    page, position = await tx.events.newest(lines, wanted)
                else:
                    page, position = ([], begin) if following else (await tx.events.read_each(begin), begin)
            _print([item for item in page if not wanted or item[0].event_type in wanted], output)
            if following:
                await _until(stop, _follow(plane, found.tenant_id, position, wanted, output))

    run(go())


async def _follow(plane: Plane, tenant_id: UUID, position: Position, types: Collection[str], output: Format) -> None:
    async for page, _ in follow(plane, tenant_id, position, actor=READER, types=types):
        _print(page, output)


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Does the work until it ends or ``stop`` is set. Raises what the work raises."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        working.result()
    working.cancel()


def _print(page: Sequence[tuple[Event, Position]], output: Format) -> None:
    for event, position in page:
        if output is Format.JSON:
            sys.stdout.write(encode({"position": str(position), **plain(event)}) + "\n")
            continue
        console.print(
            Text.assemble(
                (f"{clock(event.occurred_at)} ", "dim"),
                f"{event.event_type:<24} ",
                (f"{event.aggregate_id} ", "dim"),
                (f"by {event.actor}", "cyan"),
            ),
            soft_wrap=True,
        )
    sys.stdout.flush()


def _position(text: str) -> Position:
    try:
        return Position.parse(text)
    except ValueError:
        raise ConfigurationError(
            f"--after: {text!r} is no position", hint="such as 0-1234-5678, as the JSON lines give it"
        ) from None
