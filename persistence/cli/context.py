"""persistence context: whether a transaction has to prove which tenant it may enter."""

from datetime import datetime
from typing import Annotated

import typer

from persistence.cli.console import DataDir, Format, OutputFormat, console, print_json, run, settings_for
from persistence.cli.tenant import operator
from persistence.database.server import open_server
from persistence.database.signing import ContextKeys, padded
from persistence.errors import ConfigurationError
from persistence.settings import Settings

app = typer.Typer(
    help="Signed contexts: who enters a tenant proves it with PERSISTENCE_CONTEXT_SECRET. Needs PERSISTENCE_ADMIN_DSN, or uses the embedded server.",
    no_args_is_help=True,
)


@app.command("sign")
def sign(data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Let nobody enter a tenant without a proof under PERSISTENCE_CONTEXT_SECRET. Secrets that were set before hold on."""
    _change(data_dir, output, keep=True)


@app.command("retire")
def retire(
    everything: Annotated[bool, typer.Option("--all", help="The present secret too: membership is enough again.")] = False,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Retire all secrets but the present one."""
    _change(data_dir, output, keep=False, everything=everything)


@app.command("status")
def status(data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Say whether contexts are signed, and whether PERSISTENCE_CONTEXT_SECRET is one of the secrets."""
    settings = settings_for(data_dir)

    async def go() -> list[tuple[bytes, bytes, datetime]]:
        async with open_server(settings) as server:
            return ContextKeys(server.for_administration).list()

    keys = run(go())
    is_ours = settings.context_secret is not None and _pads(settings) in [(inner, outer) for inner, outer, _ in keys]
    if output is Format.JSON:
        print_json({"keys": [added_at.isoformat() for _, _, added_at in keys], "is_ours": is_ours})
        return
    console.print("contexts are signed" if keys else "contexts are not signed: membership is enough", highlight=False)
    for inner, outer, added_at in keys:
        ours = " (PERSISTENCE_CONTEXT_SECRET)" if is_ours and (inner, outer) == _pads(settings) else ""
        console.print(f"  a secret since {added_at:%Y-%m-%d %H:%M:%S}{ours}", highlight=False)


def _change(data_dir: object, output: Format, *, keep: bool, everything: bool = False) -> None:
    settings = settings_for(data_dir)  # type: ignore[arg-type]
    own = [] if everything else [_pads(settings)]

    async def go() -> tuple[int, bool]:
        async with open_server(settings) as server:
            keys = ContextKeys(server.for_administration)
            before = [(inner, outer) for inner, outer, _ in keys.list()] if keep else []
            pads = [*(pair for pair in before if pair not in own), *own]
            return len(pads), keys.set(pads, actor=operator())

    count, changed = run(go())
    if output is Format.JSON:
        print_json({"keys": count, "changed": changed})
    else:
        state = f"contexts are signed, with {count} secret{'s' if count > 1 else ''}" if count else "contexts are not signed"
        console.print(state if changed else f"it was so already: {state}", highlight=False)


def _pads(settings: Settings) -> tuple[bytes, bytes]:
    if settings.context_secret is None:
        raise ConfigurationError(
            "PERSISTENCE_CONTEXT_SECRET is not set",
            hint="at least 32 characters, the same for all services: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return padded(settings.context_secret.get_secret_value())
