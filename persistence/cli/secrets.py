"""persistence secret, persistence erase: what the vault seals for tenants."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from persistence.cli.console import (
    DataDir,
    Format,
    OutputFormat,
    TenantOption,
    console,
    find_tenant,
    parse_moment,
    print_json,
    print_rows,
    run,
    settings_for,
)
from persistence.cli.tenant import operator
from persistence.cli.vault import Code, kind_of, print_value, read_value, unlocked
from persistence.models import Secret
from persistence.plane import Plane
from persistence.queries.words import clock
from persistence.secrets.subjects import Erasure
from persistence.vault.key_memory import wipe

app = typer.Typer(
    help="Secrets of a tenant: API keys, tokens, configurations. Every reading is on the record.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="Name of the secret, such as stripe.")]
Number = Annotated[int | None, typer.Option("--version", min=1, help="Which version; the last unless given.")]


@app.command("set")
def set_(
    name: Name,
    kind: Annotated[str, typer.Option(help="api_key, agent_config, token or pii_cache.")] = "api_key",
    file: Annotated[
        Path | None, typer.Option(help="The file that holds the value; standard input, or a prompt, unless given.", dir_okay=False)
    ] = None,
    until: Annotated[str | None, typer.Option(help="When it is over, such as 2027-01-31T12:00:00Z.")] = None,
    max_reads: Annotated[int | None, typer.Option(min=1, help="How often it may be read; 1: once.")] = None,
    keep: Annotated[int, typer.Option(min=1, help="How many versions stay; older ones are destroyed.")] = 10,
    tenant: TenantOption = None,
    code: Code = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Keep a new version of a secret. The value comes on standard input, from a file or from a prompt, never as an argument."""
    value = read_value(file)
    expires_at: datetime | None = parse_moment(until, "--until") if until else None

    async def go() -> Secret:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            await unlocked(plane, code)
            return await plane.secrets.set(
                found.tenant_id,
                name,
                value,
                actor=operator(),
                secret_kind=kind_of(kind),
                expires_at=expires_at,
                max_reads=max_reads,
                keep=keep,
            )

    secret = run(go())
    wipe(value)
    if output is Format.JSON:
        print_json(secret)
    else:
        console.print(f"{secret.name}, version {secret.number}", highlight=False)


@app.command("get")
def get(
    name: Name,
    purpose: Annotated[str, typer.Option(help="What for. It is on the record.")],
    number: Number = None,
    tenant: TenantOption = None,
    code: Code = None,
    data_dir: DataDir = None,
) -> None:
    """Print a secret's value, once it is on the record who reads it and what for."""

    async def go() -> bytearray:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            await unlocked(plane, code)
            with await plane.secrets.read(found.tenant_id, name, purpose=purpose, actor=operator(), number=number) as value:
                return bytearray(value.view)

    print_value(run(go()))


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="All versions of this one; the last of each unless given.")] = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """List a tenant's secrets; never their values."""

    async def go() -> list[Secret]:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            secrets = await plane.secrets.list(found.tenant_id, actor=operator(), name=name)
            return [secret for at, secret in enumerate(secrets) if name or at == 0 or secrets[at - 1].name != secret.name]

    secrets = run(go())
    if output is Format.JSON:
        print_json(secrets)
        return
    print_rows(
        ("name", "version", "kind", "status", "set", "by", "until", "reads"),
        [
            (
                s.name,
                s.number,
                s.secret_kind,
                s.status,
                clock(s.created_at),
                s.actor,
                clock(s.expires_at),
                s.max_reads or "any number",
            )
            for s in secrets
        ],
    )


@app.command("accesses")
def accesses(name: Name, tenant: TenantOption = None, data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Who read a secret, when and what for."""

    async def go() -> list[dict[str, object]]:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            numbers = {s.id: s.number for s in await plane.secrets.list(found.tenant_id, actor=operator(), name=name)}
            return [
                {
                    "at": a.created_at,
                    "actor": a.actor,
                    "version": numbers.get(a.secret_id) if a.secret_id else None,
                    "purpose": a.purpose,
                    "correlation_id": str(a.correlation_id),
                }
                for a in await plane.secrets.accesses(found.tenant_id, name, actor=operator())
            ]

    found = run(go())
    if output is Format.JSON:
        print_json(found)
        return
    print_rows(
        ("at", "by", "version", "what for", "correlation"),
        [(f"{a['at']:%Y-%m-%d %H:%M:%S}", a["actor"], a["version"], a["purpose"], a["correlation_id"]) for a in found],
    )


@app.command("destroy")
def destroy(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why. It is on the record.")],
    number: Annotated[int | None, typer.Option("--version", min=1, help="Which version; all unless given.")] = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """Destroy a secret's values for good."""

    async def go() -> int:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            return len(await plane.secrets.destroy(found.tenant_id, name, reason, actor=operator(), number=number))

    console.print(f"{run(go())} versions destroyed", highlight=False)


@app.command("rotate")
def rotate(tenant: TenantOption = None, code: Code = None, data_dir: DataDir = None) -> None:
    """Begin a new key for the tenant's secrets. What is there stays readable; `vault rewrap` brings it along."""

    async def go() -> int:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            await unlocked(plane, code)
            return (await plane.secrets.rotate(found.tenant_id, actor=operator())).term

    console.print(f"term {run(go())} of the tenant's key has begun", highlight=False)


def erase(
    subject: Annotated[str, typer.Option(help="Whose data, by the name that they were sealed under, such as customer:4711.")],
    reason: Annotated[
        str, typer.Option(help="Why, such as the number of the request. It is on the record for ever: no personal data.")
    ],
    tenant: TenantOption = None,
    code: Code = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Erase a person from the log: destroy the key of their data. Nobody can read them again, here or in any backup that is restored here."""

    async def go() -> Erasure:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            await unlocked(plane, code)
            return await plane.subjects.erase(found.tenant_id, subject, reason, actor=operator())

    done = run(go())
    if output is Format.JSON:
        print_json({"tag": done.tag, "keys": [{"key_id": str(key.id), "event_id": str(key.last_event_id)} for key in done.keys]})
        return
    if not done.keys:
        console.print("was erased before: no key of this subject is left", highlight=False)
    for key in done.keys:
        console.print(f"destroyed key {key.id}; the proof is event {key.last_event_id}", highlight=False, soft_wrap=True)
