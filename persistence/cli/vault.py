"""persistence vault: the keys, and what opens them."""

import asyncio
import getpass
import os
import shutil
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from persistence.cli.console import DataDir, Format, OutputFormat, console, print_json, print_rows, run, settings_for
from persistence.cli.tenant import operator
from persistence.errors import ConfigurationError, InvalidInput, NotFound, UnlockRefused, VaultLocked
from persistence.plane import Plane
from persistence.secrets import RecordedVault
from persistence.secrets.checking import check_all, check_no_other, give_up, mend, rewrap_all
from persistence.secrets.recorded_vault import LATER, openers_of
from persistence.settings import Settings
from persistence.vault import Opener, Vault
from persistence.vault.derivation import to_text
from persistence.vault.document import Document, EntryKind, Unlocker
from persistence.vault.key_memory import wipe
from persistence.vault.keys import Keys
from persistence.vault.vault import check_opener, otpauth, write_key_file

T = TypeVar("T")

COPIES: Final = "copies of the vault's file are out of date: copy it again"
"""Said after what an older copy does not know, or does not open any more."""

app = typer.Typer(
    help="The vault: what seals secrets and personal data. It asks for the passphrase, unless the environment opens it.",
    no_args_is_help=True,
)
config = typer.Typer(help="Entries of the vault's own file, such as master configurations of agents.", no_args_is_help=True)
unlockers = typer.Typer(help="What opens the vault.", no_args_is_help=True)
factor = typer.Typer(help="One-time codes beside the passphrase.", no_args_is_help=True)
app.add_typer(config, name="config")
app.add_typer(unlockers, name="unlockers")
app.add_typer(factor, name="second-factor")

SETTLING = 60.0
"""Seconds that a new term is old before earlier ones end."""

_ENVIRONMENT: Final = "PERSISTENCE_VAULT_PASSPHRASE"
_NEW: Final = "PERSISTENCE_VAULT_NEW_PASSPHRASE"
Code = Annotated[str | None, typer.Option(help="The one-time code that your authenticator shows, where the vault asks for one.")]
KeyFile = Annotated[
    Path | None, typer.Option(help="Make a key file there, and let it open the vault. Keep it away from the vault's folder.")
]
Environment = Annotated[
    bool, typer.Option("--environment", help="Make a key for PERSISTENCE_VAULT_KEY, print it once, and let it open the vault.")
]


def ask_passphrase(label: str, variable: str, *, twice: bool = False) -> bytearray:
    """From the environment, or from who sits there. Raises ConfigurationError where there is neither."""
    given = os.environ.get(variable)
    if given is None:
        if not sys.stdin.isatty():
            raise ConfigurationError(f"there is no terminal to ask for the {label}", hint=f"set {variable}")
        given = getpass.getpass(f"{label}: ")
        if twice and getpass.getpass(f"{label} again: ") != given:
            raise ConfigurationError("the two were not the same", hint="nothing was changed; try again")
    return bytearray(given.encode())


async def unlocked(plane: Plane, code: str | None = None) -> RecordedVault:
    """The vault, open: by what the environment gives, or else by a passphrase. Raises UnlockRefused and its kin."""
    vault = plane.vault
    vault.actor = operator()
    try:
        if code is None:
            await vault.ready()
            return vault
    except (VaultLocked, UnlockRefused):
        if not sys.stdin.isatty():
            raise
    await vault.unlock(Opener("passphrase", ask_passphrase("passphrase", _ENVIRONMENT)), code)
    return vault


def _with_vault(
    work: Callable[[Plane, RecordedVault], Coroutine[Any, Any, T]], data_dir: Path | None, code: str | None = None
) -> T:
    async def go() -> T:
        async with Plane(settings=settings_for(data_dir)) as plane:
            return await work(plane, await unlocked(plane, code))

    return run(go())


def _changed(
    change: Any, step: Callable[[Keys], Keys], data_dir: Path | None, code: str | None, name: str | None = None
) -> Document:
    async def work(_: Plane, vault: RecordedVault) -> Document:
        return await vault.changed(change, name, step=step)

    return _with_vault(work, data_dir, code)


def _vault(data_dir: Path | None) -> Vault:
    from persistence.secrets import open_vault  # noqa: PLC0415

    return open_vault(settings_for(data_dir))


def _made(settings: Settings, *, key_file: Path | None, environment: bool, passphrase: bytearray | None) -> list[Opener]:
    """The openers of a new vault, or a new root key."""
    openers = [] if passphrase is None else [Opener("passphrase", passphrase)]
    if key_file is not None:
        openers.append(Opener("key-file", write_key_file(key_file)))
    if environment:
        openers.append(_printed_key())
    return openers


def _printed_key() -> Opener:
    key = bytearray(os.urandom(32))
    console.print(f"PERSISTENCE_VAULT_KEY={to_text(key)}", highlight=False, soft_wrap=True)
    return Opener("environment", key)


@app.command("init")
def init(
    key_file: KeyFile = None,
    environment: Environment = False,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Let a key file or the environment alone open it.")
    ] = False,
    lost: Annotated[
        bool, typer.Option("--lost", help="The former vault is lost for good: destroy, on the record, all that nobody can open.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make the vault. Whoever loses all that opens it loses what it seals: keep a passphrase, or a key file, in a second place."""
    settings = settings_for(data_dir)
    given = openers_of(settings) if no_passphrase else [opener for opener in openers_of(settings) if opener.kind != "passphrase"]
    if no_passphrase and not (key_file or environment or given):
        raise ConfigurationError("nothing would open this vault", hint="leave out --no-passphrase, or give --key-file PATH")
    vault = _vault(data_dir)
    passphrase = None if no_passphrase or vault.exists else ask_passphrase("new passphrase", _ENVIRONMENT, twice=True)
    if passphrase is not None:
        check_opener(Opener("passphrase", passphrase))
    if vault.exists and not lost:
        raise ConfigurationError(f"there is a vault in {vault.file.folder} already", hint="persistence vault status")

    async def go() -> Document:
        async with Plane(settings=settings) as plane:
            mine = plane.vault
            mine.actor = operator()
            if not lost:
                await check_no_other(plane.server.audit_dsn)
            if vault.exists:  # --lost was begun before, and did not end
                document = (await unlocked(plane)).vault.document()
            else:
                openers = [*_made(settings, key_file=key_file, environment=environment, passphrase=passphrase), *given]
                mine.vault.create(openers)
                document = await mine.changed("created")
            if lost:
                gone = await give_up(plane.server.audit_dsn, document.vault_id, plane.transaction, actor=operator())
                console.print(
                    f"{gone['secrets']} secrets and {gone['keys']} keys that nobody can open are destroyed", highlight=False
                )
            return document

    document = run(go())
    console.print(f"vault {document.vault_id} is in {vault.file.path}", highlight=False, soft_wrap=True)


@app.command("status")
def status(data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Where the vault is, what opens it, and in which term it is. Opens nothing."""
    vault = _vault(data_dir)
    document = vault.document()
    facts: dict[str, Any] = {
        "vault_id": str(document.vault_id),
        "path": str(vault.file.path),
        "generation": document.generation,
        "term": document.last_term,
        "terms": len(document.terms),
        "entries": len(document.entries),
        "erased_keys": len(document.erased),
        "second_factor": document.second_factor is not None,
        "locked_by_command": vault.is_locked_by_command,
        "unlockers": [_described(item) for item in document.unlockers],
    }
    if output is Format.JSON:
        print_json(facts)
        return
    for name, value in facts.items():
        if name != "unlockers":
            console.print(f"{name.replace('_', ' '):18} {value}", highlight=False, soft_wrap=True)
    print_rows(
        ("unlocker", "kind", "derivation"), [(item["name"], item["kind"], item["derivation"]) for item in facts["unlockers"]]
    )


def _described(item: Unlocker) -> dict[str, str]:
    how = item.derivation
    return {
        "name": item.name,
        "kind": item.kind,
        "derivation": how.name if how.name == "hkdf-sha256" else f"{how.name}, {how.iterations:,} iterations",
    }


@app.command("lock")
def lock(data_dir: DataDir = None) -> None:
    """Lock the vault in all processes of this machine, until somebody unlocks it: what the environment gives does not."""
    vault = _vault(data_dir)
    vault.document()  # says that there is none
    vault.lock_everywhere()

    async def go() -> None:
        async with Plane(settings=settings_for(data_dir)) as plane:
            mine = plane.vault
            mine.actor = operator()
            mine.note("locked")
            await mine.tell()

    run(go())
    console.print("locked; persistence vault unlock lets it be opened again", highlight=False)


@app.command("unlock")
def unlock(code: Code = None, data_dir: DataDir = None) -> None:
    """See that a passphrase opens the vault, and let the processes of this machine open it again after `vault lock`."""

    async def go() -> Document:
        async with Plane(settings=settings_for(data_dir)) as plane:
            vault = plane.vault
            vault.actor = operator()
            if _ENVIRONMENT not in os.environ and (openers := openers_of(plane.settings)):
                return await vault.unlock(openers[0], code)
            return await vault.unlock(Opener("passphrase", ask_passphrase("passphrase", _ENVIRONMENT)), code)

    document = run(go())
    console.print(f"vault {document.vault_id} opens; generation {document.generation}, term {document.last_term}", highlight=False)


@app.command("rotate")
def rotate(code: Code = None, data_dir: DataDir = None) -> None:
    """Begin a new term: what is wrapped from now on is wrapped with a new key. What is there stays readable; `vault rewrap` brings it along."""
    document = _changed("rotated", lambda keys: keys.rotated(), data_dir, code)
    console.print(f"term {document.last_term} has begun; persistence vault rewrap brings what is older along", highlight=False)
    console.print(COPIES, highlight=False)


@app.command("rewrap")
def rewrap(
    end_terms: Annotated[
        bool, typer.Option("--end-terms", help="Then end all terms but the last: their keys are destroyed.")
    ] = False,
    code: Code = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Bring keys, secrets and entries of earlier terms into the last, of all tenants. It may be killed and called again."""

    async def work(plane: Plane, vault: RecordedVault) -> dict[str, int]:
        await vault.changed("rewrapped", step=lambda keys: keys.rewrapped_entries())
        done = await rewrap_all(plane.server.audit_dsn, plane.settings, vault, plane.transaction, actor=operator())
        if end_terms:
            if done["problems"]:
                raise ConfigurationError("some keys do not open, so no term is ended", hint="persistence vault check says which")
            await _settle(vault.vault.document())
            await rewrap_all(plane.server.audit_dsn, plane.settings, vault, plane.transaction, actor=operator())
            await vault.changed("terms_ended", step=lambda keys: keys.without_terms_before(keys.document.last_term))
        return done

    done = _with_vault(work, data_dir, code)
    if output is Format.JSON:
        print_json(done)
    else:
        words = f"{done['keys']} keys and {done['secrets']} secrets rewrapped, {done['destroyed']} keys destroyed"
        console.print(words, highlight=False)
        if end_terms:
            console.print(f"{COPIES}; older ones open nothing of it any more", highlight=False)
        if done["problems"]:
            console.print(f"{done['problems']} do not open: persistence vault check says which", style="bold red", highlight=False)
    if done["problems"]:
        raise typer.Exit(1)


async def _settle(document: Document) -> None:
    """Waits until whoever wrapped something in an earlier term, just before the last one began, has written it down or given up."""
    age = datetime.now(UTC) - datetime.fromisoformat(document.terms[-1].begun_at)
    wait = SETTLING - age.total_seconds()
    if wait > 0:
        console.print(f"waiting {wait:.0f} s: others may still write down what they wrapped in an earlier term", highlight=False)
        await asyncio.sleep(wait)


@app.command("rekey")
def rekey(
    drop: Annotated[list[str] | None, typer.Option(help="An unlocker that is not to open the vault any more.")] = None,
    code: Code = None,
    data_dir: DataDir = None,
) -> None:
    """Give the vault a new passphrase. No old copy of the file, with whatever opened it, opens this one.

    Of the other unlockers those stay whose secret is at hand (PERSISTENCE_VAULT_KEY, PERSISTENCE_VAULT_KEY_FILE); name the rest with --drop.
    """

    async def work(plane: Plane, vault: RecordedVault) -> Document:
        openers = []
        for item in vault.vault.document().unlockers:
            if item.name in (drop or ()):
                continue
            if item.kind == "passphrase":
                secret = ask_passphrase(
                    f"new passphrase ({item.name})" if item.name != "passphrase" else "new passphrase", _NEW, twice=True
                )
            else:
                secrets = [opener.secret for opener in openers_of(plane.settings) if opener.kind == item.kind]
                if not secrets:
                    raise ConfigurationError(
                        f"unlocker {item.name!r}: its {item.kind} is not at hand",
                        hint=f"set it in the environment, or --drop {item.name}",
                    )
                [secret] = secrets
            opener = Opener(item.kind, secret, item.name)
            check_opener(opener)
            openers.append(opener)
        if not openers:
            raise ConfigurationError("nothing would open this vault any more", hint="keep at least one unlocker")
        settings = vault.vault.config
        return await vault.changed("rekeyed", step=lambda keys: keys.rekeyed(openers, settings.derivation, settings.iterations))

    document = _with_vault(work, data_dir, code)
    console.print(f"rekeyed; {', '.join(item.name for item in document.unlockers)} opens it", highlight=False)
    console.print(f"{COPIES}; start processes again that were given the former passphrase", highlight=False)


def _later(settings: Settings, vault: RecordedVault) -> Vault | None:
    """The later file that a restore put beside the vault, for what was erased since. Raises ConfigurationError for another vault's."""
    later = Vault(vault.vault.file.folder / LATER, vault.vault.config, openers_of(settings))
    if not later.exists:
        return None
    if later.document().vault_id != vault.vault.document().vault_id:
        raise ConfigurationError(f"{later.file.path}: is another vault's", hint="remove it")
    return later


def _erasures_of(settings: Settings, later: Vault, code: str | None) -> Sequence[str]:
    """What a later file says was erased, proven by opening it."""
    opener = next(iter(openers_of(settings)), None)
    if opener is None:
        opener = Opener("passphrase", ask_passphrase(f"passphrase of {later.file.path}", _ENVIRONMENT))
    erased = later.unlock(opener, code).erased
    later.lock()
    return list(erased)


@app.command("check")
def check(
    mend_: Annotated[bool, typer.Option("--mend", help="Destroy again what was erased and came back with a backup.")] = False,
    code: Code = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Open every key, secret and entry, and say which do not open. Exit status 1 when there is one."""

    async def work(plane: Plane, vault: RecordedVault) -> dict[str, Any]:
        again = None
        if mend_:
            later = _later(plane.settings, vault)
            also = () if later is None else await asyncio.to_thread(_erasures_of, plane.settings, later, code)
            again = await mend(plane.server.audit_dsn, vault, plane.transaction, actor=operator(), also=also)
            if later is not None:
                shutil.rmtree(later.file.folder)
        return {**await check_all(plane.server.audit_dsn, vault), "erased_again": again}

    found = _with_vault(work, data_dir, code)
    if output is Format.JSON:
        print_json(found)
    else:
        if found["erased_again"] is not None:
            console.print(f"{found['erased_again']} keys that had been erased are destroyed again", highlight=False)
        console.print(f"{found['keys']} keys, {found['secrets']} secrets and {found['entries']} entries open", highlight=False)
        for problem in found["problems"]:
            console.print(problem, style="bold red", highlight=False, soft_wrap=True)
    if found["problems"]:
        raise typer.Exit(1)


@app.command("accept-older")
def accept_older(
    yes: Annotated[bool, typer.Option("--yes", help="Yes: the later file is lost for good.")] = False,
    code: Code = None,
    data_dir: DataDir = None,
) -> None:
    """Go on with a file that is older than the log knows, because the later one is lost. What was changed since has to be done again."""
    if not yes:
        raise ConfigurationError("this takes an older file for the vault", hint="say --yes when the later one is lost for good")

    async def go() -> Document:
        async with Plane(settings=settings_for(data_dir)) as plane:
            vault = plane.vault
            vault.actor = operator()
            vault.accepts_older = True
            openers = openers_of(plane.settings) or [Opener("passphrase", ask_passphrase("passphrase", _ENVIRONMENT))]
            await vault.unlock(openers[0], code)
            return await vault.changed("restored")

    console.print(f"generation {run(go()).generation} it is", highlight=False)
    console.print(
        "persistence vault check says what it does not open; persistence secret rotate lets tenants go on", highlight=False
    )


@unlockers.command("add")
def add_unlocker(
    name: Annotated[str, typer.Argument(help="What it is called, such as second-admin.")],
    key_file: KeyFile = None,
    environment: Environment = False,
    code: Code = None,
    data_dir: DataDir = None,
) -> None:
    """One more way to open the vault: a second passphrase, a key file, or a key for the environment."""
    if key_file is not None and environment:
        raise InvalidInput("a key file or a key for the environment, not both", field="key_file")

    async def work(plane: Plane, vault: RecordedVault) -> Document:
        if key_file is not None:
            opener = Opener("key-file", write_key_file(key_file), name)
        elif environment:
            opener = Opener("environment", _printed_key().secret, name)
        else:
            opener = Opener("passphrase", ask_passphrase("passphrase to add", _NEW, twice=True), name)
        check_opener(opener)
        settings = vault.vault.config
        return await vault.changed(
            "unlocker_added", name, step=lambda keys: keys.with_unlocker(opener, settings.derivation, settings.iterations)
        )

    _with_vault(work, data_dir, code)
    console.print(f"{name} opens the vault", highlight=False)


@unlockers.command("list")
def list_unlockers(data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """List what opens the vault. One is taken away with `vault rekey --drop NAME`."""
    found = [_described(item) for item in _vault(data_dir).document().unlockers]
    if output is Format.JSON:
        print_json(found)
    else:
        print_rows(("name", "kind", "derivation"), [(item["name"], item["kind"], item["derivation"]) for item in found])


@factor.command("set")
def set_factor(code: Code = None, data_dir: DataDir = None) -> None:
    """Ask for a one-time code (RFC 6238) beside each passphrase. Prints what your authenticator reads, once.

    It holds against who has seen the passphrase. Who has a copy of the file and programs of their own need no code.
    """
    secret = bytearray(os.urandom(20))
    kept = bytearray(secret)
    document = _changed("second_factor_set", lambda keys: keys.with_second_factor(secret), data_dir, code)
    console.print(otpauth(kept, document.vault_id), highlight=False, soft_wrap=True)
    wipe(kept)


@factor.command("remove")
def remove_factor(code: Code = None, data_dir: DataDir = None) -> None:
    """Ask for the passphrase alone again."""
    _changed("second_factor_removed", lambda keys: keys.with_second_factor(None), data_dir, code)
    console.print("removed", highlight=False)


Name = Annotated[str, typer.Argument(help="Name of the entry.")]


@config.command("set")
def set_entry(
    name: Name,
    kind: Annotated[str, typer.Option(help="api_key, agent_config, token or pii_cache.")] = "agent_config",
    file: Annotated[
        Path | None, typer.Option(help="The file that holds the value; standard input unless given.", dir_okay=False)
    ] = None,
    code: Code = None,
    data_dir: DataDir = None,
) -> None:
    """Keep a value in the vault's file."""
    value = read_value(file)
    _changed("entry_set", lambda keys: keys.with_entry(name, kind_of(kind), value), data_dir, code, name)
    wipe(value)
    console.print(f"kept {name}", highlight=False)


@config.command("get")
def get_entry(name: Name, code: Code = None, data_dir: DataDir = None) -> None:
    """Print an entry's value. That is on the record first."""

    async def work(_: Plane, vault: RecordedVault) -> bytearray:
        if name not in vault.vault.document().entries:
            raise NotFound(f"there is no entry {name!r} in this vault", hint="persistence vault config list")
        await vault.note_entry(name)
        return vault.vault.use(lambda keys: keys.entry(name))

    print_value(_with_vault(work, data_dir, code))


@config.command("list")
def list_entries(data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """List the entries of the vault's file; never their values."""
    entries = _vault(data_dir).document().entries
    if output is Format.JSON:
        print_json(
            [
                {"name": name, "kind": entry.kind, "term": entry.term, "changed_at": entry.changed_at}
                for name, entry in entries.items()
            ]
        )
    else:
        print_rows(
            ("name", "kind", "term", "changed"),
            [(name, entry.kind, entry.term, entry.changed_at) for name, entry in entries.items()],
        )


@config.command("remove")
def remove_entry(name: Name, code: Code = None, data_dir: DataDir = None) -> None:
    """Remove an entry."""
    _changed("entry_removed", lambda keys: keys.without_entry(name), data_dir, code, name)
    console.print(f"removed {name}", highlight=False)


def read_value(file: Path | None) -> bytearray:
    """A secret's value: of a file, of a prompt, or of standard input; of one line without its line end. Raises ConfigurationError, InvalidInput."""
    try:
        if file is not None:
            raw = file.read_bytes()
            if (
                raw.endswith(b"\n") and raw.count(b"\n") == 1
            ):  # what editors add to one line; a key of several lines ends as it does
                raw = raw.removesuffix(b"\n").removesuffix(b"\r")
        elif sys.stdin.isatty():
            raw = getpass.getpass("value: ").encode()
        else:
            raw = sys.stdin.buffer.read().removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
    if not raw:
        raise InvalidInput("value: is empty", hint="give it on standard input, or with --file", field="value")
    return bytearray(raw)


def print_value(value: bytearray) -> None:
    """A secret's value as it is; with a line end for people."""
    sys.stdout.buffer.write(value)
    if sys.stdout.isatty():
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
    wipe(value)


def kind_of(text: str) -> EntryKind:
    kinds: Sequence[EntryKind] = ("api_key", "agent_config", "token", "pii_cache")
    for kind in kinds:
        if kind == text:
            return kind
    raise InvalidInput(f"kind: {text!r} is none", hint=f"choose from {', '.join(kinds)}", field="kind")
