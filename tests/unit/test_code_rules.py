"""What the code scanner finds, what it leaves alone, and what it lets pass with a reason."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from persistence.cli.app import app
from persistence.errors import ConfigurationError
from persistence.gates.code import RULES, scan

# For each rule: code that breaks it, the line, and code that keeps it.
CASES = {
    "driver_import": ("import json\nimport asyncpg\n", 2, "from asyncpgish import connect\n"),
    "orm_session": ("from sqlalchemy.ext.asyncio import AsyncSession\n", 1, "from sqlalchemy import Integer\n"),
    "raw_sql": (
        "async def f(tx):\n    return await tx.fetch(f'SELECT * FROM orders WHERE id = {1}')\n",
        2,
        'def f():\n    """SELECT a FROM b is documented here."""\n    print("Select a room", "update the set of rules", "delete")\n',
    ),
    "tenant_in_statement": (
        "_FIND = 'SELECT * FROM persistence.runs WHERE id = $1'\n",
        1,
        "_FIND = 'SELECT * FROM persistence.runs WHERE tenant_id = $1 AND id = $2'\n",
    ),
    "append_only_repository": (
        "class EventRepository:\n    def append(self, event): ...\n    def delete(self, event): ...\n",
        3,
        "class EventRepository:\n    def append(self, event): ...\n\nclass RunRepository:\n    def update_title(self): ...\n",
    ),
    "outside_call": (
        "import httpx\nfrom persistence import Plane\n\nasync def f(plane: Plane):\n    await httpx.AsyncClient().post('http://x')\n",
        5,
        "import httpx\nfrom persistence.outbox import Worker\nworker = Worker()\n\n@worker.handler('X')\nasync def f(delivery):\n    await httpx.AsyncClient().post('http://x')\n",
    ),
    "projection_in_decision": ("VIEW = 'tenant_run_summary'\n", 1, "VIEW = 'run_summaries'\n"),
    "allow_without_reason": (
        "import asyncpg  # fit: allow driver_import\n",
        1,
        "import asyncpg  # fit: allow driver_import because the pool is made here\n",
    ),
    "unreadable": ("def f(:\n", 1, "def f(): ...\n"),
}
IN_REPOSITORY = {"tenant_in_statement"}


def found(tmp_path: Path, rule: str, code: str) -> list[int | None]:
    folder = tmp_path / ("repositories" if rule in IN_REPOSITORY else "features")
    folder.mkdir(exist_ok=True)
    (folder / "module.py").write_text(code)
    outcomes = {outcome.check.name: outcome for outcome in scan([folder])}
    assert all(outcome.verdict == "passed" for name, outcome in outcomes.items() if rule not in {name, "allow_without_reason"})
    return [violation.line for violation in outcomes[rule].violations]


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == set(RULES)


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_finds_its_violation_and_its_cure_silences_it(tmp_path: Path, rule: str) -> None:
    wrong, line, right = CASES[rule]
    assert found(tmp_path, rule, wrong) == [line]
    assert found(tmp_path, rule, right) == []


@pytest.mark.parametrize(
    "sql",
    [
        "insert into x values (1)".upper(),
        "UPDATE orders SET a = 1",
        "DELETE FROM orders",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "\n  SELECT a\n  FROM b\n",
        "TRUNCATE orders",
        "CREATE TABLE x (id int)",
        "SELECT persistence.append_events($1)",
        "select * from persistence.runs where tenant_id = 1",
    ],
)
def test_statements_are_known_by_their_form(tmp_path: Path, sql: str) -> None:
    assert found(tmp_path, "raw_sql", f"Q = {sql!r}\n") == [1]


@pytest.mark.parametrize(
    "code",
    ["import sqlalchemy.orm\n", "from sqlalchemy import orm\n", "from django.db import connection\n", "import sqlalchemy as sa\n"],
)
def test_sessions_are_known_by_their_modules(tmp_path: Path, code: str) -> None:
    assert found(tmp_path, "orm_session", code) == [1]


def test_an_exception_on_the_line_above_and_one_for_nothing(tmp_path: Path) -> None:
    above = "# fit: allow driver_import, raw_sql because this is where it is made\nimport asyncpg\n"
    assert found(tmp_path, "allow_without_reason", above) == [1]  # raw_sql has nothing to allow
    assert found(tmp_path, "allow_without_reason", "# fit: allow flying because I can\n") == [1]
    assert found(tmp_path, "driver_import", "import asyncpg\n") == [1]


def test_a_comment_above_a_statement_is_meant_for_all_of_it(tmp_path: Path) -> None:
    code = "# fit: allow raw_sql because it is shown to people\nQUERY = (\n    'SELECT a '\n    'FROM b'\n)\n"
    assert found(tmp_path, "raw_sql", code) == []
    assert found(tmp_path, "allow_without_reason", code.replace("QUERY", "\nQUERY")) == [1]  # it stands above nothing


def test_places_are_named_in_pyproject(tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "old.py").write_text("import asyncpg\n")
    (tmp_path / "features" / "store.py").write_text("import asyncpg\n")
    project = tmp_path / "pyproject.toml"
    project.write_text('[tool.persistence.fit]\nrepositories = ["features/store.py"]\nexclude = ["**/old.py"]\n')
    assert all(outcome.verdict == "passed" for outcome in scan([tmp_path]))
    project.write_text("[tool.persistence.fit]\nrepository = []\n")
    with pytest.raises(ConfigurationError, match=r"tool.persistence.fit.repository is unknown"):
        scan([tmp_path])
    project.write_text("[tool.persistence.fit]\nexclude = 1\n")
    with pytest.raises(ConfigurationError, match="must be a list"):
        scan([tmp_path])
    with pytest.raises(ConfigurationError, match="no such file"):
        scan([tmp_path / "nothing"])


def test_the_command_names_file_and_line_and_exits_1(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text("import json\nimport psycopg\n")
    run = CliRunner().invoke
    table = run(app, ["fit", "code", str(tmp_path)])
    assert table.exit_code == 1
    assert "service.py:2: psycopg" in table.output.replace("\n", "")
    [result] = json.loads(run(app, ["fit", "code", str(tmp_path), "--format", "sarif"]).output)["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"].endswith("service.py"), place["region"]["startLine"]) == (True, 2)
    assert ",line=2,title=" in run(app, ["fit", "code", str(tmp_path), "--format", "github"]).output
