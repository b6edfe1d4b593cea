"""persistence tenant: who shares the database."""

import getpass
from pathlib import Path
from typing import Annotated

import typer

from persistence.cli.console import (
    DataDir,
    Format,
    OutputFormat,
    console,
    find_tenant,
    parse_id,
    print_json,
    print_rows,
    run,
    settings_for,
)
from persistence.models import Tenant
from persistence.plane import Plane

app = typer.Typer(help="Tenants and their users. The login needs persistence_operator.", no_args_is_help=True)


def operator() -> str:
    """The actor that commands act as."""
    try:
        return f"user:{getpass.getuser()}"
    except (KeyError, OSError):
        return "user:unknown"


@app.command("create")
def create(
    name: str,
    user: Annotated[str | None, typer.Option(help="Id of its first user; the service user unless given.")] = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Make a tenant."""

    async def go() -> Tenant:
        async with Plane(settings=settings_for(data_dir)) as plane:
            return await plane.tenants.create(name, actor=operator(), user_id=parse_id(user, "--user") if user else None)

    tenant = run(go())
    if output is Format.JSON:
        print_json(tenant)
    else:
        console.print(f"tenant {tenant.name} is {tenant.tenant_id}", highlight=False)


@app.command("list")
def list_tenants(data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """List the tenants."""

    async def go() -> list[Tenant]:
        async with Plane(settings=settings_for(data_dir)) as plane:
            return await plane.tenants.list()

    tenants = run(go())
    if output is Format.JSON:
        print_json(tenants)
    else:
        print_rows(
            ("id", "name", "created", "by"), [(t.tenant_id, t.name, f"{t.created_at:%Y-%m-%d %H:%M}", t.actor) for t in tenants]
        )


TenantName = Annotated[str, typer.Argument(help="Name or id of the tenant.")]
UserId = Annotated[str, typer.Argument(help="Id of the user.")]


@app.command("add-user")
def add_user(tenant: TenantName, user: UserId, data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Let a user work for a tenant."""
    found, is_new = _change_membership(tenant, user, data_dir, is_member=True)
    if output is Format.JSON:
        print_json({"tenant_id": str(found.tenant_id), "user_id": user, "added": is_new})
    else:
        console.print(f"user {user} {'may now' if is_new else 'could already'} work for {found.name}", highlight=False)


@app.command("remove-user")
def remove_user(tenant: TenantName, user: UserId, data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """End a user's membership of a tenant."""
    found, was_member = _change_membership(tenant, user, data_dir, is_member=False)
    if output is Format.JSON:
        print_json({"tenant_id": str(found.tenant_id), "user_id": user, "removed": was_member})
    else:
        console.print(f"user {user} {'may no longer' if was_member else 'could not'} work for {found.name}", highlight=False)


def _change_membership(tenant: str, user: str, data_dir: Path | None, *, is_member: bool) -> tuple[Tenant, bool]:
    """The tenant, and whether anything changed."""

    async def go() -> tuple[Tenant, bool]:
        async with Plane(settings=settings_for(data_dir)) as plane:
            found = await find_tenant(plane, tenant)
            change = plane.tenants.add_user if is_member else plane.tenants.remove_user
            return found, await change(found.tenant_id, parse_id(user, "USER"), actor=operator())

    return run(go())
