"""persistence dlq: what could not be delivered."""

from collections.abc import Sequence
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
    parse_id,
    print_json,
    print_rows,
    run,
    settings_for,
)
from persistence.cli.tenant import operator
from persistence.cli.trace import print_trace
from persistence.errors import ConfigurationError
from persistence.models import OutboxEntry
from persistence.plane import Plane
from persistence.queries.trace import Trace, trace_correlation

app = typer.Typer(help="Dead letters: list, show, requeue. The login needs persistence_operator to requeue.", no_args_is_help=True)

_READER = "system:dlq"
EntryId = Annotated[str, typer.Argument(help="Id of the dead letter.")]


@app.command("list")
def list_dead_letters(
    effect_type: Annotated[str | None, typer.Option("--type", help="Only this effect type.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """List the dead letters, newest first."""

    async def go() -> Sequence[OutboxEntry]:
        filters: dict[str, Any] = {"event_type": effect_type} if effect_type else {}
        async with Plane(settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            async with plane.transaction(found.tenant_id, actor=_READER) as tx:
                page = await tx.outbox.list(status="DEAD_LETTER", limit=limit, newest_first=True, **filters)
                return page.items

    entries = run(go())
    if output is Format.JSON:
        print_json(list(entries))
    else:
        print_rows(
            ("id", "type", "attempts", "since", "error"),
            [(e.id, e.event_type, e.retry_count, f"{e.updated_at:%Y-%m-%d %H:%M:%S}", _message(e)) for e in entries],
        )


@app.command("show")
def show(entry: EntryId, tenant: TenantOption = None, data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Show a dead letter: payload, last error, and the trace that led to it."""

    async def go() -> tuple[OutboxEntry, Trace]:
        async with Plane(settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            async with plane.transaction(found.tenant_id, actor=_READER) as tx:
                item = await tx.outbox.get(parse_id(entry, "ENTRY"))
                return item, await trace_correlation(tx, item.correlation_id)

    item, trace = run(go())
    if output is Format.JSON:
        print_json({"entry": item, "trace": trace})
        return
    console.print(f"{item.event_type} [bold]{item.status}[/bold] after {item.retry_count} attempts", highlight=False)
    console.print_json(data={"payload": item.payload, "error": item.error_details})
    print_trace(trace)


@app.command("requeue")
def requeue(
    entries: Annotated[list[str], typer.Argument(help="Ids of dead letters.")],
    reason: Annotated[str | None, typer.Option(help="Why, for the record.")] = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Give dead letters all their attempts again, at once. Exit status 1 when one of them was no dead letter."""
    ids = [parse_id(entry, "ENTRY") for entry in entries]
    if not ids:
        raise ConfigurationError("dlq requeue: name at least one dead letter")

    async def go() -> set[UUID]:
        async with Plane(settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            return await plane.dead_letters(found.tenant_id, actor=operator()).requeue(ids, reason)

    moved = run(go())
    left: list[Any] = [str(item) for item in ids if item not in moved]
    if output is Format.JSON:
        print_json({"requeued": [str(item) for item in moved], "no dead letters": left})
    else:
        console.print(f"{len(moved)} requeued", highlight=False)
        for item in left:
            console.print(f"{item} is no dead letter", style="yellow", highlight=False)
    if left:
        raise typer.Exit(1)


def _message(entry: OutboxEntry) -> str:
    details = entry.error_details if isinstance(entry.error_details, dict) else {}
    return f"{details.get('type', '')}: {details.get('message', '')}"[:100]
