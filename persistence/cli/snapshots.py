"""persistence snapshot: copies of a tenant's, an agent's or a conversation's state."""

import asyncio
import shutil
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from persistence.cli.console import (
    DataDir,
    Format,
    OutputFormat,
    TenantOption,
    console,
    error_console,
    find_tenant,
    print_json,
    print_rows,
    run,
    settings_for,
)
from persistence.cli.logs import log_folder
from persistence.cli.tenant import operator
from persistence.cli.vault import Code, unlocked
from persistence.database.server import open_server
from persistence.errors import ConfigurationError, InvalidInput, NotFound
from persistence.models import Snapshot
from persistence.plane import Plane
from persistence.queries.words import clock
from persistence.secrets.recorded_vault import open_vault, vault_folder
from persistence.snapshots import Retention, SnapshotStore, Subject, prune, restore, take, verify
from persistence.snapshots.manifest import ARCHIVE, Kind, SnapshotRefused
from persistence.snapshots.retention import delete
from persistence.snapshots.system import RecordedSnapshot, SystemSnapshot, SystemSnapshots, system_roots
from persistence.snapshots.taking import adopt, snapshots_of
from persistence.workspaces.jail import FILE_MODE, open_plain

app = typer.Typer(
    help="Copies of the state on disk, each at one position of the log. Of all there is: persistence snapshot system.",
    no_args_is_help=True,
)

system = typer.Typer(help="Of all there is on this machine: server, vault, configuration, data files, logs.", no_args_is_help=True)
app.add_typer(system, name="system")

Last = Annotated[int, typer.Option(min=0, help="So many of the newest stay.")]
Daily = Annotated[int, typer.Option(min=0, help="And the newest of each of so many days,")]
Weekly = Annotated[int, typer.Option(min=0, help="weeks,")]
Monthly = Annotated[int, typer.Option(min=0, help="and months.")]
KindOf = Annotated[str | None, typer.Option("--kind", help="Only those of a tenant, agent or conversation.")]
Of = Annotated[str | None, typer.Option(help="Only those of this agent or conversation.")]
Which = Annotated[
    str,
    typer.Argument(help="The snapshot's folder, such as 2026-01-31T120000Z; latest: the newest that was not taken by a restore."),
]


def _subject(kind: str, of: str | None) -> Subject:
    kinds: tuple[Kind, ...] = ("tenant", "agent", "conversation")
    for known in kinds:
        if known == kind:
            return Subject(known, of)
    raise InvalidInput(
        f"kind: {kind!r} is none",
        hint=f"choose from {', '.join(kinds)}; of all there is: persistence snapshot system take",
        field="kind",
    )


async def find_snapshot(plane: Plane, tenant_id: UUID, folder: str, kind: str | None = None, of: str | None = None) -> Snapshot:
    """A snapshot by its folder or id; ``latest``: what one would go back to: not what was taken before going back, and not what was refused.

    kind, of: only those of this. Raises NotFound; InvalidInput where ``latest`` could be of several.
    """
    there = [
        item
        for item in await snapshots_of(plane, tenant_id, None, actor=operator())
        if kind in {None, item.snapshot_kind} and of in {None, item.subject}
    ]
    if folder == "latest":
        there = [item for item in there if item.cause != "restore" and item.status != "REFUSED"]
        if len(subjects := sorted({item.of for item in there})) > 1:
            raise InvalidInput(
                f"latest: there are snapshots of {', '.join(subjects[:5])}{' and others' if len(subjects) > 5 else ''}",
                hint="say which: --kind agent --of agent:NAME, --kind tenant, or the folder",
                field="which",
            )
        found = next(iter(there), None)
    else:
        found = next((item for item in there if folder in {item.folder, str(item.id)}), None)
    if found is None:
        raise NotFound(f"there is no snapshot {folder!r} of this tenant", hint="persistence snapshot list")
    return found


@app.command("take")
def take_(
    kind: Annotated[str, typer.Option(help="tenant, agent or conversation.")] = "tenant",
    of: Annotated[str | None, typer.Option(help="The agent's actor, or the conversation's correlation id.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Do not go on from the last one.")] = False,
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Let the vault seal it.")] = False,
    tenant: TenantOption = None,
    code: Code = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Take a snapshot. It counts once it is on disk whole and recorded."""

    async def go() -> tuple[Snapshot, Path]:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            if encrypt:
                await unlocked(plane, code)
            taken = await take(plane, found.tenant_id, _subject(kind, of), actor=operator(), full=full, encrypt=encrypt)
            return taken, SnapshotStore.of(plane.settings, found.tenant_id).place(taken.folder)

    taken, place = run(go())
    if output is Format.JSON:
        print_json({**taken.model_dump(mode="json"), "path": str(place)})
    else:
        console.print(
            f"{taken.folder} of {taken.of}, {taken.size_bytes:,} bytes, position {taken.position}: {place}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )


@app.command("list")
def list_(tenant: TenantOption = None, data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """List a tenant's snapshots, the newest first."""

    async def go() -> list[Snapshot]:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            return await snapshots_of(plane, found.tenant_id, None, actor=operator())

    found = run(go())
    if output is Format.JSON:
        print_json(found)
        return
    print_rows(
        ("folder", "of", "status", "bytes", "position", "why", "by", "verified", "restored", "refused for"),
        [
            (
                s.folder,
                s.of,
                s.status,
                f"{s.size_bytes:,}",
                s.position,
                s.cause,
                s.actor,
                clock(s.verified_at),
                clock(s.restored_at),
                (s.error_details or {}).get("message") if s.status == "REFUSED" else None,
            )
            for s in found
        ],
    )


@app.command("verify")
def verify_(
    which: Which = "latest",
    kind: KindOf = None,
    of: Of = None,
    tenant: TenantOption = None,
    code: Code = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Read a snapshot whole, fold its events again in a place of their own, and compare. Exit status 1 when it is refused."""

    async def go() -> Snapshot:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            snapshot = await find_snapshot(plane, found.tenant_id, which, kind, of)
            await _unlocked_for(plane, snapshot, code)
            return await verify(plane, snapshot, actor=operator())

    snapshot = run(go())
    if output is Format.JSON:
        print_json(snapshot)
    elif snapshot.status == "VERIFIED":
        console.print(f"{snapshot.folder} is good: {snapshot.findings}", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(
            f"{snapshot.folder} is refused: {snapshot.error_details['message']}",
            style="bold red",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        console.print("put its folder, and those that it goes on from, back from a copy and verify again; or take one with --full")
    if snapshot.status != "VERIFIED":
        raise typer.Exit(1)


@app.command("restore")
def restore_(
    which: Which,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what differs, and change nothing.")] = False,
    kind: KindOf = None,
    of: Of = None,
    tenant: TenantOption = None,
    code: Code = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Bring back what a snapshot holds, into the running database, by events. The log stays as it is; a snapshot of the present is taken first."""

    async def go() -> Any:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            snapshot = await find_snapshot(plane, found.tenant_id, which, kind, of)
            await _unlocked_for(plane, snapshot, code)
            return await restore(plane, snapshot, actor=operator(), dry_run=dry_run)

    done = run(go())
    error_console.print(
        f"snapshot {done.snapshot.folder} of {done.snapshot.of}, position {done.snapshot.position}", markup=False, highlight=False
    )
    if output is Format.JSON:
        print_json(
            {
                "dry_run": dry_run,
                "before": None if done.before is None else done.before.folder,
                "differences": [
                    {
                        "run_id": str(d.run_id),
                        "run_type": d.run_type,
                        "what": d.what,
                        "then": d.then,
                        "now": d.now,
                        "action": d.action,
                        "reason": d.reason,
                    }
                    for d in done.differences
                ],
            }
        )
        return
    print_rows(
        ("id", "type", "what", "then", "now", "action", ""),
        [(d.run_id, d.run_type, d.what, d.then, d.now, d.action, d.reason) for d in done.differences],
    )
    verb = "can be" if dry_run else "were"
    console.print(f"{done.done} of {len(done.differences)} differences {verb} brought back", highlight=False)
    if done.before is not None:
        console.print(f"the state of before is in {done.before.folder}", highlight=False)


@app.command("delete")
def delete_(
    which: Which,
    reason: Annotated[str, typer.Option(help="Why. It is on the record.")],
    kind: KindOf = None,
    of: Of = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Delete a snapshot. The last one that was verified stays."""

    async def go() -> Snapshot:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            return await delete(plane, await find_snapshot(plane, found.tenant_id, which, kind, of), reason, actor=operator())

    console.print(f"deleted {run(go()).folder}", highlight=False)


@app.command("prune")
def prune_(
    last: Last = 10,
    daily: Daily = 7,
    weekly: Weekly = 4,
    monthly: Monthly = 12,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which would go.")] = False,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Delete the snapshots that need not stay. The last one that was verified always does."""

    async def go() -> list[Snapshot]:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            return await prune(plane, found.tenant_id, Retention(last, daily, weekly, monthly), actor=operator(), dry_run=dry_run)

    for item in run(go()):
        console.print(f"{'would delete' if dry_run else 'deleted'} {item.folder} of {item.of}", markup=False, highlight=False)


@app.command("export")
def export(
    which: Which,
    file: Annotated[Path, typer.Argument(help="The zip to write.", dir_okay=False)],
    kind: KindOf = None,
    of: Of = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Copy a snapshot's archive. One that goes on from another needs that one, too: take it with --full to have all in one file."""

    async def go() -> None:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            snapshot = await find_snapshot(plane, found.tenant_id, which, kind, of)
            store = SnapshotStore.of(plane.settings, found.tenant_id)
            manifest = store.manifest(snapshot)
            if manifest.parent is not None:
                raise ConfigurationError(
                    f"{snapshot.folder} goes on from {manifest.parent}", hint="persistence snapshot take --full, and export that"
                )
            if file.exists():
                raise ConfigurationError(f"{file}: there is something already", hint="choose another name")
            with open_plain(store.place(snapshot.folder) / ARCHIVE) as source, file.open("xb") as target:
                file.chmod(FILE_MODE)
                shutil.copyfileobj(source, target)

    run(go())
    console.print(f"wrote {file}", highlight=False)


@app.command("adopt")
def adopt_(
    folder: Annotated[str, typer.Argument(help="The folder's name, such as 2026-01-31T120000Z.")],
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Record a snapshot that this database does not know, as after it was restored from a backup. Verify it then."""

    async def go() -> Snapshot:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            return await adopt(plane, found.tenant_id, folder, actor=operator())

    taken = run(go())
    console.print(
        f"recorded {taken.folder} of {taken.of}: persistence snapshot verify {taken.folder}", markup=False, highlight=False
    )


@system.command("take")
def take_system(
    full: Annotated[bool, typer.Option("--full", help="Everything, even where the last one could be gone on from.")] = False,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Take a snapshot of all there is, while it works. Needs an administrator's login."""
    settings = settings_for(data_dir)
    roots = system_roots(settings, vault_folder(settings), log_folder(settings))

    async def go() -> SystemSnapshot:
        async with open_server(settings) as server:
            return await asyncio.to_thread(
                SystemSnapshots(settings).take, server.for_administration, server.audit_dsn, roots, actor=operator(), full=full
            )

    taken = run(go())
    for name in taken.left_out:
        error_console.print(f"left out, for its name cannot be shown: {name}", markup=False, highlight=False)
    if output is Format.JSON:
        print_json(
            {
                "left_out": taken.left_out,
                "folder": taken.manifest.folder,
                "path": str(taken.path),
                "backup": taken.manifest.backup,
                "position": taken.manifest.position,
                "files": len(taken.manifest.files),
                "new_bytes": taken.new_bytes,
                "backup_bytes": taken.backup_bytes,
            }
        )
    else:
        files = f"{len(taken.manifest.files)} files, {taken.new_bytes:,} bytes of them new"
        console.print(
            f"{taken.manifest.folder}: backup {taken.manifest.backup} of {taken.backup_bytes:,} bytes, {files}: {taken.path}",
            highlight=False,
            soft_wrap=True,
        )


@system.command("list")
def list_system(data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """List the snapshots of all there is, the newest first, and what the log says of each."""
    settings = settings_for(data_dir)
    snapshots = SystemSnapshots(settings)

    async def go() -> list[dict[str, object]]:
        async with open_server(settings) as server:
            recorded = {item.id: item for item in await asyncio.to_thread(snapshots.recorded, server.for_administration)}
        found: list[dict[str, object]] = []
        for folder in reversed(snapshots.store.all()):
            try:
                manifest = snapshots.store.get(folder)
            except SnapshotRefused as refusal:
                found.append({"folder": folder, "status": "UNREADABLE", "why": refusal.message})
                continue
            said = recorded.get(manifest.snapshot_id)
            found.append(
                {
                    "folder": folder,
                    "status": "NOT RECORDED" if said is None else said.status,
                    "verified_at": None if said is None else said.verified_at,
                    "backup": manifest.backup,
                    "position": manifest.position,
                    "files": len(manifest.files),
                }
            )
        return found

    found = run(go())
    if output is Format.JSON:
        print_json(found)
        return
    columns = ("folder", "status", "verified_at", "backup", "position", "files", "why")
    print_rows(columns, [tuple(row.get(column) for column in columns) for row in found])


@system.command("verify")
def verify_system(which: Which = "latest", data_dir: DataDir = None) -> None:
    """Hold every file to its digest, restore the server's part on a private socket, and run the gates there. Exit status 1 when it is refused."""
    settings = settings_for(data_dir)

    async def go() -> tuple[str, str | None]:
        snapshots = SystemSnapshots(settings)
        folder = snapshots.store.newest().folder if which == "latest" else which
        async with open_server(settings) as server:
            return folder, await snapshots.verify(folder, server.for_administration, actor=operator())

    folder, refusal = run(go())
    if refusal is not None:
        console.print(f"{folder} is refused: {refusal}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)
    console.print(f"{folder} is good", highlight=False)


@system.command("restore")
def restore_system(
    which: Which,
    into: Annotated[Path, typer.Option("--into", help="A new data directory.")],
    data_dir: DataDir = None,
) -> None:
    """Make a new data directory of a snapshot. The log goes on in a new epoch, and the outbox waits: see persistence restore."""
    settings = settings_for(data_dir)
    snapshots = SystemSnapshots(settings)
    folder = snapshots.store.newest().folder if which == "latest" else which
    vault = open_vault(settings).file.path
    done = snapshots.restore(folder, into, vault=vault)
    console.print(
        f"restored {folder} into {into}: epoch {done.epoch}, {len(done.held)} entries of the outbox wait",
        highlight=False,
        soft_wrap=True,
    )
    console.print("persistence restore held lists them", highlight=False)
    if vault.is_file():
        console.print(
            "before anything else, there: persistence vault check --mend, which erases again who was erased since", style="bold"
        )


@system.command("prune")
def prune_system(
    last: Last = 10,
    daily: Daily = 7,
    weekly: Weekly = 4,
    monthly: Monthly = 12,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which would go.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Delete those that need not stay, and the backups that only they had. The last one that was verified always stays."""
    settings = settings_for(data_dir)

    async def go() -> list[RecordedSnapshot]:
        async with open_server(settings) as server:
            return await asyncio.to_thread(
                SystemSnapshots(settings).prune,
                Retention(last, daily, weekly, monthly),
                server.for_administration,
                actor=operator(),
                dry_run=dry_run,
            )

    for item in run(go()):
        console.print(f"{'would delete' if dry_run else 'deleted'} {item.folder}", highlight=False)


async def _unlocked_for(plane: Plane, snapshot: Snapshot, code: str | None) -> None:
    """Opens the vault where a snapshot is sealed by it."""
    store = SnapshotStore.of(plane.settings, snapshot.tenant_id)
    try:
        is_sealed = any(manifest.sealing for manifest in store.chain(snapshot))
    except SnapshotRefused:
        return  # whoever reads it says what is wrong
    if is_sealed:
        await unlocked(plane, code)
