"""persistence data, and the service beside it: as somebody types them."""

import json
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from persistence.database.embedded import EmbeddedServer
from tests.e2e.test_command_line import COMMAND, environment, typed

SCOPE = "test.scope"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    folder = tmp_path_factory.mktemp("data")
    with EmbeddedServer(folder):
        typed("tenant", "create", "acme", "--data-dir", str(folder))
        [tenant] = json.loads(typed("tenant", "list", "--format", "json", "--data-dir", str(folder)))
        yield SimpleNamespace(
            folder=folder,
            tenant=tenant["tenant_id"],
            tree=folder / "ingest" / tenant["tenant_id"],
            of=lambda *words, **more: typed(*words, "--data-dir", str(folder), **more),
        )


def stored(place: SimpleNamespace, tmp_path: Path, data: object, *more: str) -> dict[str, object]:
    file = tmp_path / "data.json"
    file.write_text(json.dumps(data))
    entry: dict[str, object] = json.loads(place.of("data", "put", SCOPE, str(file), "--format", "json", *more))
    return entry


def test_data_are_put_got_listed_counted_and_deleted(place: SimpleNamespace, tmp_path: Path) -> None:
    first = stored(place, tmp_path, {"n": 1})
    assert (first["recorded"], first["is_new"]) == (True, True)
    second = stored(place, tmp_path, {"n": 2}, "--idempotency-key", "k")
    assert stored(place, tmp_path, {"n": 2}, "--idempotency-key", "k")["path"] == second["path"]
    assert json.loads(place.of("data", "get", SCOPE))["data"] == {"n": 2}
    assert json.loads(place.of("data", "get", SCOPE, str(first["collected_at"]), "--data")) == {"n": 1}
    listed = json.loads(place.of("data", "list", SCOPE, "--format", "json"))
    assert [entry["path"] for entry in listed] == [second["path"], first["path"]]
    assert str(second["path"]) in place.of("data", "list")
    assert f"deleted {SCOPE}" in place.of("data", "delete", SCOPE, str(first["collected_at"]))
    assert "there is no data" in place.of("data", "get", SCOPE, str(first["collected_at"]), expect=1)
    stats = json.loads(place.of("data", "stats", "--format", "json"))
    assert ([(item["scope"], item["files"]) for item in stats["scopes"]], stats["waiting"], stats["refused"]) == (
        [(SCOPE, 1)],
        0,
        0,
    )
    events = [json.loads(line) for line in place.of("events", "tail", "--format", "json").splitlines()]
    channels = [item["event"]["event_data"].get("signal_type") for item in events if "event" in item] or [
        item["event_data"].get("signal_type") for item in events
    ]
    assert channels.count("data.stored") == 2
    assert channels.count("data.deleted") == 1


def test_bad_data_are_refused_by_name(place: SimpleNamespace, tmp_path: Path) -> None:
    assert "No such file" in place.of("data", "put", SCOPE, str(tmp_path / "none.json"), expect=2)
    (tmp_path / "list.json").write_text("[]")
    assert "is JSON, but no object" in place.of("data", "put", SCOPE, str(tmp_path / "list.json"), expect=1)
    assert "scope: 'Bad'" in place.of("data", "put", "Bad", str(tmp_path / "list.json"), expect=1)


def test_a_tree_is_checked_and_its_index_built_anew(place: SimpleNamespace, tmp_path: Path) -> None:
    entry = stored(place, tmp_path, {"n": 3})
    assert "agree" in place.of("data", "check")
    for file in place.tree.glob("index.db*"):
        file.write_bytes(b"this is no database at all" * 1000)
    place.of("data", "reindex")
    assert list(place.tree.glob("index.db.2*"))
    assert "agree" in place.of("data", "check")
    again = json.loads(place.of("data", "list", SCOPE, "--limit", "1", "--format", "json"))
    assert (again[0]["path"], again[0]["file_id"]) == (entry["path"], entry["file_id"])
    rows = len(json.loads(place.of("data", "list", "--format", "json")))
    assert f"{rows} rows added" in place.of("data", "reindex", "--anew")
    assert json.loads(place.of("data", "list", SCOPE, "--limit", "1", "--format", "json"))[0]["file_id"] == entry["file_id"]
    (place.tree / "data" / str(entry["path"])).unlink()
    assert "row without file" in place.of("data", "check", expect=1)
    assert "1 removed" in place.of("data", "reindex")
    assert "agree" in place.of("data", "check")


def test_data_are_put_while_there_is_no_database(tmp_path: Path) -> None:
    tenant = str(uuid4())
    (tmp_path / "data.json").write_text('{"n": 1}')
    settings = {
        "PERSISTENCE_DSN": "postgresql://nobody@127.0.0.1:1/none",
        "PERSISTENCE_RETRY_FOR": "0.1",
        "PERSISTENCE_CONNECT_TIMEOUT": "1",
    }
    words = ["--tenant", tenant, "--data-dir", str(tmp_path)]
    done = subprocess.run(
        [*COMMAND, "data", "put", SCOPE, str(tmp_path / "data.json"), *words],
        env={**environment(), **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "not recorded yet" in done.stdout
    done = subprocess.run(
        [*COMMAND, "data", "get", SCOPE, *words], env={**environment(), **settings}, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["data"] == {"n": 1}


def test_the_service_from_start_to_end(place: SimpleNamespace) -> None:
    """Start it, post with curl, find the file and its row, stop it with Ctrl-C: the index is closed."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    token = re.findall(r"pp_\S+", place.of("token", "issue", "curl", "--role", "operator", "--as", "agent:curl"))[0]
    serving = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--data-dir", str(place.folder)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert serving.stdout is not None
        url = re.findall(r"http://\S+?:\d+", serving.stdout.readline())[0]
        posted = subprocess.run(
            ["curl", "-s", "-X", "POST", f"{url}/v1/data/curl.scope", "-H", "Content-Type: application/json", "-H", f"Authorization: Bearer {token}",
             "-H", "Prefer: wait=20", "-d", '{"hello":"world"}', "-w", "\n%{http_code}"],
            capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        body = json.loads(posted[0])
        assert (posted[1], body["scope"], body["status"], body["recorded"]) == ("201", "curl.scope", "stored", True)
        name = body["collectedAt"].replace(":", "-") + ".json"
        assert json.loads((place.tree / "data/curl/scope" / name).read_text())["data"] == {"hello": "world"}
        with sqlite3.connect(place.tree / "index.db") as index:
            assert index.execute("SELECT path FROM data_files WHERE scope = 'curl.scope'").fetchall() == [(f"curl/scope/{name}",)]
        index.close()
        serving.send_signal(signal.SIGINT)
        assert serving.wait(20) == 0
        assert [file.name for file in place.tree.glob("index.db*") if not file.name.startswith("index.db.")] == ["index.db"]
    finally:
        serving.kill()
        serving.communicate()


def test_rules_are_set_shown_and_removed(place: SimpleNamespace, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("# Ours\ndata:test.*: {run: answer}\n")
    assert "rules: 1, in" in place.of("data", "rules", "set", str(file))
    assert place.of("data", "rules", "show") == file.read_text()
    stored(place, tmp_path, {"ruled": True})  # by a process that was told of no rules
    assert "answer" in place.of("runs", "list")
    file.write_text("test.scope: {run: answer}")
    assert "does not begin with data:" in place.of("data", "rules", "set", str(file), expect=2)
    assert "# Ours" in place.of("data", "rules", "show")
    place.of("data", "rules", "remove")
    assert place.of("data", "rules", "show") == ""
