"""persistence diagnose: why, in words."""

import typer

from persistence.cli.console import DataDir, Format, OutputFormat, TenantOption, console, parse_id, print_json
from persistence.cli.reading import ask, headline, print_breaks
from persistence.cli.runs import RunId
from persistence.models import Event
from persistence.queries.effect_diagnosis import EffectDiagnosis, diagnose_effect
from persistence.queries.run_diagnosis import RunDiagnosis, diagnose_run
from persistence.queries.words import clock, error_text

app = typer.Typer(
    help="Why a run failed, and why an effect has not happened: in words, with what to do next.", no_args_is_help=True
)


@app.command("run")
def run(run_id: RunId, tenant: TenantOption = None, data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Say why a run failed, or what it waits for."""
    found = ask(lambda tx: diagnose_run(tx, parse_id(run_id, "RUN_ID")), tenant, data_dir)
    if output is Format.JSON:
        print_json(found)
    else:
        _print_run(found)


@app.command("effect")
def effect(effect_id: str, tenant: TenantOption = None, data_dir: DataDir = None, output: OutputFormat = Format.TABLE) -> None:
    """Say why an effect has happened, or has not happened yet."""
    found = ask(lambda tx: diagnose_effect(tx, parse_id(effect_id, "EFFECT_ID")), tenant, data_dir)
    if output is Format.JSON:
        print_json(found)
    else:
        _print_effect(found)


def _print_run(found: RunDiagnosis) -> None:
    console.print(headline("run", found.run.run_type, found.run.status, found.run.id))
    _say(found.conclusion, found.next)
    for item in found.failed_steps:
        step = item.step
        console.print(headline("step", f"{step.step_index} {step.step_type}", step.status, step.id))
        if item.event:
            _detail(
                f"{clock(item.event.occurred_at)} {item.event.event_type} by {item.event.actor}: {error_text(step.error_details)}"
            )
        for call in item.tool_calls:
            _detail(f"tool call {call.tool_name}({call.tool_args}) failed: {error_text(call.error_details)}")
        _detail(f"retried {item.retries} times")
    for effect_ in found.effects:
        console.print(headline("effect", effect_.effect_type, effect_.status, effect_.id))
    print_breaks(found.breaks)


def _print_effect(found: EffectDiagnosis) -> None:
    effect_ = found.effect
    console.print(headline("effect", effect_.effect_type, effect_.status, effect_.id))
    _say(found.conclusion, found.next)
    for event in found.attempts:
        _attempt(event)


def _attempt(event: Event) -> None:
    details = event.event_data.get("error_details")
    _detail(f"{clock(event.occurred_at)} {event.event_type} by {event.actor}{f': {error_text(details)}' if details else ''}")


def _say(conclusion: str, advice: str | None) -> None:
    console.print(conclusion, highlight=False, markup=False)
    if advice:
        console.print(f"next: {advice}", style="bold", highlight=False, markup=False, soft_wrap=True)


def _detail(text: str) -> None:
    console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)
