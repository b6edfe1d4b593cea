"""runs, diagnose, compare, events, token, serve, export: as somebody types them."""

import json
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.request import Request, urlopen

import pytest

from persistence.database.embedded import EmbeddedServer
from tests.e2e.test_command_line import COMMAND, environment, typed

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The sample on an embedded server that goes on running between commands."""
    folder = str(tmp_path_factory.mktemp("reading"))
    with EmbeddedServer(Path(folder)):
        typed("demo", "--data-dir", folder)
        runs = json.loads(typed("runs", "list", "--format", "json", "--data-dir", folder))["items"]
        yield SimpleNamespace(folder=folder, runs=runs, of=lambda *words, **more: typed(*words, "--data-dir", folder, **more))


def failed(place: SimpleNamespace) -> str:
    return str(next(run["id"] for run in place.runs if run["status"] == "FAILED"))


def test_runs_are_listed_and_searched(place: SimpleNamespace) -> None:
    assert len(place.runs) == 5
    listed = place.of("runs", "list", "--status", "failed")
    assert failed(place) in listed
    assert "NoIncome" in listed
    first = json.loads(place.of("runs", "list", "--limit", "2", "--format", "json"))
    rest = json.loads(place.of("runs", "list", "--limit", "10", "--after", first["next"], "--format", "json"))
    assert [run["id"] for run in first["items"] + rest["items"]] == [run["id"] for run in place.runs]
    found = json.loads(place.of("runs", "list", "--search", place.runs[0]["correlation_id"], "--format", "json"))
    assert [run["id"] for run in found["items"]] == [place.runs[0]["id"]]
    assert "status: 'BROKEN' is none of a run" in place.of("runs", "list", "--status", "broken", expect=1)


def test_a_run_is_shown_in_time_and_by_causes(place: SimpleNamespace) -> None:
    shown = place.of("runs", "show", failed(place))
    assert "because step 0 assess failed, because its tool call credit-register failed" in " ".join(shown.split())
    assert "█" in shown
    causes = place.of("runs", "show", failed(place), "--causes")
    assert causes.index("SIGNAL_RECEIVED") < causes.index("RUN_STARTED") < causes.index("STEP_FAILED")
    document = json.loads(place.of("runs", "show", failed(place), "--format", "json"))
    assert {bar["kind"] for bar in document["waterfall"]["bars"]} == {"signal", "run", "step", "tool call", "recall"}


def test_runs_and_effects_are_diagnosed(place: SimpleNamespace) -> None:
    assert "retried 0 times" in place.of("diagnose", "run", failed(place))
    [dead] = json.loads(place.of("dlq", "list", "--each", "--format", "json"))
    told = place.of("diagnose", "effect", dead["id"])
    assert "the mailbox does not exist" in told
    assert f"persistence dlq requeue {dead['id']}" in told
    assert "does not exist in this tenant" in place.of("diagnose", "effect", place.runs[0]["id"], expect=1)
    assert "is no UUID" in place.of("diagnose", "run", "x", expect=2)


def test_two_runs_are_compared(place: SimpleNamespace) -> None:
    good = next(run["id"] for run in place.runs if run["status"] == "COMPLETED")
    assert "They part at step 0." in place.of("compare", failed(place), good)
    assert json.loads(place.of("compare", good, good, "--format", "json"))["parts_at"] is None


def test_the_log_is_tailed_and_followed(place: SimpleNamespace) -> None:
    last = [json.loads(line) for line in place.of("events", "tail", "-n", "3", "--format", "json").splitlines()]
    assert len(last) == 3
    again = [
        json.loads(line) for line in place.of("events", "tail", "--after", last[0]["position"], "--format", "json").splitlines()
    ]
    assert [event["id"] for event in again] == [event["id"] for event in last[1:]]
    process = subprocess.Popen(
        [*COMMAND, "events", "tail", "--follow", "-n", "1", "--format", "json", "--data-dir", place.folder],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["id"] == last[-1]["id"]
    place.of("token", "issue", "followed")
    news = json.loads(process.stdout.readline())
    assert (news["event_type"], news["event_data"]["name"]) == ("TENANT_TOKEN_ISSUED", "followed")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def test_the_service_is_served_with_a_token(place: SimpleNamespace) -> None:
    token = place.of("token", "issue", "dashboard", "--role", "operator", "--as", "agent:dashboard", "--days", "1").strip()
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--data-dir", place.folder], stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"(http://127\.0\.0\.1:\d+)/console/", line)
    assert found, line
    with urlopen(Request(f"{found[1]}/v1/runs", headers={"Authorization": f"Bearer {token}"}), timeout=30) as answer:
        assert len(json.load(answer)["items"]) == 5
    for command in re.findall(r"^curl .*$", README, flags=re.MULTILINE):
        typed_out = (
            command.partition("  #")[0]
            .replace("http://127.0.0.1:8640", found[1])
            .replace("$TOKEN", token)
            .replace("$RUN", place.runs[0]["id"])
        )
        streams = "-N" in command
        asked = subprocess.run(
            [*shlex.split(typed_out), "-sSf", *(["--max-time", "2"] if streams else [])], capture_output=True, check=False
        )
        assert asked.returncode == (28 if streams else 0), command
        assert asked.stdout
    listed = json.loads(place.of("token", "list", "--format", "json"))
    ours = next(item for item in listed if item["name"] == "dashboard")
    assert (ours["role"], ours["acts_as"]) == ("operator", "agent:dashboard")
    assert "revoked" in place.of("token", "revoke", ours["id"])
    assert "no token" in place.of("token", "revoke", ours["id"], expect=1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_a_worker_offers_metrics(place: SimpleNamespace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*COMMAND, "worker", "--metrics-port", str(port), "--data-dir", place.folder],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr is not None
    assert any("worker_started" in line for line in iter(process.stderr.readline, ""))
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        told = answer.read().decode()
    assert "persistence_listener_up" in told
    assert 'persistence_pool_connections{state="idle"}' in told
    assert "cannot serve on" in place.of("worker", "--metrics-port", str(port), expect=2)
    process.send_signal(signal.SIGTERM)
    process.stderr.read()
    assert process.wait(30) == 0


def test_gates_are_kept_when_they_are_asked_to(place: SimpleNamespace) -> None:
    place.of("fit", "--record")
    assert "leave out names" in place.of("fit", "run", "FIT-ORCH-SCHEMA-001", "--record", expect=2)
    tail = place.of("events", "tail", "-n", "1000", "--format", "json")
    assert "GATES_RUN" not in tail  # it is the system's, not a tenant's


def test_the_log_is_exported(place: SimpleNamespace, tmp_path: Path) -> None:
    told = json.loads(place.of("export", str(tmp_path / "log.xes"), "--report", "json"))
    assert told["cases"] == 5
    place.of("export", str(tmp_path / "log.sqlite"), "--format", "ocel2")
    assert (tmp_path / "log.sqlite").read_bytes().startswith(b"SQLite")
    assert "files end in .xes" in place.of("export", str(tmp_path / "log.csv"), expect=2)
    assert "there is no folder" in place.of("export", str(tmp_path / "none" / "log.xes"), expect=2)
