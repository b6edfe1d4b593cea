"""Processes of their own that need not import everything first: they are forked from one that has."""

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.processes_preload"])


def run_command(words: list[str], environment: dict[str, str], timeout: float) -> tuple[int, str, str]:
    """What ``persistence WORDS…`` came to: exit status, standard output, standard error."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = PROCESSES.Process(target=_command, args=(words, environment, str(out), str(err)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
        assert process.exitcode is not None
        return process.exitcode, out.read_text(), err.read_text()


def _command(words: list[str], environment: dict[str, str], *places: str) -> None:
    from persistence.cli import main

    os.environ.clear()
    os.environ.update(environment)
    for number, place in enumerate(places, start=1):
        file: Any = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    sys.argv = ["persistence", *words]
    main()
