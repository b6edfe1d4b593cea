"""``python -m benchmarks.big --events 10000000``: whether cost stays flat, and how long common questions take, on a long log."""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.processes import Part, run_together
from benchmarks.server import BenchServer
from benchmarks.systems import plane

WRITERS = 16


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(share * len(values))]


def alone(function: str, **arguments: Any) -> tuple[float, Any]:
    took, [answer] = run_together([Part("plane", function, arguments)], timeout=7200)
    return took, answer


def rates(dsn: str, rounds: int) -> tuple[float, float]:
    """Appends of one event by 32 callers, and a drain of 30,000 entries by one process, a second."""
    appended, drained = [], []
    for _ in range(rounds):
        appended.append(alone("append", dsn=dsn, events=1, callers=32, seconds=5)[1] / 5)
        alone("enqueue_batches", dsn=dsn, count=30_000)
        took, done = alone("drain", dsn=dsn)
        drained.append(done / took)
    return statistics.median(appended), statistics.median(drained)


def compare(small: tuple[float, float], big: tuple[float, float]) -> None:
    for what, before, after in zip(("append, 32 callers", "drain, 1 process"), small, big, strict=True):
        say(f"{what}: {before:,.0f} a second in an empty database, {after:,.0f} in this one: {after / before:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.big")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, BenchServer.started(Path(folder)) as server:
        small, big = server.fresh("small"), server.fresh("big")
        for dsn in (small, big):
            plane.prepare(dsn)
        took, _ = run_together([Part("plane", "fill_events", {"dsn": big, "count": options.events // 2})] * 2, timeout=7200)
        say(f"{options.events:,} events written in {took:,.0f} s: {options.events / took:,.0f} a second, by two processes")
        if options.rounds:
            compare(rates(small, options.rounds), rates(big, options.rounds))
        for what, part, rounds in (("", "query_latencies", 200), ("page of the console, ", "page_latencies", 50)):
            for name, values in alone(part, dsn=big, rounds=rounds)[1].items():
                say(f"{what}{name}: p50 {percentile(values, 0.5) * 1000:.1f}, p95 {percentile(values, 0.95) * 1000:.1f} ms")
        _, taken = alone("append_latencies", dsn=big, callers=WRITERS, seconds=15)
        say(
            f"append of one event, {WRITERS} writers as fast as they can: {len(taken) / 15:,.0f} a second; "
            f"p50 {percentile(taken, 0.5) * 1000:.1f}, p95 {percentile(taken, 0.95) * 1000:.1f}, p99 {percentile(taken, 0.99) * 1000:.1f} ms"
        )


if __name__ == "__main__":
    main()
