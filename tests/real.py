"""The real log, read for comparison."""

import gzip
from pathlib import Path
from typing import Any

from persistence.importing.xes import XesFile, XesTrace


def cases(path: Path) -> dict[str, list[tuple[str, str, str | None, Any]]]:
    """Activity, transition, resource and time of each event, by the name of the case, in order."""
    found = {}
    for trace in XesFile(path).traces():
        assert isinstance(trace, XesTrace), trace
        found[trace.name] = [(event.activity, event.lifecycle, event.resource, event.time) for event in trace.events]
    return found


def first_cases(source: Path, target: Path, count: int) -> None:
    """The beginning of a gzipped log as a log of its own."""
    left = count
    with gzip.open(source, "rt") as whole, gzip.open(target, "wt") as part:
        for line in whole:
            part.write(line)
            left -= "</trace>" in line
            if left == 0:
                break
        part.write("</log>")
