"""Calls a plain function of a system in this process."""

import importlib
from typing import Any

from benchmarks.processes import Gate


def call(system: str, function: str, arguments: dict[str, Any], gate: Gate) -> None:
    gate.wait()
    getattr(importlib.import_module(f"benchmarks.systems.{system}"), function)(**arguments)
