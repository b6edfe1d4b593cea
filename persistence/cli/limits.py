"""persistence limits: how much of the outbox's work a tenant or an effect type may have at a time."""

from typing import Annotated

import typer

from persistence.cli.console import DataDir, Format, OutputFormat, console, find_tenant, print_json, print_rows, run, settings_for
from persistence.cli.tenant import operator
from persistence.models import Limit
from persistence.plane import Plane

app = typer.Typer(help="Limits on the outbox's work. The login needs persistence_operator.", no_args_is_help=True)


@app.command("set")
def set_limit(
    effect_type: Annotated[str, typer.Argument(help="The effect type; '*' for all that a tenant has.")],
    tenant: Annotated[str | None, typer.Option("--tenant", help="Name or id of the tenant; all together unless given.")] = None,
    weight: Annotated[int, typer.Option(min=1, max=1000, help="The tenant's share, against 1 of the others.")] = 1,
    concurrency: Annotated[int | None, typer.Option(min=0, help="Attempts at the same time; 0 stops them.")] = None,
    rate: Annotated[float | None, typer.Option(help="Attempts a second, on average.")] = None,
    data_dir: DataDir = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Set a limit; with no option the limit goes. It holds from the next claim of any worker on."""

    async def go() -> bool:
        async with Plane(settings=settings_for(data_dir)) as plane:
            tenant_id = (await find_tenant(plane, tenant)).tenant_id if tenant else None
            return await plane.limits.set(
                effect_type, tenant_id=tenant_id, weight=weight, max_concurrency=concurrency, max_rate=rate, actor=operator()
            )

    changed = run(go())
    if output is Format.JSON:
        print_json({"changed": changed})
    else:
        console.print("set" if changed else "it was so already", highlight=False)


@app.command("list")
def list_limits(data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """List the limits."""

    async def go() -> tuple[list[Limit], dict[object, str]]:
        async with Plane(settings=settings_for(data_dir)) as plane:
            return await plane.limits.list(), {tenant.tenant_id: tenant.name for tenant in await plane.tenants.list()}

    limits, names = run(go())
    if output is Format.JSON:
        print_json(limits)
    else:
        print_rows(
            ("tenant", "type", "weight", "concurrency", "rate"),
            [
                (names.get(x.tenant_id, x.tenant_id or "(all)"), x.effect_type, x.weight, x.max_concurrency, x.max_rate)
                for x in limits
            ],
        )
