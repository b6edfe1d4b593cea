"""Commands that only ask: one question in one transaction of one tenant."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from rich.text import Text

from persistence.cli.console import find_tenant, run, settings_for
from persistence.plane import Plane
from persistence.transaction import Transaction

T = TypeVar("T")

READER = "system:cli"
_GOOD = frozenset({"COMPLETED", "EXECUTED", "PROCESSED", "PUBLISHED", "SAVED"})
_BAD = frozenset({"DEAD_LETTER", "FAILED", "REJECTED"})


def ask(question: Callable[[Transaction], Awaitable[T]], tenant: str | None, data_dir: Path | None) -> T:
    """The answer to a question about a tenant."""

    async def go() -> T:
        async with Plane(settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            async with plane.snapshot(found.tenant_id, actor=READER) as tx:
                return await question(tx)

    return run(go())


def style_of(status: str) -> str:
    """Green for what went well, red for what did not, yellow for what is under way."""
    return "green" if status in _GOOD else "red" if status in _BAD else "yellow"


def told(status: str) -> Text:
    return Text(status, style=style_of(status))


def clock(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"


def lasted(seconds: float | None) -> str:
    """A duration in the unit that fits."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"
