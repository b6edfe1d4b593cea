"""Prose, data and gates say the same: each names the other, and nothing is said that nobody holds."""

import re

import pytest

from persistence.canon import CANON
from persistence.gates.checks import Check, shipped_suites
from persistence.gates.code import RULES
from persistence.resources import PACKAGE

CHECKS: dict[str, Check] = {**{check.name: check for check in shipped_suites()}, **RULES}
ROOT = PACKAGE.parent
LAWS = {
    f"{document} §{number}": text
    for document, prose in CANON.prose.items()
    for number, text in re.findall(r"^### (\d+\.\d+) (.*?)(?=^#{2,3} |\Z)", prose, re.MULTILINE | re.DOTALL)
}
REFERENCES = {reference for prose in CANON.prose.values() for reference in re.findall(r"`(\w+)\.yaml#(\w+)`", prose)}


def test_there_are_laws() -> None:
    assert len(LAWS) > 50


@pytest.mark.parametrize("law", LAWS)
def test_a_law_commands_gives_its_reason_and_is_held(law: str) -> None:
    text = LAWS[law]
    if "Contract:" in text and "MUST" not in text:
        return
    assert re.search(r"\bMUST\b", text), law
    assert "\n- Why: " in text
    held = re.search(r"- Held by: (.*)", text)
    assert held, law
    for name in re.findall(r"`(\w+)`", held[1]):
        assert name in CHECKS, f"{law} is held by {name}, which is no check"
    for path in re.findall(r"tests/[\w/]+\.py", held[1]):
        assert (ROOT / path).is_file(), path
    assert re.search(r"`\w+`|`persistence |tests/", held[1])


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_holds_a_law_that_names_it(name: str) -> None:
    law = CHECKS[name].law
    assert law in LAWS, f"{name} holds {law}, which is no law"
    names = {found for text in LAWS.values() for found in re.findall(r"`(\w+)`", text)}
    assert name in names, f"no law says that {name} holds it"


def test_prose_leads_to_all_data_and_to_nothing_else() -> None:
    data = {(file, name) for file, document in CANON.documents.items() if file != "event_types" for name in document}
    assert data == REFERENCES


def test_the_taxonomy_names_every_event_type() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", CANON.prose["CANON-EVENTS-001"], re.MULTILINE)
    assert sorted(rows) == sorted(CANON.event_types)


@pytest.mark.parametrize(
    ("document", "section", "subject"),
    [
        ("CANON-ORCH-STATE-001", "3. Signals", "`tables.yaml#signals`"),
        ("CANON-ORCH-STATE-001", "4. Runs", "`tables.yaml#runs`"),
        ("CANON-ORCH-STATE-001", "5. Steps", "`tables.yaml#steps`"),
        ("CANON-ORCH-STATE-001", "6. Effects", "`tables.yaml#effects`"),
        ("CANON-ORCH-STATE-001", "7. Tool calls", "`tables.yaml#tool_calls`"),
        ("CANON-ORCH-STATE-001", "8. Checkpoints", "`tables.yaml#run_checkpoints`"),
        ("CANON-EVENTS-001", "3.2 Taxonomy", "`RUN_STARTED`"),
        ("CANON-EVENTS-001", "4.3 The outbox table", "`tables.yaml#outbox_events`"),
        ("CANON-EVENTS-001", "7.1 Backoff", "`rules.yaml#backoff`"),
        ("CANON-TRACE-001", "4.3 The chain can be walked", "beginning of its story"),
    ],
)
def test_the_sections_that_the_walkthrough_refers_to_lead_there(document: str, section: str, subject: str) -> None:
    found = re.search(rf"^##+ {re.escape(section)}\n(.*?)(?=^## |\Z)", CANON.prose[document], re.MULTILINE | re.DOTALL)
    assert found
    assert subject in found[1]


def test_the_checklist_names_checks_and_tests_that_exist() -> None:
    tables = (ROOT / "fit" / "README.md").read_text().partition("## What a deployment")[2]
    for name in re.findall(r"`(\w+)`", tables):
        assert name in CHECKS, name
    for path in re.findall(r"tests/[\w/]+\.py", tables):
        assert (ROOT / path).is_file()


def test_the_data_hold_what_the_code_does() -> None:
    from persistence.outbox.backoff import Backoff
    from persistence.outbox.registry import Handler

    rule = CANON.rules.backoff
    assert (Backoff().base, Backoff().cap) == (rule.base_seconds, rule.cap_seconds)
    assert Handler("T", lambda _: None).max_attempts == rule.max_attempts  # type: ignore[arg-type,return-value]


def test_the_actor_grammar_stands_in_the_constraints_of_the_tables() -> None:
    kinds = re.fullmatch(r"\^\((.+)\):\.", CANON.rules.actor_pattern)
    assert kinds
    words = ",".join(f"{kind}:_%" for kind in kinds[1].split("|"))  # a regular expression would cost as much as a row
    for path in ("orchestration_events", "tenants", "user_tenants"):
        assert f"actor LIKE ANY ('{{{words}}}')" in (ROOT / "migrations" / "sql" / "tables" / f"{path}.v1.sql").read_text()
