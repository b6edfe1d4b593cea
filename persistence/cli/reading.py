"""Commands that ask one question, or give one order, in one transaction of one tenant."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from rich.text import Text

from persistence.cli.console import console, find_tenant, run, settings_for
from persistence.cli.tenant import operator
from persistence.plane import Plane
from persistence.queries.causation import Break
from persistence.queries.words import tone
from persistence.transaction import Transaction

T = TypeVar("T")

READER = "system:cli"


def ask(question: Callable[[Transaction], Awaitable[T]], tenant: str | None, data_dir: Path | None) -> T:
    """The answer to a question about a tenant."""

    async def go() -> T:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            async with plane.snapshot(found.tenant_id, actor=READER) as tx:
                return await question(tx)

    return run(go())


def order(command: Callable[[Transaction], Awaitable[T]], tenant: str | None, data_dir: Path | None) -> T:
    """What comes of an order of the operator's."""

    async def go() -> T:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            async with plane.transaction(found.tenant_id, actor=operator(), source="cli") as tx:
                return await command(tx)

    return run(go())


def style_of(status: str) -> str:
    """Green for what went well, red for what did not, yellow for the rest."""
    return {"good": "green", "bad": "red"}.get(tone(status), "yellow")


def told(status: str) -> Text:
    return Text(status, style=style_of(status))


def headline(kind: str, name: str, status: str, item_id: UUID) -> Text:
    """What something is, how it stands, and its id."""
    return Text.assemble((kind, "bold"), " ", name, " ", told(status), (f"  {item_id}", "dim"))


def print_breaks(breaks: Sequence[Break]) -> None:
    """Where a chain of causes is broken."""
    for found in breaks:
        console.print(
            f"broken: {found.aggregate_type} {found.aggregate_id}: {found.what}", style="bold red", highlight=False, markup=False
        )
