"""persistence data: data files of the local store."""

import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO
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
    print_error,
    print_json,
    print_rows,
    run,
    settings_for,
)
from persistence.cli.tenant import operator
from persistence.errors import ConfigurationError, ImportFailed, PersistenceError, ServerError, Unavailable
from persistence.ingest import Ingest, open_ingest
from persistence.ingest.check import Finding, Mended, check
from persistence.ingest.disk import LOCAL_ERRORS, is_broken_index
from persistence.ingest.hierarchy import mapped
from persistence.ingest.index import SQLITE_VERSION
from persistence.ingest.intake import LATEST
from persistence.ingest.registry import IndexEntry
from persistence.ingest.store import set_index_aside
from persistence.ingest.text import member
from persistence.plane import Plane
from persistence.settings import Settings

app = typer.Typer(help="Data files: put, get, list, delete, stats, check, reindex, record, rules.", no_args_is_help=True)
rules_app = typer.Typer(help="Which data start which runs.", no_args_is_help=True)
app.add_typer(rules_app, name="rules")

_READ_AT_ONCE = 1024 * 1024
_SOURCE = "cli"

ScopeArgument = Annotated[str, typer.Argument(metavar="SCOPE", help="source.category[.subcategory]")]
TimeArgument = Annotated[str, typer.Argument(metavar="COLLECTED_AT", help="Such as 2026-01-21T10:00:00Z; or latest.")]


@dataclass(frozen=True)
class _Place:
    """Where a command works. has_database: whether it can put things on the record."""

    ingest: Ingest
    tenant_id: UUID
    has_database: bool

    async def record(self) -> None:
        """Tells the database now, if it is there; otherwise the service does once it is."""
        if self.has_database:
            try:
                await self.ingest.record(self.tenant_id)
            except PersistenceError as error:
                print_error(error)


@app.command("put")
def put(
    scope: ScopeArgument,
    file: Annotated[Path, typer.Argument(help="A file with one JSON object; - for standard input.")] = Path("-"),
    key: Annotated[str | None, typer.Option("--idempotency-key", help="The same key again stores nothing new.")] = None,
    deduplicate: Annotated[bool, typer.Option("--deduplicate", help="Nor does content that the scope has already.")] = False,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Store one JSON object as a data file. Works while the database is away, if the tenant is named by its id."""

    async def go() -> None:
        async with _place(tenant, data_dir, records=True) as place:
            with _opened(file) as stream:
                receipt = await place.ingest.put(
                    place.tenant_id,
                    scope,
                    _chunks(stream),
                    actor=operator(),
                    source=_SOURCE,
                    idempotency_key=key,
                    deduplicate=deduplicate,
                )
            await place.record()
            entry = await place.ingest.find(place.tenant_id, scope, receipt.collected_at)
        if output is Format.JSON:
            print_json({**entry.model_dump(), "is_new": receipt.is_new, "recorded": entry.file_id is not None})
            return
        known = "" if receipt.is_new else ", as it was before"
        recorded = f"recorded as signal {entry.file_id}" if entry.file_id else "not recorded yet"
        console.print(f"stored {scope} {receipt.collected_at}{known}, {recorded}", highlight=False, soft_wrap=True)

    run(go())


@app.command("get")
def get(
    scope: ScopeArgument,
    collected_at: TimeArgument = LATEST,
    only_data: Annotated[bool, typer.Option("--data", help="Only what was posted, without its envelope.")] = False,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Print a data file, as it is on the disk."""

    async def go() -> None:
        async with _place(tenant, data_dir) as place:
            entry = await place.ingest.find(place.tenant_id, scope, collected_at)
            async with place.ingest.opened(place.tenant_id, entry) as file:
                _print(file, only_data=only_data)

    run(go())


@app.command("list")
def list_files(
    scope: Annotated[str | None, typer.Argument(metavar="[SCOPE]", help="Only of this scope.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="Leave out so many of the newest.")] = 0,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """List data files, the newest first."""

    async def go() -> list[IndexEntry]:
        async with _place(tenant, data_dir) as place:
            return list(await place.ingest.list(place.tenant_id, scope, limit=limit + 1, offset=offset))

    all_found = run(go())
    found = all_found[:limit]
    if output is Format.JSON:
        print_json(found)
        return
    print_rows(
        ("scope", "collected at", "bytes", "recorded as", "path"),
        [(entry.scope, entry.collected_at, entry.size_bytes, entry.file_id or "not yet", entry.path) for entry in found],
    )
    if len(all_found) > limit:
        console.print(f"more: --offset {offset + limit}", style="dim", highlight=False)


@app.command("delete")
def delete(
    scope: ScopeArgument,
    collected_at: Annotated[str, typer.Argument(metavar="COLLECTED_AT", help="Such as 2026-01-21T10:00:00Z.")],
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Delete a data file for good. That it was there, and who deleted it, stays in the log."""

    async def go() -> None:
        async with _place(tenant, data_dir, records=True) as place:
            await place.ingest.delete(place.tenant_id, scope, collected_at, actor=operator(), source=_SOURCE)
            await place.record()
        console.print(f"deleted {scope} {collected_at}", highlight=False, soft_wrap=True)

    run(go())


@app.command("stats")
def stats(tenant: TenantOption = None, data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Say what each scope has, and what the database is still to be told."""

    async def go() -> None:
        async with _place(tenant, data_dir) as place:
            scopes = await place.ingest.scopes(place.tenant_id)
            waiting, refused = await place.ingest.waiting(place.tenant_id)
            folder = place.ingest.stores.folder / str(place.tenant_id)
        if output is Format.JSON:
            print_json({"folder": folder, "scopes": scopes, "waiting": waiting, "refused": refused})
            return
        print_rows(
            ("scope", "files", "bytes", "latest", "unrecorded"),
            [(item.scope, item.files, item.size_bytes, item.latest, item.unrecorded) for item in scopes],
        )
        console.print(f"folder   {folder}", highlight=False, soft_wrap=True)
        console.print(f"journal  {waiting} to be recorded, {refused} refused", highlight=False)

    run(go())


@app.command("check")
def check_tree(tenant: TenantOption = None, data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Hold files and index against each other. Exit status 1 when something is wrong."""

    async def go() -> list[Finding]:
        async with _place(tenant, data_dir) as place:
            with place.ingest.stores.of(place.tenant_id) as store:
                return list(check(store))

    found = run(go())
    if output is Format.JSON:
        print_json(found)
    elif found:
        print_rows(("wrong", "path", "what"), [(item.trouble, item.path, item.what) for item in found])
    else:
        console.print("files and index agree")
    if output is not Format.JSON:
        console.print(
            f"index: SQLite {SQLITE_VERSION}; whoever writes holds the tree's lock, as SQLite before 3.51.3 needs", highlight=False
        )
    if found:
        raise typer.Exit(1)


@app.command("reindex")
def reindex(
    anew: Annotated[
        bool,
        typer.Option(
            "--anew", help="Set the index aside first: then every file is looked for in the database, as after a restore."
        ),
    ] = False,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Correct the index by the files, of which each is read. One that cannot be read itself is set aside first."""

    async def go() -> Mended:
        async with _place(tenant, data_dir, records=True) as place:
            if anew or not _is_readable(place):
                place.ingest.stores.close()
                aside = set_index_aside(place.ingest.stores.folder / str(place.tenant_id))
                error_console.print(f"the index was set aside: {aside}", highlight=False, soft_wrap=True)
            mended = await place.ingest.mend(place.tenant_id, thoroughly=True)
            await place.record()
            return mended

    mended = run(go())
    if output is Format.JSON:
        print_json(mended)
        return
    console.print(
        f"{mended.added} rows added, {mended.changed} changed, {mended.removed} removed; "
        f"{mended.drafts} dead drafts removed; {mended.torn} torn files left as they are",
        highlight=False,
    )


@rules_app.command("set")
def set_rules(file: Annotated[Path, typer.Argument(help="Rules in YAML; - for standard input.")], data_dir: DataDir = None) -> None:
    """Put rules in the place of those that are there. They hold from the next record on, for every process of the folder."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"rules: {file}: {error}") from error
    place = open_ingest(settings_for(data_dir), None).rules
    place.replace(text, str(file))
    console.print(f"rules: {len(place.rules().root)}, in {place.path}", highlight=False, soft_wrap=True)


@rules_app.command("show")
def show_rules(data_dir: DataDir = None) -> None:
    """Print the rules."""
    sys.stdout.write(open_ingest(settings_for(data_dir), None).rules.text() or "")


@rules_app.command("remove")
def remove_rules(data_dir: DataDir = None) -> None:
    """From now on data start no runs."""
    open_ingest(settings_for(data_dir), None).rules.replace(None)


@app.command("record")
def record(tenant: TenantOption = None, data_dir: DataDir = None) -> None:
    """Tell the database now what it does not know yet, what it refused before too."""

    async def go() -> None:
        async with _place(tenant, data_dir, records=True) as place:
            with place.ingest.stores.of(place.tenant_id) as store:
                store.journal.take_up()
            recorded = await place.ingest.record(place.tenant_id)
            waiting, refused = await place.ingest.waiting(place.tenant_id)
        console.print(f"{recorded} recorded, {waiting} to be recorded, {refused} refused", highlight=False)
        if refused:
            raise typer.Exit(1)

    run(go())


@asynccontextmanager
async def _place(tenant: str | None, data_dir: Path | None, *, records: bool = False) -> AsyncIterator[_Place]:
    """Where a command works. records: it changes something, so the database is to be told; it may be away all the same."""
    settings = settings_for(data_dir)
    async with AsyncExitStack() as stack:
        tenant_id = _tenant_without_database(tenant, settings)
        plane: Plane | None = None
        if records or tenant_id is None:
            try:
                plane = await stack.enter_async_context(Plane(settings=settings))
                tenant_id = (await find_tenant(plane, tenant or (str(tenant_id) if tenant_id else None))).tenant_id
            except (ServerError, Unavailable) as error:
                if tenant_id is None:
                    raise
                print_error(error)
        ingest = await stack.enter_async_context(open_ingest(settings, plane))
        yield _Place(ingest, tenant_id, plane is not None)


def _tenant_without_database(tenant: str | None, settings: Settings) -> UUID | None:
    """The tenant that is named by its id, or that is the only one with data here."""
    if tenant is not None:
        try:
            return UUID(tenant)
        except ValueError:
            return None
    trees = open_ingest(settings, None).stores.tenants()
    return trees[0] if len(trees) == 1 else None


def _is_readable(place: _Place) -> bool:
    try:
        with place.ingest.stores.of(place.tenant_id) as store:
            return not store.registry.faults()
    except LOCAL_ERRORS as error:
        if not is_broken_index(error):
            raise
        return False


def _opened(file: Path) -> BinaryIO:
    if str(file) == "-":
        return sys.stdin.buffer
    try:
        return file.open("rb")
    except OSError as error:
        raise ImportFailed(f"{file}: {error.strerror}", hint="name a file that can be read") from error


def _print(file: int, *, only_data: bool) -> None:
    if only_data:
        sys.stdout.buffer.write(member(mapped(file), "data"))
    else:
        with open(file, "rb", closefd=False) as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer)
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


async def _chunks(stream: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := stream.read(_READ_AT_ONCE):
        yield chunk
