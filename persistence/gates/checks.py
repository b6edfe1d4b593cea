"""Checks: each a file of SQL that returns its violations, with a head that says what it holds and what to do when it is red.

A suite is a folder of them. The head is a comment of ``-- key: value`` lines:

- ``title``: the law as a sentence; ``law``: where the canon says so; ``section``: its place in the suite
- ``severity``: ``error`` or ``warning``
- ``means``: what it means when the check is red; ``remedy``: what to do then
- ``as``: ``auditor`` (the default) or ``service``: whose login asks
- ``needs``: ``fold`` (the log folded into temporary tables, see replay) or ``plans`` (the plans of the package's statements)

The query returns two columns, ``object`` and ``detail``. It may name the variables that psql knows too: ``:'since'`` (a time), ``:sample`` (percent),
``:'schemas'`` (names with commas between), and those of ``VARIABLES``.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, Literal, get_args

from persistence.errors import ConfigurationError
from persistence.resources import resource

Severity = Literal["error", "warning"]
Login = Literal["auditor", "service"]
Need = Literal["fold", "plans"]

VARIABLES: Final = ("since", "sample", "schemas", "canon", "functions", "head", "tenant", "plans")

_HEAD_LINE: Final = re.compile(r"-- ([a-z]+): (.*)")
_VARIABLE: Final = re.compile(r"(?<!:):(?:'(\w+)'|(\w+))")
# Without a sample the clause is left out, so that the planner is free to use an index.
_SAMPLE_CLAUSE: Final = " TABLESAMPLE SYSTEM (:sample)"
# So are lines that end so, when nothing is too old to be looked at.
_SINCE_LINE: Final = "  -- since"
WHOLE: Final = 100.0
"""The sample, in percent, that leaves nothing out."""
ALWAYS: Final = "-infinity"
"""The moment that everything is younger than."""


@dataclass(frozen=True)
class Check:
    """One check. The module's head says what its parts are."""

    suite: str
    name: str
    title: str
    law: str
    means: str
    remedy: str
    sql: str
    path: Path
    section: str = ""
    severity: Severity = "error"
    login: Login = "auditor"
    needs: Need | None = None

    @property
    def id(self) -> str:
        return f"{self.suite}/{self.name}"

    @property
    def is_confined(self) -> bool:
        """Whether it can look at what is newer only."""
        return self.needs == "fold" or ":'since'" in self.sql

    def statement(self, variables: dict[str, Any]) -> str:
        """The query with its variables filled in."""
        sql = self.sql
        if variables["sample"] >= WHOLE:
            sql = sql.replace(_SAMPLE_CLAUSE, "")
        if variables["since"] == ALWAYS:
            sql = "\n".join(line for line in sql.splitlines() if not line.endswith(_SINCE_LINE))

        def value(found: re.Match[str]) -> str:
            name = found[1] or found[2]
            return "'" + str(variables[name]).replace("'", "''") + "'" if found[1] else str(float(variables[name]))

        return _VARIABLE.sub(value, sql)


def shipped_suites() -> Sequence[Check]:
    """The checks that come with the package, in the order of their suites and sections."""
    return load(sorted(path for path in resource("fit").iterdir() if path.is_dir()))


def load(folders: Iterable[Path]) -> list[Check]:
    """The checks of some suites. Raises ConfigurationError, naming the file, for one that cannot be read."""
    checks: list[Check] = []
    for folder in folders:
        files = sorted(folder.glob("*.sql"))
        if not files:
            raise ConfigurationError(f"{folder}: holds no check", hint="a suite is a folder of .sql files")
        found = [_read(path) for path in files]
        checks += sorted(found, key=lambda check: ([int(part) for part in re.findall(r"\d+", check.section)], check.name))
    return checks


def select(checks: Sequence[Check], names: Sequence[str]) -> list[Check]:
    """The checks that are meant by names of suites or checks; all of them by no name. Raises ConfigurationError for an unknown one."""
    wanted: list[Check] = []
    for name in names:
        meant = [check for check in checks if name in (check.suite, check.id, check.name)]
        if not meant:
            raise ConfigurationError(f"there is no suite or check {name!r}", hint="persistence fit list")
        wanted += [check for check in meant if check not in wanted]
    return wanted if names else list(checks)


def _read(path: Path) -> Check:
    lines = path.read_text(encoding="utf-8").splitlines()
    head_lines = list(takewhile(bool, (_HEAD_LINE.fullmatch(line) for line in lines)))
    head = {matched[1]: matched[2].strip() for matched in head_lines if matched}
    sql = "\n".join(lines[len(head_lines) :]).strip().removesuffix(";")
    missing = [key for key in ("title", "law", "severity", "means", "remedy") if not head.get(key)]
    unknown = set(head) - {"title", "section", "law", "severity", "means", "remedy", "as", "needs"}
    if missing or unknown or not sql:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(sorted(unknown))}" if unknown else "has no query"
        raise ConfigurationError(f"{path}: the head of the check {wrong}", hint="fit/README.md shows the form")
    for key, choices in (("severity", Severity), ("as", Login), ("needs", Need)):
        if key in head and head[key] not in get_args(choices):
            raise ConfigurationError(f"{path}: {key}: {head[key]!r} is none of {', '.join(get_args(choices))}")
    for found in _VARIABLE.finditer(sql):
        if (found[1] or found[2]) not in VARIABLES:
            raise ConfigurationError(f"{path}: unknown variable {found[0]}", hint=f"known are {', '.join(VARIABLES)}")
    return Check(
        suite=path.parent.name,
        name=path.stem,
        title=head["title"],
        law=head["law"],
        means=head["means"],
        remedy=head["remedy"],
        sql=sql,
        path=path,
        section=head.get("section", ""),
        severity=head["severity"],  # type: ignore[arg-type]
        login=head.get("as", "auditor"),  # type: ignore[arg-type]
        needs=head.get("needs"),  # type: ignore[arg-type]
    )
