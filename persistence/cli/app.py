"""All commands together, and what becomes of an error."""

import sys

import typer

from persistence.cli import (
    backup,
    canon,
    context,
    data,
    diagnose,
    dlq,
    events,
    exporting,
    fit,
    housekeeping,
    importing,
    limits,
    logs,
    memory,
    migrate,
    replay,
    runs,
    secrets,
    serve,
    signals,
    snapshots,
    streams,
    tenant,
    token,
    trace,
    up,
    vault,
    worker,
)
from persistence.cli.console import print_error
from persistence.database.pinned import PINNED_ERRORS, refused
from persistence.errors import ConfigurationError, ImportFailed, PersistenceError, ServerError

app = typer.Typer(
    name="persistence",
    help="Durable memory for agent and workflow services on plain PostgreSQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("up")(up.up)
app.command("demo")(up.demo)
app.command("serve")(serve.serve_command)
app.command("worker")(worker.worker)
app.command("import")(importing.import_files)
app.command("export")(exporting.export)
app.command("trace")(trace.trace)
app.command("compare")(runs.compare)
app.command("replay")(replay.replay)
app.command("state")(replay.state)
app.command("erase")(secrets.erase)
app.command("housekeeping")(housekeeping.housekeeping)
app.add_typer(fit.app, name="fit")
app.add_typer(canon.app, name="canon")
app.add_typer(backup.app, name="backup")
app.add_typer(backup.restore_app, name="restore")
app.add_typer(migrate.app, name="migrate")
app.add_typer(tenant.app, name="tenant")
app.add_typer(context.app, name="context")
app.add_typer(token.app, name="token")
app.add_typer(data.app, name="data")
app.add_typer(dlq.app, name="dlq")
app.add_typer(runs.app, name="runs")
app.add_typer(signals.app, name="signals")
app.add_typer(diagnose.app, name="diagnose")
app.add_typer(events.app, name="events")
app.add_typer(limits.app, name="limits")
app.add_typer(snapshots.app, name="snapshot")
app.add_typer(memory.app, name="memory")
app.add_typer(streams.app, name="streams")
app.add_typer(logs.app, name="logs")
app.add_typer(logs.config, name="config")
app.add_typer(vault.app, name="vault")
app.add_typer(secrets.app, name="secret")


def main() -> None:
    """Runs a command. Exit status 1: it was refused or found something wrong; 2: it could not run; 130: interrupted."""
    try:
        app(standalone_mode=True)
    except PersistenceError as error:
        print_error(error)
        sys.exit(2 if isinstance(error, ServerError | ConfigurationError | ImportFailed) else 1)
    except PINNED_ERRORS as error:
        print_error(refused(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
