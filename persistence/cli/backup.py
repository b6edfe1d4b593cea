"""persistence backup and restore."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from persistence.backups import Backup, BackupStore, Verification, held, record, release, restore, take, verifications, verify
from persistence.cli.console import (
    DataDir,
    Format,
    OutputFormat,
    RunByDefault,
    console,
    error_console,
    parse_id,
    parse_moment,
    print_json,
    print_rows,
    run,
    settings_for,
)
from persistence.cli.tenant import operator
from persistence.database.server import Server, open_server
from persistence.errors import ConfigurationError, NotFound
from persistence.plane import Plane
from persistence.settings import Settings

T = TypeVar("T")

app = typer.Typer(help="Backups of the whole cluster, and the proof that they are any good.", no_args_is_help=True)
restore_app = typer.Typer(cls=RunByDefault, help="Restore a backup into a new data directory: see restore run --help.")

Label = Annotated[str | None, typer.Argument(metavar="[LABEL]", help="Which backup; the newest by default.")]


@app.command("create")
def create(
    full: Annotated[bool, typer.Option("--full", help="Whole, even where it could continue the newest one.")] = False,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Take a backup while the database works: what changed since the newest one, where the server can tell (summarize_wal), else whole."""
    settings = settings_for(data_dir)

    def work(server: Server) -> Backup:
        known = verifications(server.audit_dsn)
        refused = {label for label, (status, _, _) in known.items() if status == "REFUSED"}
        return take(BackupStore.of(settings), server.for_administration, settings, full=full, refused=refused)

    backup = _with_server(settings, work)
    if output is Format.JSON:
        print_json(backup)
        return
    continues = f", continues {backup.parent}" if backup.parent else ""
    console.print(
        f"backup {backup.label}: {backup.kind}{continues}, {_size(backup.size)} in {backup.seconds:.1f} s", highlight=False
    )
    console.print(f"prove it: persistence backup verify {backup.label}", highlight=False)


@app.command("verify")
def verify_backup(label: Label = None, data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Restore a backup on a private socket, check its files, laws, replay and indexes, and record the result. Exit status 1 when it is no good."""
    settings = settings_for(data_dir)
    store = BackupStore.of(settings)

    async def go() -> Verification:
        wanted = label or store.newest().label
        async with open_server(settings) as server:
            verification = await verify(store, wanted, settings)
            record(verification, server.for_administration, operator())
            return verification

    verification = run(go())
    if output is Format.JSON:
        print_json({"label": verification.backup.label, "refusal": verification.refusal, "findings": verification.findings})
    elif verification.is_good:
        seconds = sum(value for key, value in verification.findings.items() if key.endswith("_seconds"))
        console.print(
            f"✓ backup {verification.backup.label} is good: files, {verification.findings['checks']} gates with replay, indexes; {seconds:.1f} s",
            style="green",
            highlight=False,
        )
    else:
        console.print(f"✗ {verification.refusal}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    if not verification.is_good:
        raise typer.Exit(1)


@app.command("list")
def list_backups(data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """List the backups, and what came of proving each."""
    settings = settings_for(data_dir)
    backups = BackupStore.of(settings).all()

    verified = _with_server(settings, lambda server: verifications(server.audit_dsn))
    unproven = ("not proven", None, None)
    if output is Format.JSON:
        print_json(
            [
                {
                    **backup.model_dump(mode="json"),
                    "verification": dict(zip(("status", "at", "message"), verified.get(backup.label, unproven), strict=True)),
                }
                for backup in backups
            ]
        )
        return
    rows = []
    for backup in backups:
        status, at, message = verified.get(backup.label, unproven)
        proof = f"{status} {at:%Y-%m-%d %H:%M}" if at else status
        rows.append((backup.label, backup.kind, backup.parent, _size(backup.size), proof, message))
    print_rows(("label", "kind", "continues", "size", "proof", "why not"), rows)


@restore_app.command("run")
def restore_run(
    into: Annotated[Path, typer.Option("--into", help="A new data directory.")],
    label: Label = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Up to this moment (ISO 8601), where WAL is archived.")
    ] = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Restore a backup into a new data directory. The log goes on in a new epoch; the outbox is held back, and listed, before anything is sent."""
    settings = settings_for(data_dir)
    store = BackupStore.of(settings)
    moment = parse_moment(to, "to") if to else None
    restored = restore(store, label or _before(store, moment), into, settings, to=moment)
    if output is Format.JSON:
        print_json(
            {
                **vars(restored),
                "backup": restored.backup.label,
                "last_event_at": str(restored.last_event_at),
                "held": _plain(restored.held),
            }
        )
        return
    console.print(
        f"restored {restored.backup.label} into {restored.data_dir}: up to event {restored.last_sequence_number} of {restored.last_event_at}; "
        f"the log goes on in epoch {restored.epoch}",
        highlight=False,
        soft_wrap=True,
    )
    _print_held(restored.held)


@restore_app.command("held")
def restore_held(data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """List what a restored database holds back: it may have been delivered in the time that the restore took away."""
    entries = _with_server(settings_for(data_dir), lambda server: held(server.audit_dsn))
    if output is Format.JSON:
        print_json(_plain(entries))
        return
    _print_held(entries)


@restore_app.command("release")
def restore_release(
    ids: Annotated[list[str] | None, typer.Option("--id", help="Only this entry; may be given several times.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything that is held back.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Let entries go that a restored database holds back, under the idempotency keys they always had."""
    if everything == bool(ids):
        raise ConfigurationError("release: say what", hint="--id ID for some, --all for everything")
    wanted = [parse_id(text, "id") for text in ids] if ids else None
    count = _with_server(settings_for(data_dir), lambda server: release(server.for_administration, wanted))
    console.print(f"{count} released", highlight=False)


@restore_app.command("cancel")
def restore_cancel(
    entry: Annotated[str, typer.Option("--id", help="The entry that is held back.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, such as: the receiver has it.")],
    data_dir: DataDir = None,
) -> None:
    """End an entry that is held back because it was delivered, or is not wanted any more. The event is EFFECT_CANCELLED, in your name."""
    entry_id = parse_id(entry, "id")

    async def go() -> None:
        async with Plane(settings=settings_for(data_dir)) as plane:
            tenants = [found["tenant_id"] for found in held(plane.server.audit_dsn) if found["id"] == entry_id]
            if not tenants:
                raise NotFound(f"entry {entry_id} is not held back", hint="persistence restore held")
            async with plane.transaction(tenants[0], actor=operator()) as tx:
                tx.effects.cancel(await tx.effects.get(entry_id), reason)

    run(go())
    console.print(f"{entry_id} cancelled", highlight=False)


def _with_server(settings: Settings, work: Callable[[Server], T]) -> T:
    async def go() -> T:
        async with open_server(settings) as server:
            return work(server)

    return run(go())


def _before(store: BackupStore, moment: datetime | None) -> str:
    """The newest backup that was taken before a moment."""
    if moment is None:
        return store.newest().label
    fitting = [backup for backup in store.all() if backup.ended_at <= moment]
    if not fitting:
        raise ConfigurationError(f"restore: no backup was taken before {moment.isoformat()}", hint="persistence backup list")
    return fitting[-1].label


def _print_held(entries: Any) -> None:
    if not entries:
        console.print("nothing waits for delivery")
        return
    print_rows(
        ("held entry", "tenant", "effect type", "idempotency key", "requested", "attempts"),
        [(e["id"], e["tenant_id"], e["effect_type"], e["idempotency_key"], e["requested_at"], e["attempts"]) for e in entries],
    )
    error_console.print(
        f"{len(entries)} entries are held back: they may have been delivered since. Let them go with: persistence restore release --all, or --id ID",
        style="yellow",
        highlight=False,
        soft_wrap=True,
    )


def _plain(entries: Any) -> list[dict[str, str]]:
    return [{key: str(value) for key, value in entry.items()} for entry in entries]


def _size(size: int) -> str:
    return f"{size / 1024 / 1024:,.1f} MiB"
