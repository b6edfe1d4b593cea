"""persistence replay: whether the state is what the log says."""

from typing import Annotated

import typer

from persistence.cli.console import DataDir, Format, OutputFormat, TenantOption, console, find_tenant, print_json, run, settings_for
from persistence.database.pool import connect
from persistence.errors import ConfigurationError
from persistence.gates.replay import ReplayReport, verify
from persistence.plane import Plane


def replay(
    check: Annotated[bool, typer.Option("--verify", help="Replay into empty tables and compare.")] = False,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Fold the whole log again and compare with the tables. Exit status 1 when they differ. The login needs persistence_auditor."""
    if not check:
        raise ConfigurationError("replay: say what to do with it", hint="persistence replay --verify")

    async def go() -> ReplayReport:
        async with Plane(settings_for(data_dir)) as plane:
            tenant_id = (await find_tenant(plane, tenant)).tenant_id if tenant else None
            connection = await connect(plane.server.audit_dsn, plane.settings)
            try:
                return await verify(connection, tenant_id)
            finally:
                await connection.close()

    report = run(go())
    if output is Format.JSON:
        differences = [
            {"table": d.table, "tenant_id": str(d.tenant_id), "id": str(d.id), "columns": d.columns} for d in report.differences
        ]
        print_json({"events": report.events, "rows": report.rows, "different": report.different, "differences": differences})
    else:
        rows = ", ".join(f"{count:,} {table}" for table, count in report.rows.items() if count)
        console.print(f"{report.events:,} events folded into {rows or 'nothing'}", highlight=False)
        for difference in report.differences:
            console.print(str(difference), style="red", markup=False, highlight=False, soft_wrap=True)
        console.print(
            "no difference" if not report.different else f"{report.different:,} differences",
            style="green" if not report.different else "bold red",
        )
    if report.different:
        raise typer.Exit(1)
