"""persistence fit: the gates."""

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from persistence.cli.console import (
    DataDir,
    Format,
    OutputFormat,
    RunByDefault,
    console,
    error_console,
    parse_moment,
    print_error,
    print_json,
    run,
    settings_for,
)
from persistence.cli.tenant import operator
from persistence.errors import ConfigurationError, PersistenceError
from persistence.gates.checks import Check, load, select, shipped_suites
from persistence.gates.code import RULES, scan
from persistence.gates.documentation import describe
from persistence.gates.fit import Options, Outcome, Runner, open_runner
from persistence.gates.reach import Reach, reach_of
from persistence.gates.record import record
from persistence.gates.reports import ReportFormat, render

_MARKS = {"passed": ("✓", "green"), "violated": ("✗", "red"), "failed": ("?", "magenta"), "skipped": ("-", "dim")}
_SHOWN = 5
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


app = typer.Typer(
    cls=RunByDefault,
    help="Gates: the canon's laws, held against a database or code. Without a command of its own it runs the checks: see fit run --help.",
)


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


FailOn = Annotated[Severity, typer.Option("--fail-on", help="What makes the exit status 1: errors only, or warnings too.")]
Report = Annotated[ReportFormat, typer.Option("--format", help="How the outcome is reported.")]


@app.command("run")
def fit_run(
    names: Annotated[list[str] | None, typer.Argument(metavar="[SUITE|CHECK]…", help="Which to run; all by default.")] = None,
    dsn: Annotated[
        str | None,
        typer.Option("--dsn", help="The auditor's login. Default: PERSISTENCE_AUDIT_DSN, or the embedded server."),
    ] = None,
    checks_from: Annotated[
        list[Path] | None, typer.Option("--checks-from", help="A folder of .sql files of your own: one more suite.")
    ] = None,
    schema: Annotated[list[str] | None, typer.Option("--schema", help="A schema of your own to be held to the law, too.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Expensive checks look at what is newer only: 36h, 7d, or a time.")
    ] = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--all", help="Look at everything. Without it, where the last recorded run of these checks was lawful they go on."
        ),
    ] = False,
    sample: Annotated[float, typer.Option("--sample", help="Expensive checks look at so many percent only.")] = 100.0,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds for one check.")] = 900.0,
    jobs: Annotated[
        int | None, typer.Option("--jobs", help="Checks at the same time; the number of processors by default.")
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--record", help="Keep what came of it, for console and metrics; the login that runs them records it."),
    ] = False,
    fail_on: FailOn = Severity.ERROR,
    output: Report = ReportFormat.TABLE,
    data_dir: DataDir = None,
) -> None:
    """Run checks: read-only, as an auditor. Exit status 1 when a law is broken, 2 when a check could not be run."""
    options = Options(
        timeout=timeout,
        jobs=jobs or os.cpu_count() or 2,
        schemas=tuple(dict.fromkeys(["persistence", *(schema or ())])),
        since=_moment(since) if since else None,
        sample=sample,
    )
    if keep and (names or dsn):
        raise ConfigurationError("--record is for all checks of the database that is worked with", hint="leave out names and --dsn")
    if whole and options.is_confined:
        raise ConfigurationError("--all looks at everything", hint="leave out --since and --sample")
    checks = select([*shipped_suites(), *load(checks_from or ())], names or ())
    try:
        outcomes = run(_run_checks(checks, options, dsn, data_dir, whole=whole, watch=output is ReportFormat.TABLE, keep=keep))
    except PersistenceError as error:
        print_error(error)
        raise typer.Exit(2) from error
    _finish(outcomes, output, fail_on)


@app.command("code")
def fit_code(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files or folders to be read.")],
    fail_on: FailOn = Severity.ERROR,
    output: Report = ReportFormat.TABLE,
) -> None:
    """Read code: database access outside of repositories, calls past the outbox, projections in decisions."""
    _finish(scan(paths), output, fail_on)


@app.command("list")
def fit_list(
    names: Annotated[list[str] | None, typer.Argument(metavar="[SUITE|CHECK]…")] = None,
    checks_from: Annotated[list[Path] | None, typer.Option("--checks-from")] = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Say which checks there are, what each means when it is red, and what to do then."""
    checks = select([*shipped_suites(), *RULES.values(), *load(checks_from or ())], names or ())
    if output is Format.JSON:
        print_json(
            [{key: getattr(check, key) for key in ("id", "title", "law", "severity", "means", "remedy")} for check in checks]
        )
        return
    sys.stdout.write(describe(checks))


async def _run_checks(
    checks: Sequence[Check], options: Options, dsn: str | None, data_dir: Path | None, *, whole: bool, watch: bool, keep: bool
) -> list[Outcome]:
    settings = settings_for(data_dir)
    async with open_runner(settings, options, dsn) as runner:
        begun = time.monotonic()
        reach: Reach | None = None
        if not options.is_confined:
            reach, lawful_until = await reach_of(runner.audit_dsn, settings, checks)
            if lawful_until is not None and not whole:
                runner.options = options = replace(options, since=lawful_until)
                error_console.print(
                    f"what happened since {lawful_until:%Y-%m-%d %H:%M:%S %Z}; before that all was lawful when it was looked at (--all: everything)"
                )
        outcomes = await _watched(runner, checks, watch=watch)
        if keep:
            seconds = time.monotonic() - begun
            await record(runner.audit_dsn, settings, outcomes, options, seconds=seconds, actor=operator(), reach=reach)
        return outcomes


async def _watched(runner: Runner, checks: Sequence[Check], *, watch: bool) -> list[Outcome]:
    if not watch or not error_console.is_terminal:
        return await runner.run(checks)
    progress = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=error_console, transient=True)
    with progress:
        task = progress.add_task("checks", total=len(checks))
        return await runner.run(checks, lambda _: progress.advance(task))


def _finish(outcomes: Sequence[Outcome], output: ReportFormat, fail_on: Severity) -> None:
    if output is ReportFormat.TABLE:
        _print(outcomes)
    else:
        sys.stdout.write(render(outcomes, output))
    if any(outcome.verdict == "failed" for outcome in outcomes):
        raise typer.Exit(2)
    counting = {"error"} if fail_on is Severity.ERROR else {"error", "warning"}
    if any(outcome.verdict == "violated" and outcome.check.severity in counting for outcome in outcomes):
        raise typer.Exit(1)


def _print(outcomes: Sequence[Outcome]) -> None:
    suite = None
    for outcome in outcomes:
        if outcome.check.suite != suite:
            suite = outcome.check.suite
            console.print(f"\n{suite}", style="bold", highlight=False)
        mark, colour = _MARKS[outcome.verdict]
        if outcome.verdict == "violated" and outcome.check.severity == "warning":
            mark, colour = "!", "yellow"
        seconds = f"  {outcome.seconds:.2f} s" if outcome.seconds else ""
        console.print(f"  {mark} {outcome.check.name}{seconds}", style=colour, markup=False, highlight=False)
        if outcome.problem:
            _line(outcome.problem)
        for violation in outcome.violations[:_SHOWN]:
            place = "" if violation.path is None else f"{violation.path}:{violation.line}: "
            _line(f"{place}{violation.object}: {violation.detail}")
        hidden = len(outcome.violations) - _SHOWN
        if hidden > 0 or outcome.more:
            _line(f"and {'at least ' if outcome.more else ''}{max(hidden, 1)} more")
        if outcome.verdict == "violated":
            _line(f"means:  {outcome.check.means}")
            _line(f"remedy: {outcome.check.remedy} [{outcome.check.law}]")
    counts = Counter(outcome.verdict for outcome in outcomes)
    console.print("\n" + ", ".join(f"{number} {verdict}" for verdict, number in counts.items()), style="bold", highlight=False)


def _line(text: str) -> None:
    console.print(f"      {text}", markup=False, highlight=False, soft_wrap=True)


def _moment(text: str) -> datetime:
    """Reads ``36h``, ``7d`` or an ISO 8601 time."""
    matched = re.fullmatch(r"(\d+)([smhd])", text)
    if matched:
        return datetime.now(UTC) - timedelta(seconds=int(matched[1]) * _UNITS[matched[2]])
    return parse_moment(text, "since", "no time, and none such as 36h or 7d")
