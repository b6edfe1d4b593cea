"""Finds what the rules forbid, by file and line."""

import io
import re
import tokenize
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from persistence.errors import ConfigurationError
from persistence.gates.code.findings import Finding, findings, statement_begins
from persistence.gates.code.rules import RULES
from persistence.gates.fit import Outcome, Violation

_ALLOW: Final = re.compile(r"#\s*fit:\s*allow\s+([\w, ]+?)(?:\s+because\s+(\S.*))?$")
_NEVER: Final = ("**/.*/**", "**/node_modules/**", "**/__pycache__/**")


@dataclass(frozen=True)
class Places:
    """Glob patterns, relative to the folder of pyproject.toml.

    repositories: code that is made to speak to the database. queries: read services, which may ask projections. exclude: not read at all.
    """

    root: Path
    repositories: tuple[str, ...] = ("**/repositories/**", "**/migrations/**", "**/database/**")
    queries: tuple[str, ...] = ("**/queries/**",)
    exclude: tuple[str, ...] = ()

    @classmethod
    def find(cls, start: Path) -> "Places":
        """As the nearest pyproject.toml above says. Raises ConfigurationError for a key that is wrong."""
        folder = start.resolve()
        for parent in (folder, *folder.parents):
            file = parent / "pyproject.toml"
            if file.is_file():
                return cls._of(parent, tomllib.loads(file.read_text(encoding="utf-8")))
        return cls(folder.parent)

    @classmethod
    def _of(cls, root: Path, document: dict[str, Any]) -> "Places":
        given = document.get("tool", {}).get("persistence", {}).get("fit", {})
        for key, value in given.items():
            if key not in {"repositories", "queries", "exclude"}:
                raise ConfigurationError(f"{root / 'pyproject.toml'}: tool.persistence.fit.{key} is unknown")
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise ConfigurationError(f"{root / 'pyproject.toml'}: tool.persistence.fit.{key} must be a list of patterns")
        return cls(root, **{key: tuple(value) for key, value in given.items()})

    def matches(self, path: Path, patterns: Iterable[str]) -> bool:
        resolved = path.resolve()
        relative = resolved.relative_to(self.root) if resolved.is_relative_to(self.root) else resolved
        return any(_pattern(pattern).fullmatch(relative.as_posix()) for pattern in patterns)


def scan(paths: Sequence[Path]) -> list[Outcome]:
    """One outcome a rule. Raises ConfigurationError for a path that is not there."""
    found: dict[str, list[Violation]] = {name: [] for name in RULES}
    for path in paths:
        if not path.exists():
            raise ConfigurationError(f"{path}: there is no such file or folder")
        places = Places.find(path)
        for file in _files(path, places):
            for finding in _judged(file, places):
                found[finding.rule].append(Violation(finding.subject, finding.detail, file.as_posix(), finding.line))
    return [
        Outcome(RULES[name], "violated" if violations else "passed", violations=violations) for name, violations in found.items()
    ]


def _files(path: Path, places: Places) -> Iterator[Path]:
    candidates = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    for file in candidates:
        if not places.matches(file, (*places.exclude, *_NEVER)):
            yield file


def _judged(file: Path, places: Places) -> Iterator[Finding]:
    """What is found in a file, less what it allows itself with a reason."""
    try:
        source = file.read_text(encoding="utf-8")
        raw = list(
            findings(
                source,
                may_speak_sql=places.matches(file, (*places.repositories, *places.queries)),
                may_ask_projections=places.matches(file, (*places.queries, *places.repositories)),
            )
        )
        allowances = list(_allowances(source))
        begins = statement_begins(source)
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        yield Finding("unreadable", getattr(error, "lineno", None) or 1, file.name, str(error))
        return
    for finding in raw:
        allowing = [
            a
            for a in allowances
            if finding.rule in a.rules and a.line in {finding.line, finding.line - 1, begins.get(finding.line, 0) - 1}
        ]
        for allowance in allowing:
            allowance.used.add(finding.rule)
        if not any(allowance.reason for allowance in allowing):
            yield finding
    for allowance in allowances:
        if not allowance.reason:
            yield Finding("allow_without_reason", allowance.line, ", ".join(allowance.rules), "gives no reason")
        for rule in sorted(set(allowance.rules) - allowance.used):
            known = "has nothing to allow here" if rule in RULES else "is no rule"
            yield Finding("allow_without_reason", allowance.line, rule, known)


@dataclass
class _Allowance:
    line: int
    rules: tuple[str, ...]
    reason: str | None
    used: set[str] = field(default_factory=set)


def _allowances(source: str) -> Iterator[_Allowance]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and (matched := _ALLOW.search(token.string)):
            yield _Allowance(token.start[0], tuple(re.split(r"[,\s]+", matched[1].strip())), matched[2])


def _pattern(glob: str) -> re.Pattern[str]:
    """``**`` stands for any folders, ``*`` for anything within one."""
    parts = re.split(r"(\*\*/|/\*\*|\*\*|\*)", glob)
    translated = {"**/": r"(?:.*/)?", "/**": r"/.*", "**": r".*", "*": r"[^/]*"}
    return re.compile("".join(translated.get(part) or re.escape(part) for part in parts))
