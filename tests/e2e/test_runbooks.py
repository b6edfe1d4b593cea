"""Every command of the runbooks, as it stands there."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import orjson
import psycopg
import pytest

from persistence.database.embedded import DATABASE, SERVICE_LOGIN, EmbeddedServer
from persistence.database.programs import programs
from tests.e2e.test_command_line import environment, typed

RUNBOOKS = (Path(__file__).parent.parent.parent / "docs" / "runbooks.md").read_text()
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", RUNBOOKS, flags=re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The sample, with a second dead letter and a token."""
    folder = tmp_path_factory.mktemp("runbooks")
    with EmbeddedServer(folder) as server:
        typed("demo", "--data-dir", str(folder))
        typed("demo", "--data-dir", str(folder))
        typed("token", "issue", "ci", "--data-dir", str(folder))
        runs = orjson.loads(typed("runs", "list", "--status", "FAILED", "--format", "json", "--data-dir", str(folder)))["items"]
        dead = orjson.loads(typed("dlq", "list", "--each", "--format", "json", "--data-dir", str(folder)))
        snapshot = orjson.loads(typed("snapshot", "take", "--format", "json", "--data-dir", str(folder)))
        [token] = orjson.loads(typed("token", "list", "--format", "json", "--data-dir", str(folder)))
        yield SimpleNamespace(
            folder=folder,
            dsn=server.dsn("postgres", DATABASE),
            service=server.dsn(SERVICE_LOGIN, DATABASE),
            names={
                "RUN": runs[0]["id"],
                "OTHER_RUN": runs[1]["id"],
                "CORRELATION": runs[0]["correlation_id"],
                "EFFECT": dead[0]["id"],
                "OTHER_EFFECT": dead[1]["id"],
                "TOKEN": token["id"],
                "SNAPSHOT": snapshot["folder"],
            },
        )


def test_the_runbooks_have_commands() -> None:
    assert len(COMMANDS) > 25


def test_each_command_works_in_the_order_of_the_page(history: SimpleNamespace) -> None:
    variables = {**history.names, "PERSISTENCE_ADMIN_DSN": history.dsn}
    for command in COMMANDS:
        words = [re.sub(r"\$([A-Z_]+)", lambda found: variables[found[1]], word) for word in shlex.split(command)]
        if words[0] == "psql":
            subprocess.run([programs() / "psql", *words[1:]], env=environment(), capture_output=True, check=True, timeout=120)
        else:
            assert words[0] == "persistence", command
            place = [] if words[1:3] == ["fit", "list"] else ["--data-dir", str(history.folder)]
            typed(*words[1:], *place)
    with psycopg.connect(history.dsn) as connection:
        statuses = dict(connection.execute("SELECT id::text, status FROM persistence.effects").fetchall())
    assert statuses[history.names["EFFECT"]] == "PENDING"
    assert statuses[history.names["OTHER_EFFECT"]] == "DISCARDED"


def test_each_alert_names_a_chapter_that_is_there() -> None:
    alerts = (Path(__file__).parent.parent.parent / "deploy" / "alerts.yml").read_text()
    chapters = {
        re.sub(r"[^a-z ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.*)$", RUNBOOKS, flags=re.MULTILINE)
    }
    named = re.findall(r"docs/runbooks\.md#([a-z-]+)", alerts)
    assert named
    assert set(named) <= chapters
