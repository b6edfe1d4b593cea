"""persistence signals: what came in, and taking up again or refusing what could not be dealt with."""

from typing import Annotated

import typer

from persistence.cli.console import DataDir, Format, OutputFormat, TenantOption, console, parse_id, print_json, print_rows
from persistence.cli.reading import ask, headline, order, told
from persistence.models import Page, Signal
from persistence.queries.words import clock
from persistence.repositories import Filters
from persistence.transaction import Transaction

app = typer.Typer(help="Signals: list, retry, reject.", no_args_is_help=True)

SignalId = Annotated[str, typer.Argument(help="Id of a signal.")]


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="Only in this status, such as FAILED.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only of this source channel.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    after: Annotated[str | None, typer.Option(help="Go on after the signal with this id.")] = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """List signals, the newest first."""
    wanted: Filters = {}
    if status:
        wanted["status"] = status.upper()
    if channel:
        wanted["source_channel"] = channel

    async def question(tx: Transaction) -> Page[Signal]:
        begin = parse_id(after, "--after") if after else None
        return await tx.signals.list(limit=limit, after=begin, newest_first=True, **wanted)

    page = ask(question, tenant, data_dir)
    if output is Format.JSON:
        print_json(page)
        return
    print_rows(
        ("id", "channel", "source id", "type", "status", "received"),
        [
            (item.id, item.source_channel, item.source_id, item.signal_type, told(item.status), clock(item.received_at))
            for item in page.items
        ],
    )
    if page.next:
        console.print(f"more: --after {page.next}", style="dim", highlight=False)


@app.command("retry")
def retry(signal_id: SignalId, tenant: TenantOption = None, data_dir: DataDir = None) -> None:
    """Let a failed signal be taken up again; its service does the work."""
    wanted = parse_id(signal_id, "SIGNAL_ID")

    async def command(tx: Transaction) -> Signal:
        return tx.signals.retry(await tx.signals.get(wanted))

    _show(order(command, tenant, data_dir))


@app.command("reject")
def reject(
    signal_id: SignalId,
    reason: Annotated[str, typer.Option(help="Why; goes on the record.")],
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Refuse a signal for good."""
    wanted = parse_id(signal_id, "SIGNAL_ID")

    async def command(tx: Transaction) -> Signal:
        return tx.signals.reject(await tx.signals.get(wanted), {"type": "Rejected", "message": reason})

    _show(order(command, tenant, data_dir))


def _show(signal: Signal) -> None:
    console.print(headline("signal", signal.signal_type, signal.status, signal.id))
