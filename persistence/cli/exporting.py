"""persistence export: the log for process mining."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from persistence.cli.console import (
    DataDir,
    Format,
    TenantOption,
    console,
    find_tenant,
    parse_moment,
    print_json,
    run,
    settings_for,
)
from persistence.cli.reading import READER
from persistence.errors import ConfigurationError
from persistence.exporting.ocel import write_ocel
from persistence.exporting.report import ExportReport
from persistence.exporting.xes import write_xes
from persistence.plane import Plane
from persistence.queries.stories import stories


class Standard(StrEnum):
    """xes: IEEE 1849, one trace a run. ocel2: OCEL 2.0, events of several objects; JSON, or SQLite where the file is called .sqlite."""

    XES = "xes"
    OCEL2 = "ocel2"


_ENDINGS = {Standard.XES: (".xes", ".xes.gz"), Standard.OCEL2: (".json", ".jsonocel", ".sqlite", ".db")}


def export(
    path: Annotated[Path, typer.Argument(help="The file to write: .xes, .xes.gz; .json, .sqlite.")],
    standard: Annotated[Standard, typer.Option("--standard", "--format", help="What is written.")] = Standard.XES,
    since: Annotated[str | None, typer.Option(help="Only runs made since this time (ISO 8601).")] = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: Annotated[Format, typer.Option("--report", help="How it is told what was written.")] = Format.TABLE,
) -> None:
    """Write a tenant's log as XES or OCEL 2.0, so that process mining tools can read it."""
    if not path.name.endswith(_ENDINGS[standard]):
        raise ConfigurationError(f"{path}: {standard} files end in {' or '.join(_ENDINGS[standard])}")
    if not path.parent.is_dir():
        raise ConfigurationError(f"{path}: there is no folder {path.parent}")
    begin = parse_moment(since, "--since") if since else None

    async def go() -> ExportReport:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            runs = stories(plane, found.tenant_id, actor=READER, since=begin)
            return await (write_xes if standard is Standard.XES else write_ocel)(path, runs)

    report = run(go())
    if output is Format.JSON:
        print_json(vars(report))
    else:
        objects = f", {report.objects:,} objects" if standard is Standard.OCEL2 else ""
        console.print(f"{report.path}: {report.cases:,} cases, {report.events:,} events{objects}", highlight=False, soft_wrap=True)
