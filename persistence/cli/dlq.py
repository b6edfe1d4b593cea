"""persistence dlq: what could not be delivered, and what becomes of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
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
    parse_id,
    parse_moment,
    print_json,
    print_rows,
    run,
    settings_for,
)
from persistence.cli.reading import READER, ask
from persistence.cli.tenant import operator
from persistence.cli.trace import print_trace
from persistence.dead_letters import DeadLetters
from persistence.errors import ConfigurationError
from persistence.models import Event, OutboxEntry
from persistence.plane import Plane
from persistence.queries.dead_letters import (
    DeadLetterFilter,
    DeadLetterGroup,
    attempts_of,
    dead_letter_groups,
    dead_letter_ids,
)
from persistence.queries.trace import Trace, trace_correlation
from persistence.transaction import Transaction

app = typer.Typer(
    help="Dead letters: list, show, requeue, discard. The login needs persistence_operator to change them.", no_args_is_help=True
)

_BITES_A_SECOND = 10
EntryId = Annotated[str, typer.Argument(help="Id of the dead letter.")]
EntryIds = Annotated[list[str] | None, typer.Argument(help="Ids of dead letters; or say which with the options.")]
TypeOption = Annotated[str | None, typer.Option("--type", help="Only this effect type.")]
ErrorOption = Annotated[str | None, typer.Option("--error", help="Only with this class of error, such as ConnectError.")]
DestinationOption = Annotated[str | None, typer.Option(help="Only to this destination.")]
SinceOption = Annotated[str | None, typer.Option(help="Only dead since this time (ISO 8601).")]
UntilOption = Annotated[str | None, typer.Option(help="Only dead before this time (ISO 8601).")]
AllOption = Annotated[bool, typer.Option("--all", help="All dead letters of the tenant.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say which it would be, and change nothing.")]
RateOption = Annotated[float | None, typer.Option(min=0.1, help="At most so many a second.")]


@app.command("list")
def list_dead_letters(
    each: Annotated[bool, typer.Option("--each", help="One line a dead letter, the newest first.")] = False,
    effect_type: TypeOption = None,
    error: ErrorOption = None,
    destination: DestinationOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Lines at most, with --each.")] = 100,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """List the dead letters by effect type, error and destination."""
    wanted = _filter(effect_type, error, destination, since, until)

    async def question(tx: Transaction) -> tuple[list[DeadLetterGroup], list[OutboxEntry]]:
        if not each:
            return await dead_letter_groups(tx, wanted), []
        ids = [item async for page in dead_letter_ids(tx, wanted) for item in page]
        entries = await tx.outbox.get_many(ids[-limit:])
        return [], sorted(entries, key=lambda entry: str(entry.updated_at), reverse=True)

    groups, entries = ask(question, tenant, data_dir)
    if output is Format.JSON:
        print_json(entries if each else groups)
    elif each:
        print_rows(
            ("id", "type", "destination", "attempts", "since", "error"),
            [
                (e.id, e.event_type, e.destination, e.retry_count, f"{e.updated_at:%Y-%m-%d %H:%M:%S}", _message(e.error_details))
                for e in entries
            ],
        )
    else:
        print_rows(
            ("type", "error", "destination", "entries", "first", "last"),
            [
                (
                    g.effect_type,
                    g.error_type,
                    g.destination,
                    g.entries,
                    f"{g.first_at:%Y-%m-%d %H:%M:%S}",
                    f"{g.last_at:%Y-%m-%d %H:%M:%S}",
                )
                for g in groups
            ],
        )


@app.command("show")
def show(entry: EntryId, tenant: TenantOption = None, data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Show a dead letter: payload, every attempt, and the trace that led to it."""

    async def question(tx: Transaction) -> tuple[OutboxEntry, list[Event], Trace]:
        item = await tx.outbox.get(parse_id(entry, "ENTRY"))
        return item, await attempts_of(tx, item.id), await trace_correlation(tx, item.correlation_id)

    item, attempts, trace = ask(question, tenant, data_dir)
    if output is Format.JSON:
        print_json({"entry": item, "attempts": attempts, "trace": trace})
        return
    console.print(f"{item.event_type} [bold]{item.status}[/bold] after {item.retry_count} attempts", highlight=False)
    console.print_json(data={"payload": item.payload, "error": item.error_details})
    print_rows(
        ("when", "what", "by", "outcome"),
        [
            (
                f"{e.occurred_at:%Y-%m-%d %H:%M:%S}",
                e.event_type,
                e.actor,
                _message(e.event_data.get("error_details")) or e.event_data.get("reason"),
            )
            for e in attempts
        ],
    )
    print_trace(trace)


@app.command("requeue")
def requeue(
    entries: EntryIds = None,
    effect_type: TypeOption = None,
    error: ErrorOption = None,
    destination: DestinationOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    everything: AllOption = False,
    dry_run: DryRunOption = False,
    rate: RateOption = None,
    reason: Annotated[str | None, typer.Option(help="Why, for the record.")] = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Give dead letters all their attempts again. Exit status 1 when one that was named was no dead letter."""
    wanted = _choice(entries, everything, _filter(effect_type, error, destination, since, until))
    _change("requeued", entries, wanted, lambda dead, ids: dead.requeue(ids, reason), dry_run, rate, tenant, data_dir, output)


@app.command("discard")
def discard(
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    entries: EntryIds = None,
    effect_type: TypeOption = None,
    error: ErrorOption = None,
    destination: DestinationOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    everything: AllOption = False,
    dry_run: DryRunOption = False,
    rate: RateOption = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """End dead letters for good. Exit status 1 when one that was named was no dead letter."""
    wanted = _choice(entries, everything, _filter(effect_type, error, destination, since, until))
    _change("discarded", entries, wanted, lambda dead, ids: dead.discard(ids, reason), dry_run, rate, tenant, data_dir, output)


def _filter(
    effect_type: str | None, error: str | None, destination: str | None, since: str | None, until: str | None
) -> DeadLetterFilter:
    return DeadLetterFilter(
        effect_type=effect_type,
        error_type=error,
        destination=destination,
        since=parse_moment(since, "--since") if since else None,
        until=parse_moment(until, "--until") if until else None,
    )


def _choice(entries: list[str] | None, everything: bool, wanted: DeadLetterFilter) -> DeadLetterFilter:
    """Refuses what is no choice, or two."""
    filtered = wanted != DeadLetterFilter()
    if bool(entries) + filtered + everything != 1:
        raise ConfigurationError(
            "dlq: which dead letters?", hint="name ids, or use --type, --error, --destination, --since, --until, or --all"
        )
    return wanted


def _change(
    done: str,
    entries: Sequence[str] | None,
    wanted: DeadLetterFilter,
    change: Callable[[DeadLetters, Sequence[UUID]], Awaitable[set[UUID]]],
    dry_run: bool,
    rate: float | None,
    tenant: str | None,
    data_dir: Path | None,
    output: Format,
) -> None:
    named = [parse_id(entry, "ENTRY") for entry in entries or ()]

    async def pages(plane: Plane, tenant_id: UUID) -> AsyncIterator[Sequence[UUID]]:
        async with plane.transaction(tenant_id, actor=READER) as tx:
            if not named:
                async for page in dead_letter_ids(tx, wanted):
                    yield page
            elif dry_run:
                yield [item.id for item in await tx.outbox.get_many(named) if item.status == "DEAD_LETTER"]
            else:
                yield named

    async def go() -> list[UUID]:
        moved: list[UUID] = []
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            chosen = [item async for page in pages(plane, found.tenant_id) for item in page]
            if dry_run:
                return chosen
            dead = plane.dead_letters(found.tenant_id, actor=operator())
            bite = len(chosen) or 1 if rate is None else max(1, int(rate / _BITES_A_SECOND))
            for start in range(0, len(chosen), bite):
                if start and rate is not None:
                    await asyncio.sleep(bite / rate)
                moved.extend(await change(dead, chosen[start : start + bite]))
        return moved

    moved = run(go())
    left: list[Any] = [str(item) for item in named if item not in set(moved)]
    if output is Format.JSON:
        print_json({f"would be {done}" if dry_run else done: [str(item) for item in moved], "no dead letters": left})
    else:
        console.print(f"{len(moved)} {'would be ' if dry_run else ''}{done}", highlight=False)
        for item in left:
            console.print(f"{item} is no dead letter", style="yellow", highlight=False)
    if left:
        raise typer.Exit(1)


def _message(error_details: Any) -> str:
    details = error_details if isinstance(error_details, dict) else {}
    return f"{details.get('type', '')}: {details.get('message', '')}"[:100] if details else ""
