"""What is measured: each work in its own fresh database, with every system that can do it, in turn."""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import Part, run_together
from benchmarks.server import BenchServer

NAMES = {
    "plane": "persistence",
    "pgqueuer": "PgQueuer",
    "procrastinate_queue": "Procrastinate",
    "dbos_workflows": "DBOS",
    "eventsourcing_log": "eventsourcing",
    "pgqueuer_audited": "PgQueuer with audit rows",
    "by_hand": "the same record by hand",
    "bare": "bare queue by hand",
}


@dataclass
class Result:
    """Of one work and one system: what each round gave, in items a second, or in seconds of latency."""

    rates: list[float] = field(default_factory=list)
    wal: list[float] = field(default_factory=list)
    left_behind: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates) if self.rates else 0.0

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


Measure = Callable[[BenchServer, str, Result], None]


@dataclass(frozen=True)
class Work:
    """goal: the least ratio of this package to the best of ``against``; floor: the least to the same record written in SQL by hand."""

    title: str
    unit: str
    systems: Sequence[str]
    measure: Measure
    goal: float | None = None
    against: Sequence[str] = ()
    floor: float | None = None


def measured(server: BenchServer, system: str, parts: Callable[[str], Sequence[Part]], prepare: Callable[[str], None], result: Result,
             items: Callable[[list[Any]], float], seconds: float | None = None) -> None:  # fmt: skip
    """One round: a fresh database, made ready; then all parts at once."""
    database = f"bench_{system}"
    dsn = server.fresh(database)
    prepare(dsn)
    before = server.counters(database)
    took, answers = run_together(parts(dsn))
    after = server.counters(database)
    count = items(answers)
    result.rates.append(count / (seconds or took))
    result.wal.append((after.wal - before.wal) / count)
    result.left_behind.append((after.left_behind - before.left_behind) / count)


def prepared(system: str, dsn: str) -> None:
    run_function(system, "prepare", dsn=dsn)


def filled(system: str, count: int) -> Callable[[str], None]:
    def prepare(dsn: str) -> None:
        prepared(system, dsn)
        run_together([Part(system, "enqueue_batches", {"dsn": dsn, "count": count})])

    return prepare


def run_function(system: str, function: str, **arguments: Any) -> None:
    run_together([Part("runner", "call", {"system": system, "function": function, "arguments": arguments})])


def enqueue_one(callers: int, seconds: float) -> Measure:
    def measure(server: BenchServer, system: str, result: Result) -> None:
        arguments = {"callers": callers, "seconds": seconds}
        measured(
            server, system, lambda dsn: [Part(system, "enqueue_one", {"dsn": dsn, **arguments})],
            lambda dsn: prepared(system, dsn), result, lambda answers: float(answers[0]), seconds,
        )  # fmt: skip

    return measure


def enqueue_batches(counts: dict[str, int]) -> Measure:
    def measure(server: BenchServer, system: str, result: Result) -> None:
        count = counts.get(system, counts["*"])
        measured(
            server, system, lambda dsn: [Part(system, "enqueue_batches", {"dsn": dsn, "count": count})],
            lambda dsn: prepared(system, dsn), result, lambda _: float(count),
        )  # fmt: skip

    return measure


def drain(processes: int, counts: dict[str, int], function: str = "drain") -> Measure:
    def measure(server: BenchServer, system: str, result: Result) -> None:
        count = counts.get(system, counts["*"])
        chosen = function if system == "plane" else "drain"
        measured(
            server, system, lambda dsn: [Part(system, chosen, {"dsn": dsn})] * processes,
            filled(system, count), result, lambda _: float(count),
        )  # fmt: skip

    return measure


def append(events: int, callers: int, seconds: float) -> Measure:
    def measure(server: BenchServer, system: str, result: Result) -> None:
        arguments = {"events": events, "callers": callers, "seconds": seconds}
        measured(
            server, system, lambda dsn: [Part(system, "append", {"dsn": dsn, **arguments})],
            lambda dsn: prepared(system, dsn), result, lambda answers: float(answers[0] * events), seconds,
        )  # fmt: skip

    return measure


def runs(steps: int, callers: int, counts: dict[str, int]) -> Measure:
    def measure(server: BenchServer, system: str, result: Result) -> None:
        arguments = {"steps": steps, "callers": callers, "count": counts.get(system, counts["*"])}
        measured(
            server, system, lambda dsn: [Part(system, "runs", {"dsn": dsn, **arguments})],
            lambda dsn: prepared(system, dsn), result, lambda answers: float(answers[0]),
        )  # fmt: skip

    return measure


def latency(rate: float, seconds: float) -> Measure:
    """From the moment the producer hears of the commit to the moment the handler begins, on the machine's one monotonic clock."""

    def measure(server: BenchServer, system: str, result: Result) -> None:
        dsn = server.fresh(f"bench_{system}")
        prepared(system, dsn)
        with tempfile.TemporaryDirectory() as folder:
            begun, committed = Path(folder) / "begun", Path(folder) / "committed"
            run_together([
                Part(system, "handle", {"dsn": dsn, "path": str(begun), "seconds": seconds}),
                Part(system, "produce", {"dsn": dsn, "path": str(committed), "rate": rate, "seconds": seconds}),
            ])  # fmt: skip
            starts, commits = _times(begun), _times(committed)
        result.latencies.extend((starts[number] - commits[number]) / 1e9 for number in commits if number in starts)
        result.rates.append(len(starts) / seconds)

    return measure


def _times(path: Path) -> dict[int, int]:
    return {int(number): int(moment) for number, moment in (line.split() for line in path.read_text().splitlines())}


def all_works(*, quick: bool) -> list[Work]:
    """quick: a tenth of everything, to see that it runs."""
    share = 10 if quick else 1
    seconds = 1.0 if quick else 5.0
    slow = {"*": 60_000 // share, "procrastinate_queue": 3_000, "dbos_workflows": 1_000}
    queues = ("plane", "by_hand", "pgqueuer", "pgqueuer_audited", "procrastinate_queue", "dbos_workflows")
    queuer, sourcing, dbos = ("pgqueuer",), ("eventsourcing_log",), ("dbos_workflows",)
    log = ("plane", "by_hand", *sourcing)
    runs_of = ("plane", *dbos)
    return [
        Work("enqueue one, 1 caller", "entries/s", queues, enqueue_one(1, seconds), 1.2, queuer, 0.6),
        Work("enqueue one, 16 callers", "entries/s", queues, enqueue_one(16, seconds), 1.5, queuer, 0.6),
        Work("enqueue batches of 1,000", "entries/s", queues, enqueue_batches({**slow, "procrastinate_queue": 10_000}), None, (), 0.8),
        Work("drain, 1 process", "entries/s", tuple(s for s in queues if s != "by_hand"), drain(1, slow), 1.5, queuer),
        Work("drain, 2 processes", "entries/s", tuple(s for s in queues if s != "by_hand"), drain(2, slow), 1.5, queuer),
        Work("claim and settle in SQL, 2 processes", "entries/s", ("plane", "by_hand", "bare"), drain(2, {"*": 60_000 // share}, "claim_and_settle"), None, (), 0.6),
        Work("latency at 50 a second", "s", ("plane", *queuer), latency(50, 2 if quick else 20), None, queuer),
        Work("latency at 1,000 a second", "s", ("plane", *queuer), latency(1000, 2 if quick else 10), None, queuer),
        Work("append 1 event, 1 caller", "events/s", log, append(1, 1, seconds), 3.0, sourcing, 0.6),
        Work("append 1 event, 8 callers", "events/s", log, append(1, 8, seconds), 3.0, sourcing, 0.6),
        Work("append 1 event, 32 callers", "events/s", log, append(1, 32, seconds), 3.0, sourcing, 0.6),
        Work("append 10 events, 1 caller", "events/s", log, append(10, 1, seconds), 3.0, sourcing, 0.6),
        Work("append 10 events, 8 callers", "events/s", log, append(10, 8, seconds), 3.0, sourcing, 0.6),
        Work("append 10 events, 32 callers", "events/s", log, append(10, 32, seconds), 3.0, sourcing, 0.6),
        Work("one-step runs, 1 caller", "runs/s", runs_of, runs(1, 1, {"*": 2000 // share, "dbos_workflows": 500 // share})),
        Work("one-step runs, 16 callers", "runs/s", runs_of, runs(1, 16, {"*": 8000 // share, "dbos_workflows": 800 // share}), 8.0, dbos),
        Work("three-step runs, 16 callers", "runs/s", runs_of, runs(3, 16, {"*": 4000 // share, "dbos_workflows": 480 // share})),
    ]  # fmt: skip
