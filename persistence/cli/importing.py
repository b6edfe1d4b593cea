"""persistence import: histories from elsewhere."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from persistence.cli.console import (
    DataDir,
    Format,
    OutputFormat,
    TenantOption,
    error_console,
    find_tenant,
    print_json,
    print_rows,
    run,
    settings_for,
)
from persistence.importing.importer import Importer, ImportReport, Measured
from persistence.plane import Plane


class OnError(StrEnum):
    """What a broken case leads to."""

    STOP = "stop"
    SKIP = "skip"


def import_files(
    files: Annotated[list[Path], typer.Argument(help=".xes, .xes.gz, .jsonl, .ndjson, or a folder of webhook bodies.")],
    tenant: TenantOption = None,
    on_error: Annotated[OnError, typer.Option(help="Stop at a broken case, or skip it.")] = OnError.STOP,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Read histories into the log. The same file again adds nothing. Exit status 1 when cases were skipped."""
    reports = run(_import(files, tenant, on_error, data_dir))
    if output is Format.JSON:
        print_json([vars(report) for report in reports])
    else:
        _print(reports)
    if any(report.problems for report in reports):
        raise typer.Exit(1)


async def _import(files: Sequence[Path], tenant: str | None, on_error: OnError, data_dir: Path | None) -> list[ImportReport]:
    reports = []
    async with Plane(settings=settings_for(data_dir)) as plane:
        found = await find_tenant(plane, tenant)
        importer = Importer(plane, found.tenant_id, on_error=on_error.value)
        columns: list[Any] = [
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[rate]}"),
        ]
        with Progress(*columns, TimeElapsedColumn(), console=error_console, transient=True) as progress:
            for file in files:
                task = progress.add_task(file.name, total=None, rate="")
                reports.append(await importer.read(file, _watcher(progress, task)))
    return reports


def _watcher(progress: Progress, task: TaskID) -> Any:
    begun = progress.get_time()

    def watch(source: Measured, report: ImportReport) -> None:
        rate = report.log_events / max(progress.get_time() - begun, 0.001)
        progress.update(task, completed=source.position, total=source.size, rate=f"{report.log_events:,} read, {rate:,.0f}/s")

    return watch


def _print(reports: Sequence[ImportReport]) -> None:
    print_rows(
        ("file", "cases", "new", "known", "entries", "events added", "seconds", "entries/s"),
        [
            (
                r.path,
                f"{r.items:,}",
                f"{r.added:,}",
                f"{r.known:,}",
                f"{r.log_events:,}",
                f"{r.events:,}",
                f"{r.seconds:.1f}",
                f"{r.log_events / max(r.seconds, 0.001):,.0f}",
            )
            for r in reports
        ],
    )
    for report in reports:
        for problem in report.problems:
            error_console.print(f"skipped: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
