"""Structured logs: lines that are whole, files that several processes share, secrets that are not in them, and a receiver that is away."""

import json
import logging
import os
import resource
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from persistence.errors import ConfigurationError, InvalidInput
from persistence.logs import REDACTED, AgentLog, LogConfig, LogSink, Redactions, open_logs, read_log_config
from persistence.logs.bridges import LineHandler, redacting, structlog_processor
from persistence.logs.configuration import LogstashConfig
from persistence.logs.files import LogFile, rotated
from persistence.logs.reading import Followed, LineFilter, follow_lines, log_files, read_lines
from persistence.logs.redaction import SHARED
from persistence.logs.shipping import Shipper

MIB = 1024 * 1024
TENANT = UUID("0198c5f0-0000-7000-8000-000000000001")


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[LogSink]:
    sink = LogSink(LogConfig(level="debug"), tmp_path / "logs" / "kai.log.jsonl")
    yield sink
    sink.close()


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Empty lines are none: one stands where a writer took another one's, that was not whole yet, for torn."""
    files = [file for file in [*rotated(path), path] if file.exists()]
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines() if line]


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Lines


def test_a_line_is_that_of_the_specification(sink: LogSink) -> None:
    AgentLog("kAI.dev.assistant", sink=sink).info("plan_generated", "Plan created for task: draft UI skeleton")
    assert sink.flush()
    [line] = lines_of(sink.output)
    assert {key: line[key] for key in ("agent", "event", "summary")} == {
        "agent": "kAI.dev.assistant",
        "event": "plan_generated",
        "summary": "Plan created for task: draft UI skeleton",
    }
    assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None
    assert line["timestamp"].endswith("Z")
    assert sink.output.name == "kai.log.jsonl"
    assert sink.output.stat().st_mode & 0o777 == 0o600


def test_a_line_leads_to_the_log_of_events_and_to_the_trace(sink: LogSink) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "get_tracer_provider", lambda: provider)
        with provider.get_tracer("t").start_as_current_span("s") as span:
            AgentLog("a", sink=sink).warning("e", tenant_id=TENANT, correlation_id=TENANT, attributes={"n": [1, {"x": None}]})
            wanted = f"{span.get_span_context().trace_id:032x}"
    assert sink.flush()
    [line] = lines_of(sink.output)
    assert (line["tenant_id"], line["correlation_id"], line["n"]) == (str(TENANT), str(TENANT), [1, {"x": None}])
    assert line["trace_id"] == wanted
    assert line["level"] == "warning"


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.just(object())
    | st.just(10**30)
    | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.text(), st.text(), st.dictionaries(st.text(max_size=8), anything, max_size=3)), max_size=3))
def test_whatever_is_said_each_is_one_line_of_json(tmp_path_factory: pytest.TempPathFactory, said: list[Any]) -> None:
    sink = LogSink(LogConfig(), tmp_path_factory.mktemp("l") / "a.log.jsonl")
    for event, summary, attributes in said:
        sink.put("info", "a", event, summary, fields=attributes)
    assert sink.flush()
    sink.close()
    assert len(lines_of(sink.output)) == len(said)


def test_what_somebody_smuggles_in_does_not_become_a_line(sink: LogSink) -> None:
    AgentLog("a", sink=sink).info(
        "e", 'x"}\n{"agent":"admin","event":"forged"}\r\n\u2028', attributes={"event": "other", "timestamp": "1970"}
    )
    assert sink.flush()
    [line] = lines_of(sink.output)
    assert (line["agent"], line["event"], line["event_"], line["timestamp_"]) == ("a", "e", "other", "1970")
    for agent in ("", "a\nb", "a" * 201):
        with pytest.raises(InvalidInput, match="agent"):
            AgentLog(agent, sink=sink)
    for stream in ("../../etc/passwd", "A", "", "kai/x", "x" * 65):
        with pytest.raises(InvalidInput, match="stream"):
            AgentLog("a", stream=stream, sink=sink)


def test_each_stream_has_its_file_and_levels_below_are_left_out(tmp_path: Path) -> None:
    sink = LogSink(LogConfig(level="warning"), tmp_path / "kai.log.jsonl")
    for stream in (None, "kernel", "engine"):
        log = AgentLog("a", stream=stream, sink=sink)
        log.info("left_out")
        log.error("kept")
    assert sink.flush()
    sink.close()
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == ["engine.log.jsonl", "kai.log.jsonl", "kernel.log.jsonl"]
    assert all([line["event"] for line in lines_of(path)] == ["kept"] for path in tmp_path.glob("*.jsonl"))


def test_other_loggers_lines_are_lines_too(sink: LogSink) -> None:
    processors: list[Any] = [structlog.processors.add_log_level, structlog_processor(sink, "system:x", logging.WARNING)]
    log = structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[*processors, lambda _, __, said: ((), said)])
    log.info("worker_started", worker="w", token="pp_1")
    log.warning("claim_failed", error="no")
    handler = LineHandler(sink, "system:x")
    python = logging.Logger("some.library")
    python.addHandler(handler)
    python.error("it %s", "broke")
    assert sink.flush()
    started, failed, broke = lines_of(sink.output)
    assert (started["summary"], started["worker"], started["token"]) == ("worker started", "w", REDACTED)
    assert failed["level"] == "warning"
    assert (broke["event"], broke["summary"], broke["logger"]) == ("some_library", "it broke", "some.library")


# Secrets


SECRETS = {
    "token": "pp_" + "A" * 64,
    "stripe": "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "openai": "sk-proj-abcdefghijklmnopqrstuvwxyz0123",
    "webhook": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "bearer": "Authorization: Bearer abcdef0123456789",
    "basic": "Basic dXNlcjpwYXNzd29yZA==",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLXRleHQ",
    "dsn": "postgresql://ada:hunter2hunter2@db.example/shop",
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "github": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "slack": "xoxb-123456789012-abcdef",
    "pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
    "query": "GET /x?token=abcdefgh123&y=1",
    "assignment": "password=hunter2hunter2",
}
NEEDLES = (
    "AAAAAAAA",
    "4eC39",
    "proj-abc",
    "MfKQ9",
    "abcdef0123456789",
    "dXNlcj",
    "eyJzdWI",
    "hunter2",
    "IOSFODNN",
    "16C7e42F",
    "123456789012",
    "MIIEp",
    "abcdefgh123",
)


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("where", ["summary", "attribute", "nested", "exception"])
def test_what_looks_like_a_secret_is_not_written(sink: LogSink, kind: str, where: str) -> None:
    text = f"before {SECRETS[kind]} after"
    values = {"attribute": {"note": text}, "nested": {"a": [{"b": text}]}, "exception": {"error": ValueError(text)}}
    AgentLog("a", sink=sink).info("e", text if where == "summary" else "s", attributes=values.get(where))
    assert sink.flush()
    written = sink.output.read_text()
    assert not [needle for needle in NEEDLES if needle in written], written
    assert REDACTED in written
    assert json.loads(written)["event"] == "e"
    assert "before" in written


@pytest.mark.parametrize(
    "name",
    ["password", "db_password", "passphrase", "api_key", "apiKey", "API-KEY", "Authorization", "cookie", "set-cookie", "client_secret", "secret", "access_token", "private_key", "signing_key", "dsn", "mine"],
)  # fmt: skip
def test_what_is_named_like_a_secret_is_not_written(tmp_path: Path, name: str) -> None:
    sink = LogSink(LogConfig(redact=("Mine",)), tmp_path / "a.log.jsonl")
    sink.put("info", "a", "e", "s", fields={name: "hush", "deep": [{"er": {name: {"x": "hush"}}}]})
    assert sink.flush()
    sink.close()
    assert "hush" not in sink.output.read_text()


@pytest.mark.parametrize(
    "name",
    ["token_id", "secret_name", "secret_kind", "keyboard", "monkey", "tokens", "idempotency_key", "ordering_key", "status_code"],
)
def test_what_only_sounds_like_one_is(name: str) -> None:
    assert not Redactions().hides(name)


def test_a_value_that_was_read_from_the_vault_is_not_written(sink: LogSink) -> None:
    SHARED.register('pa"ss\nwörd-4711')
    try:
        AgentLog("a", sink=sink).info("e", 'it is pa"ss\nwörd-4711!')
        assert sink.flush()
    finally:
        SHARED.forget_values()
    [line] = lines_of(sink.output)
    assert line["summary"] == f"it is {REDACTED}!"


# Files


WRITER = """
import sys
from pathlib import Path
from persistence.logs import AgentLog, LogConfig, LogSink
name, folder, count, rotate = sys.argv[1:]
sink = LogSink(LogConfig(rotate_size_mb=float(rotate), queue=10_000_000), Path(folder) / "kai.log.jsonl")
log = AgentLog(f"agent.{name}", sink=sink)
print("begun", flush=True)
for number in range(int(count)):
    log.info("counted", "x" * 60, attributes={"number": number})
assert sink.flush(300)
sink.close()
"""


def start_writer(folder: Path, name: str, count: int, rotate: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, name, str(folder), str(count), str(rotate)], stdout=subprocess.PIPE, text=True
    )


def test_eight_processes_lose_no_line_over_many_rotations(tmp_path: Path) -> None:
    count = 12_000
    writers = [start_writer(tmp_path, str(n), count, 0.5) for n in range(8)]
    assert [writer.wait(timeout=300) for writer in writers] == [0] * 8
    path = tmp_path / "kai.log.jsonl"
    assert len(rotated(path)) > 10
    seen: dict[str, list[int]] = {}
    for line in lines_of(path):
        seen.setdefault(line["agent"], []).append(line["number"])
    assert {agent: sorted(numbers) for agent, numbers in seen.items()} == {f"agent.{n}": list(range(count)) for n in range(8)}


def test_killed_in_the_middle_at_most_the_last_line_of_each_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "kai.log.jsonl"
    for _ in range(3):
        writer = start_writer(tmp_path, "k", 10_000_000, 1)
        assert writer.stdout is not None
        writer.stdout.readline()
        size = path.stat().st_size if path.exists() else 0
        until(lambda size=size: path.exists() and path.stat().st_size != size)
        writer.kill()
        writer.wait()
    assert start_writer(tmp_path, "last", 10, 1).wait(timeout=300) == 0
    lines = [line for file in [*rotated(path), path] for line in file.read_bytes().splitlines() if line]
    assert sum(not is_json(line) for line in lines) <= 3
    assert all(is_json(line) and b"agent.last" in line for line in lines[-10:])


def is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def test_a_process_frozen_with_the_lock_holds_up_nobody(tmp_path: Path) -> None:
    freezer = subprocess.Popen(
        [sys.executable, "-c", "import fcntl,os,sys;fcntl.flock(os.open(sys.argv[1],os.O_RDWR|os.O_CREAT),fcntl.LOCK_EX);print(1,flush=True);input()",
         str(tmp_path / ".kai.log.jsonl.lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert freezer.stdout is not None
    freezer.stdout.readline()
    freezer.send_signal(signal.SIGSTOP)
    try:
        file = LogFile(tmp_path / "kai.log.jsonl", rotate_bytes=MIB, max_days=1)
        assert file.append(b"{}\n") == 3
    finally:
        freezer.kill()
        freezer.wait()


def test_a_file_of_an_earlier_day_is_put_aside_and_old_ones_go(tmp_path: Path) -> None:
    path = tmp_path / "kai.log.jsonl"
    path.write_text('{"timestamp":"2026-01-01T00:00:00.000000Z","event":"old"}\n')
    ancient = tmp_path / "kai-20250101T000000.000000Z.log.jsonl"
    ancient.write_text("{}\n")
    os.utime(ancient, (0, 0))
    other = tmp_path / "engine-20250101T000000.000000Z.log.jsonl"
    other.write_text("{}\n")
    file = LogFile(path, rotate_bytes=MIB, max_days=30)
    file.append(b'{"event":"new"}\n')
    assert path.read_text() == '{"event":"new"}\n'
    [aside] = rotated(path)
    assert '"old"' in aside.read_text()
    assert not ancient.exists()
    assert other.exists()


def test_somebody_elses_rotation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "kai.log.jsonl"
    file = LogFile(path, rotate_bytes=MIB, max_days=1)
    file.append(b"1\n")
    path.rename(tmp_path / "elsewhere")
    file.append(b"2\n")
    assert path.read_text() == "2\n"
    path.unlink()
    file.append(b"3\n")
    assert path.read_text() == "3\n"


FULL = """
import resource, signal, sys, time
from pathlib import Path
from persistence.logs import AgentLog, LogConfig, LogSink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sink = LogSink(LogConfig(queue=200), Path(sys.argv[1]) / "kai.log.jsonl")
log = AgentLog("a", sink=sink)
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))
for number in range(1000):
    log.info("counted", "x" * 100, attributes={"number": number})
    time.sleep(0.0005)
sink.flush(5)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.info("room_again")
deadline = time.monotonic() + 30
while not sink.flush() and time.monotonic() < deadline: time.sleep(0.05)
time.sleep(0.5); sink.close()
"""


def test_a_full_disk_stops_nobody_and_what_is_lost_is_counted(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], check=True, timeout=120)
    lines, torn = [], 0
    for raw in (tmp_path / "kai.log.jsonl").read_bytes().splitlines():
        try:
            lines.append(json.loads(raw))
        except ValueError:
            torn += 1
    numbers = [line["number"] for line in lines if line["event"] == "counted"]
    assert len(numbers) == len(set(numbers))
    lost = sum(line["count"] for line in lines if line["event"] == "lines_dropped")
    assert len(numbers) + lost == 1000
    assert lost > 0
    assert torn <= 2
    assert any(line["event"] == "room_again" for line in lines) or lost


def test_a_queue_that_is_full_counts_and_waits_for_nobody(tmp_path: Path) -> None:
    sink = LogSink(LogConfig(queue=100), tmp_path / "kai.log.jsonl")
    sink._write_some = lambda: time.sleep(0.01)  # type: ignore[method-assign]
    begun = time.perf_counter()
    for _ in range(10_000):
        sink.put("info", "a", "e", "s")
    assert time.perf_counter() - begun < 5
    assert sink.dropped >= 9_000


def test_a_line_that_another_process_could_not_end_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "kai.log.jsonl"
    file = LogFile(path, rotate_bytes=MIB, max_days=1)
    file.append(b'{"n":1}\n')
    with path.open("ab") as other:
        other.write(b'{"n":2,"tex')
    file.append(b'{"n":3}\n')
    assert path.read_bytes().splitlines() == [b'{"n":1}', b'{"n":2,"tex', b'{"n":3}']


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("what", ["key", "cycle", "deep", "stream", "object", "surrogate"])
def test_what_cannot_be_written_takes_nothing_else_with_it(sink: LogSink, what: str) -> None:
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    deep: Any = 1
    for _ in range(5_000):
        deep = [deep]
    fields: dict[str, Any] = {
        "key": {1: "x", None: "y"},
        "cycle": cycle,
        "deep": {"d": deep},
        "object": {"o": Hostile()},
        "surrogate": {"\ud800": "\ud800"},
    }
    stream: Any = {"stream": "a/b"}.get(what)
    sink.put("info", "a", "hostile", "s", stream=stream, fields=fields.get(what))
    sink.put("info", "a", "next", "s")
    assert sink.flush()
    assert [line["event"] for line in lines_of(sink.output)][-1] == "next"
    assert sink._thread.is_alive()


@pytest.mark.parametrize(
    "text",
    [
        'dsn "host=db password=abcdef" failed', 'GET "http://x/?token=abcdef"', '{"password": "abcdef"}', "PGPASSWORD=abcdef psql", "X-Api-Key: abcdef",
        "secret=abcdef", "pwd=abcdef", "passphrase: abcdef", "token: abcdef", "BEARER abcdefgh", "postgres://u:abc/d@ef@host/x", "first\nabcdefvalue",
    ],
)  # fmt: skip
def test_what_is_left_out_leaves_a_line_of_json(sink: LogSink, text: str) -> None:
    SHARED.register("abcdefvalue")
    sink.put("info", "a", "e", text, fields={"number": 1234567})
    assert sink.flush()
    [line] = lines_of(sink.output)
    assert "abcdef" not in line["summary"]
    assert "ef@host" not in line["summary"]
    assert line["number"] == 1234567


def test_what_was_said_before_the_vault_was_locked_is_cleaned_all_the_same(sink: LogSink) -> None:
    SHARED.register("hush-hush-4711")
    for _ in range(3000):
        sink.put("info", "a", "e", "it is hush-hush-4711")
    SHARED.forget_values()
    assert sink.flush()
    assert "hush-hush" not in sink.output.read_text()


def test_standard_error_is_cleaned_too() -> None:
    cleaned = redacting(None, "info", {"event": "x", "password": "hush", "note": "token=abcdefg", "deep": {"api_key": "hush"}})
    assert "hush" not in str(cleaned)
    assert "abcdefg" not in str(cleaned)


def test_a_file_that_was_cut_off_is_sent_from_its_beginning_and_said(tmp_path: Path) -> None:
    path = tmp_path / "kai.log.jsonl"
    path.write_bytes(b'{"n":1}\n' * 10)
    followed = Followed(path)
    assert followed.read()
    path.write_bytes(b'{"n":2}\n')
    again = Followed(path, inode=followed.inode, offset=followed.offset)
    assert again.is_lost
    assert Followed(path).read() == b'{"n":2}\n'


# Configuration


def test_the_configuration_is_that_of_the_specification(tmp_path: Path) -> None:
    (tmp_path / "logging.yaml").write_text(
        "logging:\n  level: info\n  output: /data/logs/kai.log.jsonl\n  max_days: 30\n  rotate_size_mb: 100\n"
    )
    config = read_log_config(tmp_path)
    assert config == LogConfig(output=Path("/data/logs/kai.log.jsonl"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("logging:\n  level: loud\n", "logging.level"),
        ("logging:\n  output: kai.txt\n", "log.jsonl"),
        ("logging:\n  max_days: 0\n", "logging.max_days"),
        ("logging:\n  colour: red\n", "is not known"),
        ("logging:\n  logstash: {host: x, port: 99999999}\n", "port"),
        ("logger:\n", "one section"),
    ],
)
def test_a_wrong_configuration_names_file_and_key(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "logging.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=problem) as refused:
        read_log_config(tmp_path)
    assert "logging.yaml" in refused.value.message


def test_it_is_read_again_while_the_process_works(tmp_path: Path) -> None:
    (tmp_path / "logging.yaml").write_text("logging:\n  level: error\n")
    sink = open_logs(tmp_path, tmp_path)
    log = AgentLog("a", sink=sink)
    log.info("too_early")
    (tmp_path / "logging.yaml").write_text(f"logging:\n  level: debug\n  output: {tmp_path}/other.log.jsonl\n")
    until(lambda: sink.lowest == 10)
    log.debug("heard")
    (tmp_path / "logging.yaml").write_text("logging:\n  level: nonsense\n")
    other = tmp_path / "other.log.jsonl"
    until(lambda: other.exists() and "configuration_refused" in other.read_text())
    log.debug("still_heard")
    assert sink.flush()
    sink.close()
    assert {"configuration_read", "heard", "configuration_refused", "still_heard"} <= {line["event"] for line in lines_of(other)}
    assert not (tmp_path / "logs" / "kai.log.jsonl").exists()


# Reading


def test_lines_are_found_by_agent_time_and_what_they_say(tmp_path: Path) -> None:
    sink = LogSink(LogConfig(level="debug", rotate_size_mb=0.005), tmp_path / "kai.log.jsonl")
    before = datetime.now(UTC)
    for number in range(200):
        AgentLog(f"kAI.{'dev' if number % 2 else 'ops'}.x", sink=sink, stream="engine" if number % 3 else None).log(
            "error" if number % 5 == 0 else "info", "e", str(number)
        )
        assert sink.flush()
    assert sink.flush()
    sink.close()
    assert rotated(tmp_path / "engine.log.jsonl")

    def found(**wanted: Any) -> list[int]:
        return [int(line["summary"]) for line in read_lines(log_files(tmp_path), LineFilter(**wanted))]

    assert found() == list(range(200))
    assert found(agent="kAI.dev.") == list(range(1, 200, 2))
    assert found(agent="kAI.dev") == []
    assert found(level="error") == list(range(0, 200, 5))
    assert found(since=before) == list(range(200))
    assert found(since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert found(text='"17"') == [17]
    assert [int(line["summary"]) for line in read_lines(log_files(tmp_path, "engine"), LineFilter())] == [
        n for n in range(200) if n % 3
    ]


def test_following_misses_nothing_over_rotations(tmp_path: Path) -> None:
    sink = LogSink(LogConfig(rotate_size_mb=0.01), tmp_path / "kai.log.jsonl")
    told = AgentLog("a", sink=sink)
    told.info("before")
    assert sink.flush()
    seen: list[str] = []
    over = threading.Event()

    def follow() -> None:
        for line in follow_lines(tmp_path, None, LineFilter(), over.is_set):
            seen.append(line["summary"])  # noqa: PERF401  the other thread looks at it meanwhile

    following = threading.Thread(target=follow, daemon=True)
    following.start()
    while not seen:
        told.info("e", "go")
        time.sleep(0.05)
    for number in range(500):
        told.info("e", str(number))
        if number % 50 == 0:
            assert sink.flush()
    until(lambda: "499" in seen)
    over.set()
    following.join()
    sink.close()
    assert [text for text in seen if text != "go"] == [str(number) for number in range(500)]
    assert len(rotated(sink.output)) > 2


# Logstash


class Receiver:
    """Takes lines by TCP; can go away and come back on its port."""

    def __init__(self, port: int = 0) -> None:
        self.lines: list[dict[str, Any]] = []
        lines = self.lines

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for raw in self.rfile:
                    if raw.endswith(b"\n"):
                        lines.append(json.loads(raw))

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", port), Handler)
        self._connections: list[socket.socket] = []
        accept = self._server.get_request

        def get_request() -> Any:
            connection, address = accept()
            self._connections.append(connection)
            return connection, address

        self._server.get_request = get_request  # type: ignore[method-assign]
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def go(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def test_a_receiver_that_is_away_misses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persistence.logs.shipping._FIRST_WAIT", 0.05)
    monkeypatch.setattr("persistence.logs.shipping._LONGEST_WAIT", 0.1)
    receiver = Receiver()
    sink = LogSink(LogConfig(rotate_size_mb=0.02), tmp_path / "kai.log.jsonl")
    log = AgentLog("a", sink=sink)
    target = LogstashConfig(host="127.0.0.1", port=receiver.port)
    shipper = Shipper(sink, target)

    def numbers() -> set[int]:
        return {line["number"] for line in taken if "number" in line}

    taken = receiver.lines
    for number in range(200):
        log.info("e", attributes={"number": number})
    until(lambda: numbers() == set(range(200)))
    receiver.go()
    for number in range(200, 1000):  # over several rotations
        log.info("e", attributes={"number": number})
        if number % 50 == 0:
            assert sink.flush()
    assert sink.flush()
    assert len(rotated(sink.output)) > 2
    until(lambda: any(line["event"] == "logstash_away" for line in lines_of(sink.output)))
    shipper.close()  # and the process that sent them ends, too
    again = Receiver(receiver.port)
    other = Shipper(sink, target)
    until(lambda: {line["number"] for line in [*receiver.lines, *again.lines] if "number" in line} == set(range(1000)))
    other.close()
    sink.close()
    again.go()


def test_one_process_sends_and_another_takes_over(tmp_path: Path) -> None:
    receiver = Receiver()
    sink = LogSink(LogConfig(), tmp_path / "kai.log.jsonl")
    target = LogstashConfig(host="127.0.0.1", port=receiver.port)
    first, second = Shipper(sink, target), Shipper(sink, target)
    for number in range(100):
        AgentLog("a", sink=sink).info("e", attributes={"number": number})
    until(lambda: len(receiver.lines) >= 100)
    first.close()
    AgentLog("a", sink=sink).info("e", attributes={"number": 100})
    until(lambda: any(line.get("number") == 100 for line in receiver.lines))
    assert sorted(line["number"] for line in receiver.lines if "number" in line) == list(range(101))
    second.close()
    sink.close()
    receiver.go()


def test_files_that_went_before_they_were_sent_are_said(tmp_path: Path) -> None:
    path = tmp_path / "kai.log.jsonl"
    path.write_text("{}\n")
    followed = Followed(path)
    assert followed.read() == b"{}\n"
    path.unlink()
    path.write_text("{}\n{}\n")
    assert followed.is_lost or followed.inode == path.stat().st_ino  # (a file system may give the same number again)
    assert resource.RLIMIT_FSIZE is not None


def test_lines_are_given_to_opentelemetry_where_it_is_asked_for(tmp_path: Path) -> None:
    from opentelemetry._logs import set_logger_provider
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

    kept = InMemoryLogRecordExporter()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(kept))
    set_logger_provider(provider)
    (tmp_path / "logging.yaml").write_text("logging:\n  otel: true\n")
    sink = open_logs(tmp_path, tmp_path)
    AgentLog("a", sink=sink).error("e", "it broke", attributes={"n": 1})
    assert sink.flush()
    sink.close()
    [record] = kept.get_finished_logs()
    assert record.log_record.body == "it broke"
    assert record.log_record.severity_text == "ERROR"
    assert record.log_record.attributes is not None
    assert record.log_record.attributes["agent"] == "a"
