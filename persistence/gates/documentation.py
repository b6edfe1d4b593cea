"""The checks as a page for operators."""

from collections.abc import Sequence

from persistence.gates.checks import Check

_HEAD = """# Gates

What each check holds, what it means when it is red, and what to do then. This page is made from the heads of the checks:
`persistence fit list`. Errors fail a run; warnings do too with `--fail-on warning`.
"""


def describe(checks: Sequence[Check]) -> str:
    """The checks in Markdown, by suite."""
    parts = [_HEAD]
    suite = None
    for check in checks:
        if check.suite != suite:
            suite = check.suite
            parts.append(f"## {suite}\n")
        kind = "" if check.severity == "error" else ", warning"
        parts.append(
            f"### {check.name}\n\n{check.title}. ({check.law}{kind})\n\n- Red means: {check.means}\n- What to do: {check.remedy}\n"
        )
    return "\n".join(parts)
