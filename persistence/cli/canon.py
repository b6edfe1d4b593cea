"""persistence canon: the law's own version and seal."""

from pathlib import Path
from typing import Annotated

import typer

from persistence.canon import Canon
from persistence.canon.changes import Bump, bump_between, changes, next_version
from persistence.cli.console import Format, OutputFormat, console, print_json
from persistence.errors import ConfigurationError
from persistence.gates.canon_sources import last_release, open_canon
from persistence.resources import resource

app = typer.Typer(help="The canon: its version, its seal, and what a change of it asks for.", no_args_is_help=True)

Folder = Annotated[Path | None, typer.Option("--canon", help="The folder of the canon; that of this package by default.")]


@app.command("check")
def check(
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="GIT-REF|FILE", help="A revision, a wheel or a folder. Default: the last tag, if any."),
    ] = None,
    folder: Folder = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Check the seal, and that the version was raised as the changes since a release ask for. Exit status 1 when not."""
    place = folder or resource("canon")
    canon = Canon.read(place)
    problems = _standing(canon)
    against = against or last_release(place)
    found = []
    needed = Bump.NONE
    if against is not None:
        old = open_canon(against, place)
        found = changes(old, canon)
        needed = max((change.bump for change in found), default=Bump.NONE)
        problems += [change.what for change in found if change.bump is Bump.REFUSED]
        lawful = max((change.bump for change in found if change.bump is not Bump.REFUSED), default=Bump.NONE)
        if bump_between(old.version, canon.version) < lawful:
            due = next_version(old.version, lawful)
            problems.append(f"VERSION is {canon.version}; {lawful.name.lower()} changes since {old.version} ask for {due} at least")
    if output is Format.JSON:
        print_json(
            {
                "version": canon.version,
                "seal": canon.seal,
                "against": against,
                "bump": needed.name.lower(),
                "changes": [{"bump": change.bump.name.lower(), "what": change.what} for change in found],
                "problems": problems,
            }
        )
    else:
        console.print(
            f"canon {canon.version}, seal {canon.seal[:16]}…, against {against or 'nothing: there is no release yet'}",
            highlight=False,
        )
        for change in found:
            console.print(f"  {change.bump.name.lower():8} {change.what}", markup=False, highlight=False, soft_wrap=True)
        for problem in problems:
            console.print(f"✗ {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
        if not problems:
            console.print("✓ the canon is in order", style="green")
    if problems:
        raise typer.Exit(1)


@app.command("seal")
def seal(folder: Folder = None) -> None:
    """Write the seal anew, after a change of the data."""
    place = folder or resource("canon")
    canon = Canon.read(place)
    try:
        (place / "SEAL").write_text(canon.seal + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"canon: {place / 'SEAL'} cannot be written: {error.strerror}") from error
    console.print(f"canon {canon.version}, seal {canon.seal}", highlight=False, soft_wrap=True)


def _standing(canon: Canon) -> list[str]:
    """What is wrong with a canon by itself."""
    problems = []
    if canon.stated_seal != canon.seal:
        problems.append("SEAL is not that of the data: persistence canon seal, once the change is meant")
    upcasters = {path.name.split(".")[0] for path in (resource("migrations") / "sql" / "functions").glob("*.sql")}
    for kind in canon.event_types.values():
        problems += [
            f"{kind.name} is at version {kind.version}, but nothing is said of version {version}"
            for version in range(1, kind.version)
            if version not in kind.past
        ]
        problems += [
            f"{kind.name}: the upcaster {past.upcaster} of version {version} is no function of the migrations"
            for version, past in kind.past.items()
            if past.upcaster not in upcasters
        ]
    return problems
