"""persistence token: who may reach a tenant over the network."""

from datetime import timedelta
from typing import Annotated

import typer

from persistence.cli.console import (
    DataDir,
    Format,
    OutputFormat,
    TenantOption,
    console,
    find_tenant,
    parse_id,
    print_json,
    print_rows,
    run,
    settings_for,
)
from persistence.cli.reading import ask
from persistence.cli.tenant import operator
from persistence.errors import NotFound
from persistence.models import ApiToken, Role
from persistence.plane import Plane
from persistence.queries.words import clock
from persistence.tokens import tokens_of

app = typer.Typer(help="Tokens for the HTTP service. The login needs persistence_operator to change them.", no_args_is_help=True)


@app.command("issue")
def issue(
    name: Annotated[str, typer.Argument(help="What it is for, such as dashboard.")],
    role: Annotated[
        Role,
        typer.Option(
            help="reader sees; operator also writes, requeues, discards; admin also issues tokens; keeper sees and has secrets."
        ),
    ] = Role.READER,
    acts_as: Annotated[
        str | None, typer.Option("--as", help="The actor of what is done with it, as user:ada; you unless given.")
    ] = None,
    days: Annotated[float | None, typer.Option(min=0.0001, help="How long it holds; until it is revoked unless given.")] = None,
    user: Annotated[str | None, typer.Option(help="Id of the tenant's user in whose name; the service user unless given.")] = None,
    tenant: TenantOption = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Make a token and print it. It is told this once: only its digest is kept."""

    async def go() -> tuple[str, ApiToken]:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            return await plane.tokens.issue(
                found.tenant_id,
                name,
                role=role,
                acts_as=acts_as or operator(),
                actor=operator(),
                lasts=timedelta(days=days) if days else None,
                user_id=parse_id(user, "--user") if user else None,
            )

    text, token = run(go())
    if output is Format.JSON:
        print_json({"token": text, "about": token})
    else:
        console.print(text, highlight=False, soft_wrap=True)


@app.command("list")
def list_(tenant: TenantOption = None, data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """List a tenant's tokens, the newest first."""
    tokens = ask(tokens_of, tenant, data_dir)
    if output is Format.JSON:
        print_json(tokens)
        return
    print_rows(
        ("id", "name", "role", "acts as", "issued", "expires", "revoked"),
        [(t.id, t.name, t.role, t.acts_as, clock(t.created_at), clock(t.expires_at), clock(t.revoked_at)) for t in tokens],
    )


@app.command("revoke")
def revoke(
    token_id: Annotated[str, typer.Argument(help="Id of the token, as `token list` has it.")],
    tenant: TenantOption = None,
    data_dir: DataDir = None,
) -> None:
    """End a token for good, at once."""
    wanted = parse_id(token_id, "TOKEN_ID")

    async def go() -> bool:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            return await plane.tokens.revoke(found.tenant_id, wanted, actor=operator())

    if not run(go()):
        raise NotFound(f"there is no token {wanted} to revoke in this tenant", hint="persistence token list")
    console.print(f"revoked {wanted}", highlight=False)
