"""``make bench``: everything, in turn, and what came of it. ``ARGS='--only drain --rounds 1'`` for a part."""

import argparse
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks import report
from benchmarks.server import BenchServer
from benchmarks.work import Result, all_works


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--only", default="", help="works whose title contains this")
    parser.add_argument("--system", action="append", help="only these systems (plane, pgqueuer, …)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see that it runs")
    parser.add_argument("--write", action="store_true", help="into RESULTS.md and chart.svg")
    options = parser.parse_args()
    works = [work for work in all_works(quick=options.quick) if options.only in work.title]
    results: dict[str, dict[str, Result]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder, BenchServer.started(Path(folder)) as server:
        for number in range(options.rounds):
            for work in works:
                for system in work.systems:
                    if options.system and system not in options.system:
                        continue
                    result = results[work.title].setdefault(system, Result())
                    try:
                        work.measure(server, system, result)
                    except (RuntimeError, ImportError) as error:
                        results[work.title].pop(system)
                        sys.stderr.write(f"{work.title}, {system}: {error}\n")
                        continue
                    said = f"{result.percentile(0.5) * 1000:.1f} ms" if work.unit == "s" else f"{result.rates[-1]:,.0f} {work.unit}"
                    sys.stderr.write(f"round {number + 1}: {work.title}, {system}: {said}\n")
        text = f"{report.circumstances(server.settings(), options.rounds)}\n\n{report.table(works, results)}"
    sys.stdout.write(text + "\n")
    if options.write:
        report.write(Path(__file__).parent, text, report.chart(works, results))


if __name__ == "__main__":
    main()
