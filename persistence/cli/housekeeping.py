"""persistence housekeeping: what workers do from time to time, now."""

from datetime import timedelta
from typing import Annotated

import typer

from persistence.cli.console import DataDir, console, run, settings_for
from persistence.outbox.housekeeping import Housekeeping
from persistence.plane import Plane


def housekeeping(
    keep_days: Annotated[float, typer.Option(help="Days that records of delivered effects stay.", min=0)] = 30,
    data_dir: DataDir = None,
) -> None:
    """Refresh the projections, destroy secrets that are over, and purge old records of delivered effects."""

    async def go() -> int | None:
        async with Plane(settings=settings_for(data_dir)) as plane:
            return await Housekeeping(retention=timedelta(days=keep_days)).round(plane)

    purged = run(go())
    console.print(
        "another process is at it" if purged is None else f"projections refreshed, {purged:,} records purged", highlight=False
    )
