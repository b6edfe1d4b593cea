"""persistence replay and state: the log folded again."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer
from rich.tree import Tree

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
    run,
    settings_for,
)
from persistence.database.pool import connected
from persistence.database.server import open_server
from persistence.errors import ConfigurationError
from persistence.gates.rebuild import NAMES, Rebuilt, rebuild
from persistence.gates.replay import ReplayReport, verify
from persistence.gates.state import RunState, run_at
from persistence.plane import Plane


def replay(
    check: Annotated[bool, typer.Option("--verify", help="Replay into empty tables and compare.")] = False,
    tables: Annotated[
        list[str] | None, typer.Option("--rebuild", metavar="TABLE", help=f"Restore from the log: all, {', '.join(NAMES)}.")
    ] = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Fold the whole log again and compare with the tables, or restore them from it.

    Exit status 1 when they differ. Comparing needs persistence_auditor, restoring the administrator's login; writers wait for it.
    """
    if check == bool(tables):
        raise ConfigurationError("replay: say what to do with it", hint="persistence replay --verify, or --rebuild TABLE")
    if tables:
        if tenant:
            raise ConfigurationError("replay: a table is restored for all tenants", hint="leave --tenant out")
        names = list(NAMES) if "all" in tables else tables
        _print_rebuilt(run(_rebuild(data_dir, names)), output)
        return

    async def go() -> ReplayReport:
        async with Plane(settings=settings_for(data_dir)) as plane:
            tenant_id = (await find_tenant(plane, tenant)).tenant_id if tenant else None
            async with connected(plane.server.audit_dsn, plane.settings) as connection:
                return await verify(connection, tenant_id)

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


def state(
    run_id: Annotated[str, typer.Option("--run", help="The run.")],
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Its tenant, by name or id, where two tenants have a run of that id.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME|SEQUENCE", help="A time (ISO 8601), or the sequence number of an event. Default: now."),
    ] = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Show a run as it was at a moment: folded from its events up to then. The login needs persistence_auditor."""
    wanted = parse_id(run_id, "run")
    moment, sequence_number = _place(at)

    async def go() -> RunState:
        settings = settings_for(data_dir)
        async with open_server(settings) as server, connected(server.audit_dsn, settings) as connection:
            return await run_at(connection, wanted, moment=moment, sequence_number=sequence_number, tenant=tenant)

    found = run(go())
    if output is Format.JSON:
        print_json({"run": found.run, **found.parts})
        return
    _print_state(found)


async def _rebuild(data_dir: object, names: list[str]) -> list[Rebuilt]:
    settings = settings_for(data_dir)  # type: ignore[arg-type]
    async with open_server(settings) as server, connected(server.for_administration, settings) as connection:
        return await rebuild(connection, names)


def _print_rebuilt(rebuilt: list[Rebuilt], output: Format) -> None:
    if output is Format.JSON:
        print_json([vars(table) for table in rebuilt])
        return
    for table in rebuilt:
        console.print(
            f"{table.table}: {table.deleted:,} deleted, {table.corrected:,} corrected, {table.restored:,} restored", highlight=False
        )


def _place(at: str | None) -> tuple[datetime | None, int | None]:
    if at is None:
        return None, None
    if at.isdecimal():
        return None, int(at)
    return parse_moment(at, "at", "neither a time nor a sequence number"), None


def _print_state(found: RunState) -> None:
    tree = Tree(f"run {found.run['run_type']} {found.run['status']} (version {found.run['version']})")
    for name, rows in found.parts.items():
        if not rows:
            continue
        branch = tree.add(name)
        for row in rows:
            subject = next((row[key] for key in ("step_type", "tool_name", "effect_type", "label") if row.get(key)), "")
            branch.add(f"{subject} {row['status']} (version {row['version']}) {UUID(row['id'])}")
    console.print(tree, highlight=False)
