"""What came of checks, in the forms that people, CI systems and code scanners read."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree as ET

from persistence.encoding import encode, xml_text
from persistence.gates.fit import Outcome, Violation

_INFORMATION = "https://json.schemastore.org/sarif-2.1.0.json"


class ReportFormat(StrEnum):
    """table: for people. json: all there is to know. junit: for CI systems. github: annotations of a workflow. sarif: for code scanning."""

    TABLE = "table"
    JSON = "json"
    JUNIT = "junit"
    GITHUB = "github"
    SARIF = "sarif"


def render(outcomes: Sequence[Outcome], form: ReportFormat) -> str:
    """The report in any form but ``table``, which the command line prints itself."""
    match form:
        case ReportFormat.JSON:
            return encode(_document(outcomes)) + "\n"
        case ReportFormat.JUNIT:
            return _junit(outcomes)
        case ReportFormat.GITHUB:
            return "".join(f"{line}\n" for line in _annotations(outcomes))
        case ReportFormat.SARIF:
            return encode(_sarif(outcomes)) + "\n"
    raise AssertionError(form)


def _document(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "summary": {
            verdict: sum(outcome.verdict == verdict for outcome in outcomes)
            for verdict in ("passed", "violated", "failed", "skipped")
        },
        "checks": [
            {
                "id": outcome.check.id,
                "title": outcome.check.title,
                "law": outcome.check.law,
                "severity": outcome.check.severity,
                "verdict": outcome.verdict,
                "seconds": round(outcome.seconds, 3),
                "problem": outcome.problem,
                "violations": [_violation(violation) for violation in outcome.violations],
                "more": outcome.more,
                "means": outcome.check.means,
                "remedy": outcome.check.remedy,
            }
            for outcome in outcomes
        ],
    }


def _violation(violation: Violation) -> dict[str, Any]:
    place = {} if violation.path is None else {"path": violation.path, "line": violation.line}
    return {"object": violation.object, "detail": violation.detail, **place}


def _junit(outcomes: Sequence[Outcome]) -> str:
    root = ET.Element("testsuites", name="persistence fit")
    for suite in dict.fromkeys(outcome.check.suite for outcome in outcomes):
        members = [outcome for outcome in outcomes if outcome.check.suite == suite]
        element = ET.SubElement(
            root,
            "testsuite",
            name=suite,
            tests=str(len(members)),
            failures=str(sum(outcome.verdict == "violated" for outcome in members)),
            errors=str(sum(outcome.verdict == "failed" for outcome in members)),
            skipped=str(sum(outcome.verdict == "skipped" for outcome in members)),
            time=f"{sum(outcome.seconds for outcome in members):.3f}",
        )
        for outcome in members:
            case = ET.SubElement(element, "testcase", classname=suite, name=outcome.check.name, time=f"{outcome.seconds:.3f}")
            if outcome.verdict == "violated":
                failure = ET.SubElement(case, "failure", message=xml_text(outcome.check.title), type=outcome.check.severity)
                lines = [f"{_place(v)}{v.object}: {v.detail}" for v in outcome.violations]
                failure.text = xml_text(
                    "\n".join([*lines, *(["and more"] if outcome.more else []), f"remedy: {outcome.check.remedy}"])
                )
            elif outcome.verdict == "failed":
                ET.SubElement(case, "error", message=xml_text(outcome.problem or ""))
            elif outcome.verdict == "skipped":
                ET.SubElement(case, "skipped", message=xml_text(outcome.problem or ""))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _place(violation: Violation) -> str:
    return "" if violation.path is None else f"{violation.path}:{violation.line}: "


def _annotations(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        level = outcome.check.severity
        if outcome.verdict == "failed":
            yield f"::error title={_property(outcome.check.id)}::{_message(f'could not be run: {outcome.problem}')}"
        for violation in outcome.violations:
            place = "" if violation.path is None else f"file={_property(violation.path)},line={violation.line},"
            text = f"{violation.object}: {violation.detail}\n{outcome.check.title}. {outcome.check.remedy}"
            yield f"::{level} {place}title={_property(outcome.check.id)}::{_message(text)}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def _sarif(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    rules = [
        {
            "id": outcome.check.id,
            "shortDescription": {"text": outcome.check.title},
            "fullDescription": {"text": outcome.check.means},
            "help": {"text": f"{outcome.check.remedy} ({outcome.check.law})"},
            "defaultConfiguration": {"level": outcome.check.severity},
        }
        for outcome in outcomes
    ]
    results = [
        {
            "ruleId": outcome.check.id,
            "ruleIndex": index,
            "level": outcome.check.severity,
            "message": {"text": f"{violation.object}: {violation.detail}"},
            "locations": [_location(outcome, violation)],
        }
        for index, outcome in enumerate(outcomes)
        for violation in outcome.violations
    ]
    problems = [
        {"level": "error", "message": {"text": f"{outcome.check.id}: {outcome.problem}"}}
        for outcome in outcomes
        if outcome.verdict == "failed"
    ]
    return {
        "$schema": _INFORMATION,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "persistence fit", "rules": rules}},
                "invocations": [{"executionSuccessful": not problems, "toolExecutionNotifications": problems}],
                "results": results,
            }
        ],
    }


def _location(outcome: Outcome, violation: Violation) -> dict[str, Any]:
    """The place in code; of what is in a database, the check that found it, since code scanning wants a file."""
    path = violation.path or f"fit/{outcome.check.suite}/{outcome.check.path.name}"
    place: dict[str, Any] = {"artifactLocation": {"uri": path}, "region": {"startLine": violation.line or 1}}
    return {"physicalLocation": place, "logicalLocations": [{"fullyQualifiedName": violation.object}]}
