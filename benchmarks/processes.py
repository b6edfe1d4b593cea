"""Running a part of a measurement in a process of its own, with the interpreter's fastest event loop.

A child says ``ready`` when it is set up, waits for a line, works, and ends with a line of JSON.
"""

import importlib
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import uvloop


@dataclass(frozen=True)
class Part:
    """A function of a module in ``benchmarks.systems``, with what it is given. Coroutines run on uvloop."""

    system: str
    function: str
    arguments: dict[str, Any]


def run_together(parts: Sequence[Part], timeout: float = 900) -> tuple[float, list[Any]]:
    """Starts all parts at the same moment. Seconds until the last has ended, and what each returned."""
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.processes", part.system, part.function, json.dumps(part.arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for part in parts
    ]  # fmt: skip
    try:
        for child in children:
            _line_that_begins_with(child, "ready")
        begun = time.monotonic()
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        answers = [json.loads(_line_that_begins_with(child, "done ").removeprefix("done ")) for child in children]
        took = time.monotonic() - begun
        for child in children:
            child.wait(timeout)
        return took, answers
    finally:
        for child in children:
            child.kill()


def _line_that_begins_with(child: "subprocess.Popen[str]", beginning: str) -> str:
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith(beginning):
            return line.strip()
    raise RuntimeError(f"a part of the benchmark ended early, with status {child.wait()}")


class Gate:
    """What a part calls when it is set up: it goes on when all are."""

    def wait(self) -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()


def main() -> None:
    system, function, arguments = sys.argv[1:]
    work = getattr(importlib.import_module(f"benchmarks.systems.{system}"), function)
    given = {**json.loads(arguments), "gate": Gate()}
    answer = uvloop.run(work(**given)) if inspect.iscoroutinefunction(work) else work(**given)
    os.set_blocking(sys.stdout.fileno(), True)  # the event loop may have made it otherwise
    sys.stdout.write(f"done {json.dumps(answer)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
