"""``pytest --fit``: the gates as tests of your own database, each check an item; and the fixture ``fit`` for a database that a test makes.

Options: ``--fit-dsn`` (the auditor's login; PERSISTENCE_AUDIT_DSN by default), ``--fit-checks FOLDER`` (a suite of your own), ``--fit-schema NAME``
(a schema of your own). ``-m fit`` runs the gates alone. A check of severity warning warns.
"""

import asyncio
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # a plugin is loaded in every run: what it needs is imported when it is asked for
    from persistence.gates.checks import Check
    from persistence.gates.fit import Outcome

Fit = Callable[..., None]
_OUTCOMES = pytest.StashKey[dict[str, "Outcome"]]()


class FitWarning(UserWarning):
    """A check of severity warning found something."""


class LawBroken(AssertionError):
    """A check of severity error found something, or could not be run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("persistence", "gates of the persistence plane")
    group.addoption("--fit", action="store_true", help="Hold the database to the law: each check is a test.")
    group.addoption("--fit-dsn", help="The auditor's login. Default: PERSISTENCE_AUDIT_DSN, or the embedded server.")
    group.addoption("--fit-checks", action="append", default=[], type=Path, help="A folder of checks of your own.")
    group.addoption("--fit-schema", action="append", default=[], help="A schema of your own to be held to the law.")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fit: a gate of the persistence plane")


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.fit:
        from persistence.gates.checks import load, shipped_suites

        checks = [*shipped_suites(), *load(config.option.fit_checks)]
        items.extend(FitItem.from_parent(session, name=check.id, check=check) for check in checks)


class FitItem(pytest.Item):
    """One check."""

    def __init__(self, *, check: "Check", **arguments: Any) -> None:
        super().__init__(**arguments)
        self.check = check
        self.add_marker("fit")

    def runtest(self) -> None:
        outcome = self._outcome()
        if outcome.verdict == "skipped":
            pytest.skip(outcome.problem or "")
        judge([outcome])

    def _outcome(self) -> "Outcome":
        """All gates that were chosen are run together when the first one is due."""
        stash = self.session.stash
        if _OUTCOMES not in stash:
            checks = [item.check for item in self.session.items if isinstance(item, FitItem)]
            option = self.config.option
            outcomes = _outcomes(checks, option.fit_dsn, None, option.fit_schema)
            stash[_OUTCOMES] = {outcome.check.id: outcome for outcome in outcomes}
        return stash[_OUTCOMES][self.check.id]

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, LawBroken):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.check.path, None, self.check.id


@pytest.fixture(scope="session")
def fit() -> Fit:
    """A function that holds a database to the law: ``fit(audit_dsn, service_dsn=…, names=(…), schemas=(…), checks_from=(…))``.

    It raises an AssertionError that says what is broken and what to do.
    """

    def hold(
        audit_dsn: str,
        *,
        service_dsn: str | None = None,
        names: Sequence[str] = (),
        schemas: Sequence[str] = (),
        checks_from: Sequence[Path] = (),
    ) -> None:
        from persistence.gates.checks import load, select, shipped_suites

        checks = select([*shipped_suites(), *load(checks_from)], names)
        judge(_outcomes(checks, audit_dsn, service_dsn, schemas))

    return hold


def judge(outcomes: Sequence["Outcome"]) -> None:
    """Raises LawBroken for errors, warns of warnings."""
    broken = []
    for outcome in outcomes:
        if outcome.verdict == "violated" and outcome.check.severity == "warning":
            warnings.warn(_words(outcome), FitWarning, stacklevel=2)
        elif outcome.verdict in {"violated", "failed"}:
            broken.append(_words(outcome))
    if broken:
        raise LawBroken("\n\n".join(broken))


def _words(outcome: "Outcome") -> str:
    check = outcome.check
    if outcome.problem:
        return f"{check.id} could not be run: {outcome.problem}"
    lines = [f"  {violation.object}: {violation.detail}" for violation in outcome.violations]
    return "\n".join([f"{check.id}: {check.title} ({check.law})", *lines, f"  means:  {check.means}", f"  remedy: {check.remedy}"])


def _outcomes(checks: Sequence["Check"], dsn: str | None, service_dsn: str | None, schemas: Sequence[str]) -> Sequence["Outcome"]:
    from persistence.gates.fit import Options, open_runner
    from persistence.plane import settings_with

    async def go() -> Sequence["Outcome"]:
        options = Options(schemas=tuple(dict.fromkeys(["persistence", *schemas])))
        async with open_runner(settings_with(None, {}), options, dsn, service_dsn) as runner:
            return await runner.run(checks)

    # In a thread of its own: the test that asks may be running an event loop.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, go()).result()
