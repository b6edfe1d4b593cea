"""persistence migrate: the schema forward, back, its status, and its SQL."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from persistence.cli.console import DataDir, Format, OutputFormat, console, print_json, run, settings_for
from persistence.database.migrator import Migrator, SchemaStatus, offline_script
from persistence.database.server import open_server
from persistence.settings import Settings

app = typer.Typer(
    help="Bring the schema forward or back. Needs PERSISTENCE_ADMIN_DSN, or uses the embedded server.", no_args_is_help=True
)

Revision = Annotated[str, typer.Argument(help="Where to: a revision, head, base, or -1 for one step.")]


@app.command("up")
def migrate_up(revision: Revision = "head", data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Run the migrations that are missing."""
    _report(_with_migrator(data_dir, lambda migrator: migrator.up(revision)), output)


@app.command("down")
def migrate_down(revision: Revision = "-1", data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Take migrations back."""
    _report(_with_migrator(data_dir, lambda migrator: migrator.down(revision)), output)


@app.command("status")
def migrate_status(data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Say which migrations have run; any login of the plane will do. Exit status 1 when some have not."""
    status = _with_migrator(data_dir, lambda migrator: migrator.status(), reads=True)
    _report(status, output)
    if not status.is_current:
        raise typer.Exit(1)


@app.command("sql")
def migrate_sql(revision: Annotated[str, typer.Argument(help="A revision, or FROM:TO.")] = "head") -> None:
    """Print the SQL of the migrations, for a DBA to run."""
    sys.stdout.write(offline_script(revision))


def _with_migrator(data_dir: object, work: Callable[[Migrator], SchemaStatus], *, reads: bool = False) -> SchemaStatus:
    async def go() -> SchemaStatus:
        settings: Settings = settings_for(data_dir)  # type: ignore[arg-type]
        async with open_server(settings, migrate=False) as server:
            return work(Migrator(server.dsn if reads else server.for_administration))

    return run(go())


def _report(status: SchemaStatus, output: Format) -> None:
    if output is Format.JSON:
        print_json({"current": status.current, "head": status.head, "pending": status.pending})
        return
    console.print(f"schema {status.current or '(none)'} of {status.head}")
    for revision in status.pending:
        console.print(f"  pending: {revision}")
