"""What an export wrote, and writing a file whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class ExportReport:
    """cases: runs. events: entries of the file. objects: for OCEL, how many."""

    path: Path
    cases: int = 0
    events: int = 0
    objects: int = 0


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place beside ``path`` to write to: it takes the path's name once all is written, and goes if that fails."""
    place = path.with_name(f".{path.name}.part")
    place.unlink(missing_ok=True)
    try:
        yield place
        place.replace(path)
    finally:
        place.unlink(missing_ok=True)
