"""persistence runs and compare: which runs there are, how one went, and where two part."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.table import Table
from rich.text import Text

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
from persistence.cli.reading import ask, headline, order, print_breaks, style_of, told
from persistence.cli.worker import load_app
from persistence.encoding import decode
from persistence.errors import ConfigurationError, InvalidInput
from persistence.flows.codec import to_json
from persistence.flows.steering import cancel_run, retry_run
from persistence.models import Run, Step
from persistence.plane import Plane
from persistence.queries.causation import Causation, causation_of
from persistence.queries.comparison import Comparison, compare_runs
from persistence.queries.run_diagnosis import RunDiagnosis, diagnose_run
from persistence.queries.runs import RunFilter, RunPage, found_runs, list_runs
from persistence.queries.stalled import QUIET, Stalled, stalled
from persistence.queries.trace import trace_run
from persistence.queries.waterfall import Waterfall, waterfall
from persistence.queries.words import clock, duration
from persistence.transaction import Transaction

app = typer.Typer(help="Runs: list, search, show.", no_args_is_help=True)

_WIDTH = 40
RunId = Annotated[str, typer.Argument(help="Id of a run.")]
ActorOption = Annotated[str, typer.Option(help="Who does it.")]


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="Only in this status, such as FAILED.")] = None,
    run_type: Annotated[str | None, typer.Option("--type", help="Only of this type.")] = None,
    since: Annotated[str | None, typer.Option(help="Only made since this time (ISO 8601).")] = None,
    until: Annotated[str | None, typer.Option(help="Only made before this time (ISO 8601).")] = None,
    search: Annotated[
        str | None,
        typer.Option(help="Only behind this: the id of anything, a signal's channel:source_id, or an idempotency key."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    after: Annotated[str | None, typer.Option(help="Go on after the run with this id.")] = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """List runs, the newest first."""
    wanted = RunFilter(
        status=status.upper() if status else None,
        run_type=run_type,
        since=parse_moment(since, "--since") if since else None,
        until=parse_moment(until, "--until") if until else None,
    )

    async def question(tx: Transaction) -> RunPage:
        if search is not None:
            return await found_runs(tx, search)
        return await list_runs(tx, wanted, limit=limit, after=parse_id(after, "--after") if after else None)

    page = ask(question, tenant, data_dir)
    if output is Format.JSON:
        print_json(page)
        return
    print_rows(
        ("id", "type", "status", "began", "took", "actor", "error"),
        [
            (
                item.id,
                item.run_type,
                told(item.status),
                clock(item.started_at or item.created_at),
                duration(item.seconds, 0),
                item.actor,
                item.error or item.wait_reason,
            )
            for item in page.items
        ],
    )
    if page.next:
        console.print(f"more: --after {page.next}", style="dim", highlight=False)


@app.command("show")
def show(
    run_id: RunId,
    causes: Annotated[bool, typer.Option("--causes", help="The tree of causes instead of the waterfall.")] = False,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Show one run: how it stands and why, and when each part of it began and ended."""
    wanted = parse_id(run_id, "RUN_ID")

    async def question(tx: Transaction) -> tuple[RunDiagnosis, Waterfall, Causation]:
        diagnosis = await diagnose_run(tx, wanted)
        return diagnosis, waterfall(await trace_run(tx, wanted)), await causation_of(tx, diagnosis.run.correlation_id)

    diagnosis, bars, causation = ask(question, tenant, data_dir)
    if output is Format.JSON:
        print_json({"diagnosis": diagnosis, "causation": causation} if causes else {"diagnosis": diagnosis, "waterfall": bars})
        return
    run = diagnosis.run
    console.print(headline("run", run.run_type, run.status, run.id))
    console.print(diagnosis.conclusion, highlight=False, markup=False)
    console.print()
    if causes:
        _print_causes(causation)
    else:
        _print_waterfall(bars)
    print_breaks(diagnosis.breaks)


@app.command("start")
def start(
    flow: Annotated[str, typer.Argument(help="Name of a flow.")],
    program: Annotated[str, typer.Option("--app", help="package.module, or package.module:name, that has the flow.")],
    given: Annotated[str | None, typer.Option("--input", help="Its input, as JSON.")] = None,
    key: Annotated[str | None, typer.Option(help="The same key is the same run, however often it is started.")] = None,
    wait: Annotated[float | None, typer.Option(min=0, help="Wait so many seconds for its result, and print it.")] = None,
    actor: ActorOption = "user:cli",
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Start a run of a flow. Executors that have the flow take it up."""
    flows = load_app(program).flows
    if flows is None:
        raise ConfigurationError(f"--app: {program} has no flows")
    definition = flows.find(flow)

    async def work(plane: Plane, tenant_id: UUID) -> None:
        handle = await plane.flows.start(definition.function, _json(given, "--input"), tenant_id, key=key, actor=actor)
        console.print(str(handle.run_id), highlight=False)
        if wait is not None:
            print_json(to_json(await handle.result(timeout=wait), "result"))

    _with_plane(work, tenant, data_dir)


@app.command("signal")
def give_signal(
    signal_type: Annotated[str, typer.Argument(help="Type of the signal.")],
    key: Annotated[str, typer.Option(help="As the flow names it, or the id of a run.")],
    payload: Annotated[str | None, typer.Option(help="JSON.")] = None,
    name: Annotated[str | None, typer.Option("--id", help="The same id is the same signal.")] = None,
    actor: ActorOption = "user:cli",
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Give a signal to the run that waits for it, now or later."""

    async def work(plane: Plane, tenant_id: UUID) -> None:
        signal = await plane.flows.signal(
            signal_type, tenant_id, key=key, payload=_json(payload, "--payload"), id=name, actor=actor
        )
        console.print(str(signal.id), highlight=False)

    _with_plane(work, tenant, data_dir)


@app.command("fork")
def fork(
    run_id: RunId,
    at: Annotated[str, typer.Option("--at", help="The step to begin at: its position, or its id.")],
    version: Annotated[int | None, typer.Option(min=1, help="Of the flow, if not the run's.")] = None,
    actor: ActorOption = "user:cli",
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Start a new run of a flow that has done what another one did before a step, and goes on from there."""

    async def work(plane: Plane, tenant_id: UUID) -> None:
        forked = await plane.flows.fork(parse_id(run_id, "RUN_ID"), tenant_id, at, version=version, actor=actor)
        console.print(str(forked.id), highlight=False)

    _with_plane(work, tenant, data_dir)


def _with_plane(work: Callable[[Plane, UUID], Awaitable[None]], tenant: str | None, data_dir: Path | None) -> None:
    async def go() -> None:
        async with Plane(settings=settings_for(data_dir)) as plane:
            await work(plane, (await find_tenant(plane, tenant)).tenant_id)

    run(go())


def _json(text: str | None, option: str) -> Any:
    if text is None:
        return None
    try:
        return decode(text)
    except ValueError as error:
        raise InvalidInput(f"{option}: is no JSON: {error}", field=option) from error


@app.command("stalled")
def list_stalled(
    quiet: Annotated[float, typer.Option("--quiet", min=0, help="Minutes in which nothing has happened.")] = QUIET.total_seconds()
    / 60,
    waiting: Annotated[bool, typer.Option("--waiting", help="Runs that were suspended, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """List runs under way, and tool calls, in which nothing has happened for a while; the longest silence first."""

    async def question(tx: Transaction) -> Sequence[Stalled]:
        return await stalled(tx, timedelta(minutes=quiet), waiting=waiting, limit=limit)

    found = ask(question, tenant, data_dir)
    if output is Format.JSON:
        print_json(found)
        return
    print_rows(
        ("run", "type", "status", "quiet for", "last by", "what"),
        [
            (
                item.run_id,
                item.run_type,
                told(item.status),
                duration(item.seconds),
                item.actor,
                f"tool call {item.tool_name} {item.tool_call_id}" if item.tool_call_id else item.wait_reason,
            )
            for item in found
        ],
    )


@app.command("cancel")
def cancel(
    run_id: RunId,
    reason: Annotated[str, typer.Option(help="Why; goes on the record.")],
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Give a run up for good, with its open steps, tool calls, child runs and effects that are not delivered; one of a flow is asked to end, and
    undoes what it did.
    """
    wanted = parse_id(run_id, "RUN_ID")

    async def command(tx: Transaction) -> Run:
        return await cancel_run(tx, await tx.runs.get(wanted), reason)

    run = order(command, tenant, data_dir)
    console.print(headline("run", run.run_type, run.status, run.id))


@app.command("retry")
def retry(run_id: RunId, tenant: TenantOption = None, data_dir: DataDir = None) -> None:
    """Let a failed run go on; its service does the work, or an executor that has its flow, from the step that failed."""
    wanted = parse_id(run_id, "RUN_ID")

    async def command(tx: Transaction) -> Run:
        return await retry_run(tx, await tx.runs.get(wanted))

    run = order(command, tenant, data_dir)
    console.print(headline("run", run.run_type, run.status, run.id))


def _print_waterfall(bars: Waterfall) -> None:
    table = Table(
        "part",
        "status",
        "took",
        f"{clock(bars.begun)}, {duration(bars.seconds, 0)} in all",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for bar in bars.bars:
        at, long = bars.place(bar)
        start = min(_WIDTH - 1, int(at * _WIDTH))
        length = max(1, min(_WIDTH - start, round(long * _WIDTH)))
        table.add_row(
            Text(f"{'  ' * bar.depth}{bar.kind} {bar.name}"),
            told(bar.status),
            duration((bar.ended - bar.begun).total_seconds(), 0),
            Text(" " * start + "█" * length, style=style_of(bar.status)),
        )
    console.print(table)


def _print_causes(causation: Causation) -> None:
    for event in causation.events:
        console.print(
            Text.assemble(
                (f"{clock(event.occurred_at)} ", "dim"),
                "  " * event.depth,
                ("" if event.depth == 0 else "└ "),
                event.event_type,
                (f" by {event.actor}", "cyan"),
                (f"  {event.event_id}", "dim"),
            ),
            soft_wrap=True,
        )


def compare(
    left: RunId, right: RunId, tenant: TenantOption = None, data_dir: DataDir = None, output: OutputFormat = Format.TABLE
) -> None:
    """Lay two runs side by side and say where they part."""
    found = ask(lambda tx: compare_runs(tx, parse_id(left, "LEFT"), parse_id(right, "RIGHT")), tenant, data_dir)
    if output is Format.JSON:
        print_json(found)
        return
    _print_comparison(found)


def _print_comparison(found: Comparison) -> None:
    table = Table("", str(found.left.id), str(found.right.id), "differs in", box=None, pad_edge=False, header_style="bold")
    table.add_row("run", _side(found.left), _side(found.right), _fields(found.differs))
    for index, pair in enumerate(found.steps):
        mark = "▶" if index == found.parts_at else ""
        table.add_row(Text(mark, style="bold red"), _side(pair.left), _side(pair.right), _fields(pair.differs))
    for effect_type, status, mine, theirs in found.effects:
        table.add_row("effects", f"{mine} {effect_type} {status}", f"{theirs} {effect_type} {status}", "")
    console.print(table)
    if found.parts_at is None:
        console.print(
            "Their steps are alike."
            if not found.differs
            else f"Their steps are alike; the runs differ in {', '.join(found.differs)}."
        )
    else:
        console.print(f"They part at step {found.parts_at}.", highlight=False)


def _side(item: Any) -> Text:
    if item is None:
        return Text("none", style="dim")
    name = f"{item.step_index} {item.step_type}" if isinstance(item, Step) else item.run_type
    seconds = None
    if item.started_at and item.completed_at:
        seconds = (item.completed_at - item.started_at).total_seconds()
    return Text.assemble(name, " ", told(item.status), (f" {duration(seconds, 0)}", "dim"))


def _fields(names: Sequence[str]) -> Text:
    return Text(", ".join(names), style="red")
