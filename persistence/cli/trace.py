"""persistence trace: what happened, as a tree in time order."""

from typing import Annotated

import typer
from rich.text import Text
from rich.tree import Tree

from persistence.cli.console import (
    DataDir,
    Format,
    OutputFormat,
    TenantOption,
    console,
    parse_id,
    print_json,
)
from persistence.cli.reading import ask, headline
from persistence.errors import ConfigurationError
from persistence.queries.trace import Node, Occurrence, Trace, trace_correlation, trace_run
from persistence.queries.words import clock
from persistence.transaction import Transaction


def trace(
    run_id: Annotated[str | None, typer.Option("--run", help="Id of a run.")] = None,
    correlation: Annotated[str | None, typer.Option("--correlation", help="A correlation id.")] = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Show what happened in a run or a correlation: when, by whom, and because of what."""
    if (run_id is None) == (correlation is None):
        raise ConfigurationError("trace: name either --run or --correlation")

    async def question(tx: Transaction) -> Trace:
        if run_id is not None:
            return await trace_run(tx, parse_id(run_id, "--run"))
        return await trace_correlation(tx, parse_id(correlation or "", "--correlation"))

    found = ask(question, tenant, data_dir)
    if output is Format.JSON:
        print_json(found)
    else:
        print_trace(found)


def print_trace(found: Trace) -> None:
    """Prints a trace as a tree."""
    tree = Tree(Text(f"correlation {found.correlation_id} · {found.events} events", style="bold"))
    for root in found.roots:
        _add(tree, root)
    console.print(tree)


def _add(tree: Tree, node: Node) -> None:
    branch = tree.add(headline(node.kind, node.name, node.status, node.id))
    for occurrence in node.life:
        branch.add(_line(occurrence))
    for child in node.children:
        _add(branch, child)


def _line(occurrence: Occurrence) -> Text:
    line = Text.assemble((f"{clock(occurrence.occurred_at)} ", "dim"), occurrence.event_type, (f" by {occurrence.actor}", "cyan"))
    if occurrence.cause:
        line.append(f" because {occurrence.cause}", style="dim")
    elif occurrence.causation_id:
        line.append(f" because event {occurrence.causation_id}", style="dim")
    error = occurrence.data.get("error_details")
    if isinstance(error, dict) and error.get("message"):
        line.append(f": {error['message']}", style="red")
    return line
