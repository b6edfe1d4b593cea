"""``python -m benchmarks.http``: requests a second that the service answers, and how long they take."""

import argparse
import statistics
import tempfile
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.big import say
from benchmarks.processes import Part, run_together
from benchmarks.server import BenchServer
from benchmarks.systems import plane

WORKS = (("signals", 1), ("signals", 16), ("signals", 64), ("data", 1), ("data", 64), ("data", 256))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk to be measured")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="signals or data")
    options = parser.parse_args()
    found: dict[tuple[str, int], list[tuple[float, float, float, float]]] = defaultdict(list)
    with (
        tempfile.TemporaryDirectory(dir=options.folder, prefix=".bench-") as folder,
        BenchServer.started(Path(folder, "server")) as server,
    ):
        dsn = server.fresh("http")
        plane.prepare(dsn)
        for _ in range(options.rounds):
            for what, callers in WORKS:
                if options.only in what:
                    found[what, callers].append(_round(dsn, folder, what, callers, options.seconds))
    for (what, callers), rounds in found.items():
        rates, middles, lates, recorded = zip(*rounds, strict=True)
        said = f", {statistics.median(recorded):,.0f} of them on the record a second later" if what == "data" else ""
        say(
            f"{what}, {callers} connections: {statistics.median(rates):,.0f} a second ({min(rates):,.0f} to {max(rates):,.0f}), "
            f"p50 {statistics.median(middles) * 1000:.1f}, p99 {statistics.median(lates) * 1000:.1f} ms{said}"
        )


def _round(dsn: str, folder: str, what: str, callers: int, seconds: float) -> tuple[float, float, float, float]:
    port_file = str(Path(folder, uuid.uuid4().hex))
    together = [
        Part("http", "service", {"dsn": dsn, "folder": folder, "port_file": port_file, "seconds": seconds}),
        Part("http", "clients", {"port_file": port_file, "what": what, "callers": callers, "seconds": seconds}),
    ]
    answers: list[Any]
    _, answers = run_together(together)
    waiting, (posted, middle, late) = answers
    say(f"  {what}, {callers} connections: {posted / seconds:,.0f}/s, p50 {middle * 1000:.1f}, p99 {late * 1000:.1f} ms")
    return posted / seconds, middle, late, (posted - waiting) / seconds


if __name__ == "__main__":
    main()
