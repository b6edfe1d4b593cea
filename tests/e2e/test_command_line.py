"""The command line, as somebody types it: on the embedded server, and with what goes wrong."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.processes import run_command
from tests.unit.test_reading_files import event, trace, written

COMMAND = [sys.executable, "-m", "persistence.cli"]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERSISTENCE_")}
    return {**kept, "COLUMNS": "200", **more}


def typed(*words: str, expect: int = 0, **more: str) -> str:
    status, output, complaint = run_command([*words], environment(**more), timeout=120)
    assert status == expect, output + complaint
    return output if expect == 0 else output + complaint


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("plane"))


@pytest.fixture(scope="module")
def running(data_dir: str) -> Iterator[list[str]]:
    """`persistence up` until `ready`; its lines."""
    process = subprocess.Popen([*COMMAND, "up", "--data-dir", data_dir], stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith("ready"):
            break
    yield lines
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def test_up_reaches_ready_with_a_trace(running: list[str]) -> None:
    said = "\n".join(running)
    for part in (
        "signal loan.application",
        "run loan-application COMPLETED",
        "tool call",
        "EFFECT_ATTEMPT_FAILED",
        "PUBLISHED",
        "EFFECT_EXECUTED",
    ):
        assert part in said
    assert re.search(r"^ready postgresql://persistence_service@", running[-1])


@pytest.mark.usefixtures("running")
def test_commands_work_beside_it(data_dir: str, tmp_path: Path) -> None:
    where = ("--data-dir", data_dir)
    tenants = json.loads(typed("tenant", "list", "--format", "json", *where))
    assert [tenant["name"] for tenant in tenants] == ["demo"]
    created = json.loads(typed("tenant", "create", "acme", "--format", "json", *where))
    typed("tenant", "add-user", "acme", created["tenant_id"], *where)
    assert "is named 'acme' already" in typed("tenant", "create", "acme", *where, expect=1)

    log = written(tmp_path / "log.xes", trace("1", event("A")), trace("2", event("B")))
    [report] = json.loads(typed("import", str(log.path), "--tenant", "acme", "--format", "json", *where))
    assert (report["added"], report["log_events"]) == (2, 2)
    broken = written(tmp_path / "broken.xes", "<trace><event/></trace>", trace("3", event("A")))
    assert "no concept:name" in typed("import", str(broken.path), "--tenant", "acme", *where, expect=2)
    assert "skipped:" in typed("import", str(broken.path), "--tenant", "acme", "--on-error", "skip", *where, expect=1)

    [letter] = json.loads(typed("dlq", "list", "--each", "--tenant", "demo", "--format", "json", *where))
    assert letter["error_details"]["message"] == "the mailbox does not exist"
    shown = json.loads(typed("dlq", "show", letter["id"], "--tenant", "demo", "--format", "json", *where))
    assert shown["trace"]["roots"][0]["kind"] == "signal"
    traced = typed("trace", "--correlation", letter["correlation_id"], "--tenant", "demo", *where)
    assert "DEAD_LETTER" in traced
    assert "1 requeued" in typed("dlq", "requeue", letter["id"], "--reason", "try", "--tenant", "demo", *where)
    assert "is no dead letter" in typed("dlq", "requeue", created["tenant_id"], "--tenant", "demo", *where, expect=1)

    assert "no difference" in typed("replay", "--verify", *where)
    assert json.loads(typed("replay", "--verify", "--tenant", "acme", "--format", "json", *where))["different"] == 0
    assert "projections refreshed" in typed("housekeeping", *where)
    assert json.loads(typed("migrate", "status", "--format", "json", *where))["pending"] == []


def test_what_goes_wrong_is_one_clear_line(data_dir: str, tmp_path: Path) -> None:
    nowhere = {"PERSISTENCE_DSN": f"postgresql://x@/x?host={tmp_path}"}
    said = typed("tenant", "list", expect=2, **nowhere)
    assert said.startswith("error: cannot reach the server")
    assert "Traceback" not in said
    assert "error: trace: name either" in typed("trace", expect=2)
    assert "PERSISTENCE_ADMIN_DSN is not set" in typed("migrate", "up", expect=2, **nowhere)
    assert "cannot import nothing" in typed("worker", "--app", "nothing", "--data-dir", data_dir, expect=2)
    assert "is not of the form" in typed("worker", "--app", "nothing:", "--data-dir", data_dir, expect=2)
    assert "cannot import missing" in typed("worker", "--app", "missing:worker", "--data-dir", data_dir, expect=2)
    assert "there are" in typed("import", "x.xes", "--data-dir", data_dir, expect=2)


def test_the_migration_script_is_sql(tmp_path: Path) -> None:
    script = typed("migrate", "sql")
    assert "CREATE TABLE persistence.orchestration_events" in script
    assert script.count("COMMIT;") == 1


def test_demo_does_it_once_and_leaves_no_server_behind(tmp_path: Path) -> None:
    assert "RUN_COMPLETED" in typed("demo", "--data-dir", str(tmp_path))
    assert not (tmp_path / "postgresql" / "postmaster.pid").exists()


def test_the_law_its_gates_and_its_repairs(running: list[str], data_dir: str) -> None:
    gates = json.loads(typed("fit", "--data-dir", data_dir, "--format", "json"))
    assert (gates["summary"]["violated"], gates["summary"]["failed"], gates["summary"]["skipped"]) == (0, 0, 0)
    assert "the canon is in order" in typed("canon", "check")
    rebuilt = typed("replay", "--rebuild", "steps", "--rebuild", "run_summary", "--data-dir", data_dir)
    assert "steps: 0 deleted, 0 corrected, 0 restored" in rebuilt
    assert "choose from signals, runs" in typed("replay", "--rebuild", "moon", "--data-dir", data_dir, expect=2)
    assert "say what to do" in typed("replay", "--data-dir", data_dir, expect=2)


def test_a_run_as_it_was(running: list[str], data_dir: str) -> None:
    connected = psycopg.connect(f"postgresql://persistence_audit@/persistence?host={data_dir}/socket")
    with connected as connection:
        row = connection.execute(
            "SELECT r.id::text, e.sequence_number::text FROM persistence.runs AS r JOIN persistence.orchestration_events AS e "
            "ON e.aggregate_id = r.id WHERE e.event_type = 'RUN_STARTED' LIMIT 1"
        ).fetchone()
    assert row is not None
    then = json.loads(typed("state", "--run", row[0], "--at", row[1], "--data-dir", data_dir, "--format", "json"))
    assert (then["run"]["status"], then["run"]["version"], then["steps"]) == ("RUNNING", 1, [])
    assert "run loan-application" in typed("state", "--run", row[0], "--data-dir", data_dir)
    assert "neither a time nor a sequence number" in typed(
        "state", "--run", row[0], "--at", "soon", "--data-dir", data_dir, expect=2
    )


def test_backups_from_end_to_end(running: list[str], data_dir: str, tmp_path: Path) -> None:
    kept = {"PERSISTENCE_BACKUP_DIR": str(tmp_path / "kept")}
    assert "there is no backup in" in typed("backup", "verify", "--data-dir", data_dir, expect=1, **kept)
    backup = json.loads(typed("backup", "create", "--data-dir", data_dir, "--format", "json", **kept))
    assert f"backup {backup['label']} is good" in typed("backup", "verify", "--data-dir", data_dir, **kept)
    assert "incremental" in typed("backup", "create", "--data-dir", data_dir, **kept)
    listed = json.loads(typed("backup", "list", "--data-dir", data_dir, "--format", "json", **kept))
    assert [entry["verification"]["status"] for entry in listed] == ["VERIFIED", "not proven"]
    restored = typed("restore", backup["label"], "--into", str(tmp_path / "new"), "--data-dir", data_dir, **kept)
    assert "the log goes on in epoch 2" in restored
    assert "no difference" in typed("replay", "--verify", "--data-dir", str(tmp_path / "new"))
    assert "nothing waits for delivery" in typed("restore", "held", "--data-dir", str(tmp_path / "new"))
    assert "0 released" in typed("restore", "release", "--all", "--data-dir", str(tmp_path / "new"))
    assert "say what" in typed("restore", "release", "--data-dir", str(tmp_path / "new"), expect=2)
    assert "is there already" in typed(
        "restore", backup["label"], "--into", str(tmp_path / "new"), "--data-dir", data_dir, expect=2, **kept
    )


def test_what_a_restore_holds_back_is_cancelled_or_released(data_dir: str, tmp_path: Path, running: list[str]) -> None:
    kept = {"PERSISTENCE_BACKUP_DIR": str(tmp_path / "kept")}
    code = (
        "import asyncio\nfrom persistence import Plane\n"
        "async def main():\n"
        "    async with Plane() as plane:\n"
        "        tenant = (await plane.tenants.list())[0]\n"
        "        async with plane.transaction(tenant.tenant_id, actor='agent:x') as tx:\n"
        "            run = tx.runs.start(run_type='held')\n"
        "            for key in ('a', 'b'):\n"
        "                tx.effects.request(run, 'NOBODY_HANDLES', spec={}, idempotency_key=key)\n"
        "asyncio.run(main())"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(PERSISTENCE_DATA_DIR=data_dir), check=True)
    typed("backup", "create", "--full", "--data-dir", data_dir, **kept)
    new = str(tmp_path / "new")
    document = json.loads(typed("restore", "--into", new, "--data-dir", data_dir, "--format", "json", **kept))
    first, second = (entry["id"] for entry in document["held"])
    assert f"{first} cancelled" in typed("restore", "cancel", "--id", first, "--reason", "the receiver has it", "--data-dir", new)
    assert "is not held back" in typed("restore", "cancel", "--id", first, "--reason", "again", "--data-dir", new, expect=1)
    assert "1 released" in typed("restore", "release", "--id", second, "--data-dir", new)
    assert "145 passed" in typed("fit", "--data-dir", new)


@pytest.mark.usefixtures("running")
def test_contexts_are_signed_and_secrets_change(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path))
    first, second = {"PERSISTENCE_CONTEXT_SECRET": "1" * 40}, {"PERSISTENCE_CONTEXT_SECRET": "2" * 40}
    assert "PERSISTENCE_CONTEXT_SECRET is not set" in typed("context", "sign", *data, expect=2)
    assert "not signed" in typed("context", "status", *data)
    assert "with 1 secret" in typed("context", "sign", *data, **first)
    assert "it was so already" in typed("context", "sign", *data, **first)
    typed("tenant", "create", "acme", *data)
    assert "cannot prove it" in typed("runs", "list", *data, expect=1)
    assert json.loads(typed("runs", "list", *data, "--format", "json", **first))["items"] == []
    assert "with 2 secrets" in typed("context", "sign", *data, **second)
    assert json.loads(typed("runs", "list", *data, "--format", "json", **first))["items"] == []
    assert "with 1 secret" in typed("context", "retire", *data, **second)
    typed("runs", "list", *data, expect=1, **first)
    assert json.loads(typed("context", "status", *data, "--format", "json", **second))["is_ours"]
    assert "not signed" in typed("context", "retire", "--all", *data)
    typed("runs", "list", *data)


def test_ids_stay_whole_in_a_pipe(data_dir: str) -> None:
    narrow = {name: value for name, value in environment().items() if name != "COLUMNS"}
    found = subprocess.run(
        [*COMMAND, "runs", "list", "--tenant", "demo", "--data-dir", data_dir],
        capture_output=True,
        text=True,
        check=True,
        env=narrow,
        timeout=120,
    )
    assert re.search(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", found.stdout)
