"""persistence fit, as people, CI systems and their own suites use it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import psycopg
import pytest

from persistence.cli.fit import _moment as moment_of
from persistence.errors import ConfigurationError
from persistence.gates.checks import load, select, shipped_suites
from persistence.gates.code import RULES
from persistence.gates.documentation import describe
from persistence.gates.fit import Options
from persistence.resources import PACKAGE

ROOT = PACKAGE.parent

MINE = """-- title: Every run has a type of ours
-- law: OUR-LAW §1
-- severity: {severity}
-- means: Somebody invented a type.
-- remedy: Use one of ours.
SELECT r.run_type AS object, 'no type of ours' AS detail
FROM persistence.runs AS r
WHERE r.run_type = 'saved'
"""


def fit(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERSISTENCE_")}
    command = [sys.executable, "-m", "persistence.cli", "fit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**kept, "COLUMNS": "200", **environment})


def test_a_lawful_database_passes(history_audit_dsn: str, history_dsn: str) -> None:
    done = fit("--dsn", history_audit_dsn, PERSISTENCE_DSN=history_dsn)
    assert (done.returncode, f"{len(shipped_suites())} passed" in done.stdout) == (0, True), done.stdout


def test_without_a_service_its_checks_are_skipped_and_said(history_audit_dsn: str) -> None:
    done = fit("--dsn", history_audit_dsn, "FIT-PERSISTENCE-ABSTRACTION-001")
    assert done.returncode == 0
    assert "asks as a service: set PERSISTENCE_DSN" in done.stdout
    assert "5 skipped" in done.stdout


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "OUR-SUITE"
    folder.mkdir()
    (folder / "known_types.sql").write_text(MINE.format(severity="error"))
    return folder


def test_a_suite_of_ones_own_turns_red_with_exit_status_1(history_audit_dsn: str, mine: Path) -> None:
    done = fit("OUR-SUITE", "--checks-from", mine, "--dsn", history_audit_dsn)
    assert done.returncode == 1
    assert "saved: no type of ours" in done.stdout
    assert "remedy: Use one of ours. [OUR-LAW §1]" in done.stdout
    (mine / "known_types.sql").write_text(MINE.format(severity="warning"))
    assert fit("OUR-SUITE", "--checks-from", mine, "--dsn", history_audit_dsn).returncode == 0
    assert fit("OUR-SUITE", "--checks-from", mine, "--dsn", history_audit_dsn, "--fail-on", "warning").returncode == 1


def test_every_format_tells_of_the_violation(history_audit_dsn: str, mine: Path) -> None:
    def report(form: str) -> str:
        done = fit("OUR-SUITE", "rls_enabled", "--checks-from", mine, "--dsn", history_audit_dsn, "--format", form)
        assert done.returncode == 1
        return done.stdout

    document = json.loads(report("json"))
    assert document["summary"] == {"passed": 1, "violated": 1, "failed": 0, "skipped": 0}
    assert document["checks"][0]["violations"] == [{"object": "saved", "detail": "no type of ours"}]
    suites = ET.fromstring(report("junit"))
    assert [suite.get("failures") for suite in suites] == ["1", "0"]
    assert "saved: no type of ours" in str(suites[0][0][0].text)
    assert report("github").startswith("::error title=OUR-SUITE/known_types::saved: no type of ours%0A")
    [run] = json.loads(report("sarif"))["runs"]
    assert [(result["ruleId"], result["level"]) for result in run["results"]] == [("OUR-SUITE/known_types", "error")]
    assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} == {"OUR-SUITE/known_types", "FIT-ORCH-SCHEMA-001/rls_enabled"}


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT 1 AS object, nothing AS detail", "nothing"),
        ("SELECT pg_sleep(60)::text AS object, '' AS detail", "longer than statement_timeout"),
        ("DELETE FROM persistence.runs RETURNING 1 AS object, 2 AS detail", "syntax error"),
        ("SELECT setval('persistence.orchestration_events_sequence_number_seq', 1)::text AS object, '' AS detail", ""),
        ("SELECT 'a' AS thing", "returns thing"),
    ],
)
def test_a_check_that_cannot_be_run_exits_2_and_changes_nothing(history_audit_dsn: str, mine: Path, sql: str, words: str) -> None:
    (mine / "broken.sql").write_text(MINE.format(severity="error").partition("SELECT")[0] + sql)
    done = fit("OUR-SUITE/broken", "--checks-from", mine, "--dsn", history_audit_dsn, "--timeout", "0.5")
    assert done.returncode == 2, done.stdout
    assert words in done.stdout


def test_what_cannot_begin_exits_2_and_says_why(history_dsn: str, history_audit_dsn: str, mine: Path, tmp_path: Path) -> None:
    ordinary = fit("--dsn", history_dsn)
    assert (ordinary.returncode, "does not see all tenants" in ordinary.stderr) == (2, True)
    nowhere = fit("--dsn", f"postgresql://nobody@/nothing?host={tmp_path}")
    assert (nowhere.returncode, "cannot reach the server" in nowhere.stderr) == (2, True)
    assert fit("no_such_check", "--dsn", history_audit_dsn).returncode == 2
    assert fit("--since", "yesterday", "--dsn", history_audit_dsn).returncode == 2
    assert fit("--sample", "0", "--dsn", history_audit_dsn).returncode == 2
    (mine / "headless.sql").write_text("SELECT 1")
    headless = fit("OUR-SUITE", "--checks-from", mine, "--dsn", history_audit_dsn)
    assert (headless.returncode, "lacks title, law" in headless.stderr) == (2, True)


def test_since_and_sample_narrow_what_is_looked_at(history_admin_dsn: str, history_audit_dsn: str) -> None:
    with psycopg.connect(history_admin_dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE persistence.orchestration_events DISABLE TRIGGER append_only")
        old = "UPDATE persistence.orchestration_events SET digest = {} WHERE sequence_number = 20"
        connection.execute(old.format("digest || '\\x00'"))
        try:
            assert fit("event_digests", "--dsn", history_audit_dsn).returncode == 1
            assert fit("event_digests", "--since", "2999-01-01", "--dsn", history_audit_dsn).returncode == 0
            assert fit("event_digests", "--since", "7d", "--dsn", history_audit_dsn).returncode == 1
            assert fit("event_digests", "--sample", "0.0001", "--dsn", history_audit_dsn).returncode == 0
            assert fit("state_is_the_fold", "--since", "7d", "--sample", "50", "--dsn", history_audit_dsn).returncode == 0
        finally:
            connection.execute(
                "UPDATE persistence.orchestration_events AS e SET digest = persistence.event_digest(e) WHERE sequence_number = 20"
            )
            connection.execute("ALTER TABLE persistence.orchestration_events ENABLE TRIGGER append_only")


def test_a_schema_of_ones_own_is_held_to_the_law(history_admin_dsn: str, history_audit_dsn: str) -> None:
    with psycopg.connect(history_admin_dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA shop; CREATE TABLE shop.orders (id int)")
        try:
            assert fit("FIT-ORCH-SCHEMA-001", "--dsn", history_audit_dsn).returncode == 0
            done = fit("rls_enabled", "tenant_id_column", "--schema", "shop", "--dsn", history_audit_dsn)
            assert done.returncode == 1
            assert done.stdout.count("shop.orders") == 2
        finally:
            connection.execute("DROP SCHEMA shop CASCADE")


def test_the_list_is_the_page_for_operators() -> None:
    assert (ROOT / "docs" / "gates.md").read_text() == describe([*shipped_suites(), *RULES.values()]), (
        "persistence fit list > docs/gates.md"
    )


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (
            "-- title: T\n-- law: L\n-- severity: fatal\n-- means: M\n-- remedy: R\nSELECT 1",
            "severity: 'fatal' is none of error, warning",
        ),
        ("-- title: T\n-- law: L\n-- severity: error\n-- means: M\n-- remedy: R\n-- colour: red\nSELECT 1", "has colour"),
        ("-- title: T\n-- law: L\n-- severity: error\n-- means: M\n-- remedy: R\n", "has no query"),
        ("-- title: T\n-- law: L\n-- severity: error\n-- means: M\n-- remedy: R\nSELECT :'moon'", "unknown variable :'moon'"),
    ],
)
def test_a_head_that_is_wrong_is_refused_by_file(tmp_path: Path, head: str, words: str) -> None:
    (tmp_path / "bad.sql").write_text(head)
    with pytest.raises(ConfigurationError, match=words) as refused:
        load([tmp_path])
    assert "bad.sql" in str(refused.value)


def test_selection_and_options() -> None:
    checks = shipped_suites()
    assert len(select(checks, [])) == len(checks)
    assert [check.name for check in select(checks, ["rls_forced", "FIT-ORCH-SCHEMA-001/rls_forced"])] == ["rls_forced"]
    with pytest.raises(ConfigurationError, match="no suite or check 'x'"):
        select(checks, ["x"])
    with pytest.raises(ConfigurationError, match="holds no check"):
        load([PACKAGE])
    for wrong in ({"jobs": 0}, {"timeout": -1.0}, {"sample": 101.0}, {"schemas": ("a,b",)}):
        with pytest.raises(ConfigurationError):
            Options(**wrong)  # type: ignore[arg-type]
    assert moment_of("2026-01-31").tzinfo is not None


PLUGGED = """
def test_mine(fit):
    fit({dsn!r}, names=["rls_enabled"])

def test_theirs(fit):
    fit({dsn!r}, names=["known_types"], checks_from=[__import__("pathlib").Path({folder!r})])
"""


def test_the_pytest_plugin_runs_the_gates_as_tests(history_audit_dsn: str, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "test_gates.py").write_text(PLUGGED.format(dsn=history_audit_dsn, folder=str(mine)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    options = ["--fit", "--fit-dsn", history_audit_dsn, "--fit-checks", str(mine)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert f"2 failed, {len(shipped_suites()) - 5 + 1} passed, 5 skipped" in done.stdout, done.stdout[-2000:]
    assert "remedy: Use one of ours." in done.stdout
    chosen = subprocess.run(
        [*command, *options, "-m", "fit", "-k", "rls_"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert "4 passed" in chosen.stdout
    without = subprocess.run([*command, "-k", "mine"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "1 passed" in without.stdout
