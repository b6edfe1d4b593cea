"""``python -m benchmarks.data``: posts a second, beside a loop by hand on the same disk, and questions to a large index."""

import argparse
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.big import percentile, say
from benchmarks.processes import Part, run_together
from benchmarks.server import BenchServer
from benchmarks.systems import plane


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk to be measured")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=1_000_000, help="in the index")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=options.folder, prefix=".bench-") as folder,
        BenchServer.started(Path(folder, "server")) as server,
    ):
        dsn = server.fresh("data")
        plane.prepare(dsn)
        rates: dict[str, list[float]] = defaultdict(list)
        for _ in range(options.rounds):
            _round(rates, dsn, folder, options.seconds)
        floor = statistics.median(rates["by hand: write, fsync, rename, fsync of the folder"])
        for name, found in rates.items():
            middle = statistics.median(found)
            say(
                f"{name}: {middle:,.0f}/s ({min(found):,.0f} to {max(found):,.0f}), {middle / floor:.2f} of the durable loop by hand"
            )
        _, [taken] = run_together([Part("data", "listing", {"folder": folder, "files": options.files, "rounds": 200})])
        for name, values in taken.items():
            say(
                f"{options.files:,} files, {name}: p50 {percentile(values, 0.5) * 1000:.2f}, p95 {percentile(values, 0.95) * 1000:.2f} ms"
            )


def _round(rates: dict[str, list[float]], dsn: str, folder: str, seconds: float) -> None:
    def alone(function: str, **arguments: Any) -> Any:
        _, [answer] = run_together([Part("data", function, {"folder": folder, "seconds": seconds, **arguments})])
        return answer

    def note(name: str, done: float) -> None:
        rates[name].append(done / seconds)
        say(f"  {name}: {done / seconds:,.0f}/s")

    note("by hand: write, fsync", alone("write_and_sync"))
    note("by hand: write, fsync, rename, fsync of the folder", alone("write_rename_and_sync"))
    for callers in (1, 16, 64, 256):
        note(f"library, {callers} callers", alone("put", callers=callers))
    done, recorded = alone("put_and_record", dsn=dsn, callers=64)
    note("library with recording, 64 callers", done)
    note("of them recorded by then", recorded)


if __name__ == "__main__":
    main()
