"""Every snippet of the README and the guides, in the order in which a reader meets them, on a fresh data directory. (The runbooks have a test of their own.)"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from persistence.database.embedded import EmbeddedServer
from persistence.database.programs import programs
from tests.e2e.test_command_line import COMMAND, environment
from tests.processes import run_command

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```(sh|python|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
STAY: dict[tuple[str, ...], str] = {("worker",): "worker_started", ("serve",): "console  http"}
"""Commands that stay until they are told to stop, and what they say once they are at work."""


class Reader:
    """Somebody who types what a page says, in a folder of his own. variables: what he has in his shell; stands_for: what the page's examples mean here."""

    def __init__(self, folder: Path, variables: dict[str, str], stands_for: dict[str, str]) -> None:
        self.folder = folder
        self.variables = {"PERSISTENCE_DATA_DIR": str(folder / "data"), "HOME": str(folder), **variables}
        self.stands_for = stands_for
        self.typed: list[str] = []
        self.said = ""

    def read(self, page: str, blocks: Callable[[str, str], bool] = lambda _language, _text: False) -> None:
        """Does what the page says, block by block. blocks: deals with those that ask for something else; tells whether it did."""
        for language, text in BLOCK.findall((ROOT / page).read_text()):
            if blocks(language, text):
                continue
            if language == "python":
                self.said = self._run([sys.executable, "-c", text])
            elif language == "sh":
                for line in text.splitlines():
                    self._type(line)

    def _type(self, line: str) -> None:
        for example, meant in self.stands_for.items():
            line = line.replace(example, meant)
        if line.startswith("{"):  # what the page says that the command before answers
            assert json.loads(line).keys() == json.loads(self.said).keys()
            return
        shell = {**os.environ, **self.variables}
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            self.variables[name] = subprocess.run(
                ["bash", "-c", f"printf %s {value}"], env=shell, capture_output=True, text=True, check=True
            ).stdout
            return
        expanded = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], env=shell, capture_output=True, text=True, check=True)
        words = [word for word in expanded.stdout.split("\0") if word]
        if not words:
            return
        self.typed.append(line)
        program = words[0]
        if program == "persistence":
            said_once = STAY.get((words[1],))
            self.said = self._stay(words[1:], said_once) if said_once else self._command(words[1:])
        elif program == "make":
            assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
        elif program == "psql":
            self.said = self._run([str(programs() / "psql"), *words[1:]])
        elif program == "curl":
            follows = "-N" in words
            self.said = self._run(
                ["curl", "-sS", "--fail-with-body", *(["--max-time", "2"] if follows else []), *words[1:]], ends=not follows
            )
        elif program == "pytest":
            self.said = self._run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words[1:]])
        else:
            raise AssertionError(f"nobody knows how to do: {line}")

    def _environment(self) -> dict[str, str]:
        return environment(**{"PYTHONPATH": str(self.folder), "PATH": os.environ["PATH"], **self.variables})

    def _command(self, words: list[str]) -> str:
        place = Path.cwd()
        os.chdir(self.folder)
        try:
            status, output, complaint = run_command(words, self._environment(), timeout=300)
        finally:
            os.chdir(place)
        assert status == 0, f"persistence {' '.join(words)}: {output}{complaint}"
        return output

    def _run(self, words: list[str], *, ends: bool = True) -> str:
        done = subprocess.run(
            words, env=self._environment(), cwd=self.folder, capture_output=True, text=True, check=False, timeout=300
        )
        assert not ends or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def _stay(self, words: list[str], said_once: str) -> str:
        with staying([*COMMAND, *words], self._environment(), self.folder, said_once) as lines:
            return "\n".join(lines)


@contextmanager
def staying(command: list[str], variables: dict[str, str], folder: Path, said_once: str) -> Iterator[list[str]]:
    """A command at work; its lines until then. It must end well when it is told to."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables, cwd=folder)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if said_once in line:
            break
    assert process.poll() is None, "\n".join(lines)
    yield lines
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=120)[0]
    assert process.returncode == 0, "\n".join(lines) + rest
    lines.append(rest)


def _serve(reader: Reader) -> Any:
    return staying([*COMMAND, "serve", "--port", "0"], reader._environment(), reader.folder, "console  http")


@contextmanager
def _own_server(folder: Path) -> Iterator[SimpleNamespace]:
    """A server that somebody else set up: an administrator who is no superuser, and a login for services."""
    with EmbeddedServer(folder, durable=False) as server:
        with psycopg.connect(server.dsn("postgres", "postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE db")
            connection.execute("DROP ROLE IF EXISTS admin; CREATE ROLE admin LOGIN CREATEROLE")
            connection.execute("GRANT CREATE ON DATABASE db TO admin")
            connection.execute("CREATE ROLE my_service LOGIN; CREATE ROLE my_auditor LOGIN")
        yield SimpleNamespace(
            admin=server.dsn("admin", "db"), service=server.dsn("my_service", "db"), auditor=server.dsn("my_auditor", "db")
        )


def test_the_readme(tmp_path: Path) -> None:
    with _own_server(tmp_path / "own") as own:
        reader = Reader(
            tmp_path,
            {},
            {
                "postgresql://admin@host/db": f"'{own.admin}'",
                "postgresql://my_service@host/db": f"'{own.service}'",
                "postgresql://my_auditor@host/db": f"'{own.auditor}'",
            },
        )
        (tmp_path / "src").mkdir()
        (tmp_path / "mypackage").mkdir()
        _read_readme(reader)
        assert reader.typed[-3:] == [line for line in reader.typed if line.startswith(("persistence migrate", "psql"))]
        with psycopg.connect(own.service) as connection:
            assert connection.execute("SELECT version_num FROM canon.schema_version").fetchone()


def _read_readme(reader: Reader) -> None:
    with _serve(reader) as lines:
        address = re.search(r"http://[\d.]+:\d+", lines[-1])
        assert address
        reader.stands_for["http://127.0.0.1:8640"] = address[0]

        def special(language: str, text: str) -> bool:
            if language == "python" and "worker = Worker()" in text:
                (reader.folder / "mypackage" / "effects.py").write_text(text)
                return True
            if language == "sh" and "$TOKEN" in text and "TOKEN" not in reader.variables:
                issued = reader._command(["token", "issue", "ci", "--role", "operator", "--format", "json"])
                reader.variables["TOKEN"] = json.loads(issued)["token"]
                runs = json.loads(reader._command(["runs", "list", "--format", "json"]))["items"]
                assert {run["run_type"] for run in runs} == {"order", "sale"}
                reader.variables["RUN"] = runs[0]["id"]
            return False

        reader.read("README.md", special)


def test_the_guide_to_data_files(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {}, {})
    reader._command(["tenant", "create", "acme"])
    (tmp_path / "issue.json").write_text('{"issue": {"title": "It is broken"}}')
    with _serve(reader) as lines:
        address = re.search(r"http://[\d.]+:\d+", lines[-1])
        assert address
        reader.variables["URL"] = address[0]
        issued = reader._command(["token", "issue", "ci", "--role", "operator", "--format", "json"])
        reader.variables["TOKEN"] = json.loads(issued)["token"]
        tenant = json.loads(reader._command(["tenant", "list", "--format", "json"]))[0]["tenant_id"]

        def special(language: str, text: str) -> bool:
            if "curl -X DELETE" in text:
                listed = json.loads(reader._command(["data", "list", "--format", "json"]))
                assert listed == []
                reader._type('curl -X POST "$URL/v1/data/github.issues" -H "Authorization: Bearer $TOKEN" -d @issue.json')
                reader.stands_for["2026-01-21T10:00:00Z"] = json.loads(reader.said)["collectedAt"]
            if language == "yaml":
                (tmp_path / "rules.yaml").write_text(text)
            if language == "python":
                call = f"import asyncio; print(asyncio.run(keep(UUID('{tenant}'), 'delivery', b'{{\"issue\": {{}}}}')))"
                assert re.match(r"\d{4}-", reader._run([sys.executable, "-c", f"{text}\n{call}"]))
                return True
            return False

        reader.read("docs/data.md", special)
    assert "triage" in reader._command(["runs", "list"])


def test_the_guide_to_secrets(tmp_path: Path) -> None:
    (tmp_path / "stripe.key").write_text("sk_live_4711")
    reader = Reader(tmp_path, {}, {})
    reader._command(["tenant", "create", "shop"])

    def special(language: str, text: str) -> bool:
        if language == "yaml":
            (tmp_path / "data" / "config").mkdir(parents=True)
            (tmp_path / "data" / "config" / "vault_config.yaml").write_text(
                text.replace("/data/vault/", str(tmp_path / "data" / "vault"))
            )
        return False

    reader.read("docs/secrets.md", special)
    assert "the proof is event" in reader.said
    assert reader._command(["secret", "get", "stripe", "--purpose", "a test"]) == "sk_live_4711"
    assert "145 passed" in reader._command(["fit"])


def test_the_guide_to_log_lines(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {"PERSISTENCE_CONFIG_DIR": str(tmp_path / "config")}, {})
    reader._command(["tenant", "create", "shop"])

    def special(language: str, text: str) -> bool:
        if language == "yaml":
            (tmp_path / "config").mkdir()
            (tmp_path / "config" / "logging.yaml").write_text(text.replace("/data/logs", str(tmp_path / "logs")))
            with staying([*COMMAND, "worker"], reader._environment(), tmp_path, "worker_started"):
                reader._command(["demo"])
        return False

    reader.read("docs/logs.md", special)
    assert "/logs/kai.log.jsonl" in reader.said
    lines = [json.loads(line) for line in reader._command(["logs", "tail", "--format", "json"]).splitlines()]
    assert "worker_started" in {line["event"] for line in lines}
    assert {line["agent"] for line in lines} <= {"system:worker", "system:logs"}
    assert reader._command(["logs", "follow", "--once", "--tenant", "demo", "--agent", "agent:"]).count("agent:loan-desk") > 3
    assert json.loads(reader._command(["config", "check", "--format", "json"]))["logging.yaml"]["redact"] == ["iban"]


def test_the_guide_to_snapshots(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {}, {})
    reader._command(["demo"])

    def special(language: str, text: str) -> bool:
        if language == "yaml":
            (tmp_path / "data" / "config").mkdir(parents=True)
            (tmp_path / "data" / "config" / "snapshots.yaml").write_text(text)
            with _serve(reader):  # takes what is due
                deadline = time.monotonic() + 60
                while "schedule" not in reader._command(["snapshot", "list", "--tenant", "demo"]):
                    assert time.monotonic() < deadline
        return False

    reader.read("docs/snapshots.md", special)
    listed = json.loads(reader._command(["snapshot", "list", "--tenant", "demo", "--format", "json"]))
    assert {item["status"] for item in listed if item["cause"] == "schedule"} == {"VERIFIED"}
    assert len(json.loads(reader._command(["config", "check", "--format", "json"]))["snapshots.yaml"]["rules"]) == 3


def test_the_guide_to_operations(tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> None:
    effects = next(text for language, text in BLOCK.findall((ROOT / "README.md").read_text()) if "worker = Worker()" in text)
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "effects.py").write_text(effects)
    ports = {f"port {port}": f"port {unused_tcp_port_factory()}" for port in ("8640", "8641")}
    reader = Reader(
        tmp_path,
        {"PERSISTENCE_WAL_ARCHIVE": str(tmp_path / "wal")},
        {**ports, "acme": "demo", "/srv/restored": str(tmp_path / "restored")},
    )
    with staying([*COMMAND, "worker"], reader._environment(), tmp_path, "worker_started"):  # keeps the server up
        reader._command(["demo"])

        def special(_language: str, text: str) -> bool:
            if "$EFFECT" in text:
                dead = json.loads(reader._command(["dlq", "list", "--each", "--format", "json"]))
                reader.variables["EFFECT"] = dead[0]["id"]
            if "persistence restore" in text:
                reader.stands_for["2026-01-31T12:00:00Z"] = _moment_in_the_archive(tmp_path)
            return False

        reader.read("docs/operations.md", special)
    assert (tmp_path / "restored").is_dir()


def _moment_in_the_archive(folder: Path) -> str:
    """Now, once what is written after it is in the archive."""
    with psycopg.connect(EmbeddedServer(folder / "data").admin_dsn, autocommit=True) as connection:
        [now] = connection.execute("SELECT clock_timestamp()").fetchone()  # type: ignore[misc]
        connection.execute("SELECT pg_current_xact_id()")
        [name] = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()  # type: ignore[misc]
    deadline = time.monotonic() + 60
    while not (folder / "wal" / name).exists():
        assert time.monotonic() < deadline, "the WAL is not archived"
    return str(now.isoformat())


def test_the_guide_to_the_library(tmp_path: Path) -> None:
    blocks = [text for language, text in BLOCK.findall((ROOT / "docs" / "library.md").read_text()) if language == "python"]
    assert len(blocks) == 6
    reader = Reader(tmp_path, {}, {})
    reader._run([sys.executable, "-c", "\n".join(blocks) + f"\ntest_an_order_is_mailed({str(tmp_path / 'data')!r})"])
    shown = reader._command(["runs", "list"])
    assert "CANCELLED" in shown
    assert "invoice" in shown


def test_the_guide_to_memory(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {}, {})
    said: list[str] = []

    def note(_language: str, _text: str) -> bool:
        said.append(reader.said)
        return False

    reader.read("docs/memory.md", note)
    shown = "\n".join([*said, reader.said])
    assert "Ada likes coffee now" in shown
    assert "vectors_rank" in shown
    assert "'said': 'hello!'" in shown


def test_the_guide_to_streams(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {}, {})
    said: list[str] = []

    def note(_language: str, _text: str) -> bool:
        said.append(reader.said)
        return False

    reader.read("docs/streams.md", note)
    shown = "\n".join([*said, reader.said])
    assert "to be billed: 1" in shown
    assert '"content":"Good"' in shown
    assert "billing is removed" in shown
    assert "1 segments" in shown


def test_the_guide_to_flows(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {}, {})
    said: list[str] = []

    def note(_language: str, _text: str) -> bool:
        said.append(reader.said)
        return False

    reader.read("docs/flows.md", note)
    shown = "\n".join([*said, reader.said])
    assert "parcel-4711 in 3 boxes, approved by ann" in shown
    assert "refunded r-4712/pay under" in shown
    assert "ValueError: too heavy" in shown
    assert "PENDING" in shown


def test_what_security_asks_for(tmp_path: Path) -> None:
    reader = Reader(tmp_path, {}, {})
    reader.read("SECURITY.md")
    assert "with 1 secret" in reader.said


@pytest.mark.parametrize("page", [path.name for path in (ROOT / "docs").glob("*.md")])
def test_no_guide_is_left_out(page: str) -> None:
    read = {
        "data.md",
        "library.md",
        "operations.md",
        "runbooks.md",
        "secrets.md",
        "logs.md",
        "snapshots.md",
        "memory.md",
        "streams.md",
        "flows.md",
    }
    assert page in read or not [language for language, _ in BLOCK.findall((ROOT / "docs" / page).read_text()) if language != "yaml"]
