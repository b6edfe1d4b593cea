"""Where data files are, and when they were collected.

``2026-01-21T10:00:00Z`` is the time of the first file that a scope gets in a second; those after it in that second have microseconds. Times are
in order as texts once their ``Z`` is taken off.
"""

import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from persistence.errors import MalformedData
from persistence.ingest.scopes import scope_to_path_segments

SUFFIX: Final = ".json"

_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT)(\d\d)([:-])(\d\d)\3(\d\d(?:\.\d{6})?Z)", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = 1_000_000


def check_collected_at(text: str) -> str:
    """The same, if it is a time of collection. Raises MalformedData."""
    found = _TIME.fullmatch(text)
    if found is None or found[3] != ":" or not _is_time(text):
        raise MalformedData(
            f"collectedAt: {text[:40]!r} is no time of collection", hint="such as 2026-01-21T10:00:00Z", field="collectedAt"
        )
    return text


def timestamp_to_filename(iso_timestamp: str) -> str:
    """``2026-01-21T10:00:00Z`` as ``2026-01-21T10-00-00Z``. Raises MalformedData for what is no time of collection."""
    return check_collected_at(iso_timestamp).replace(":", "-")


def filename_to_timestamp(filename: str) -> str:
    """``2026-01-21T10-00-00Z`` as ``2026-01-21T10:00:00Z``. Raises MalformedData for what names no data file."""
    found = _TIME.fullmatch(filename)
    if found is None or found[3] != "-":
        raise MalformedData(f"{filename[:40]!r} is no data file's name", hint="such as 2026-01-21T10-00-00Z")
    return check_collected_at(f"{found[1]}{found[2]}:{found[4]}:{found[5]}")


def build_scope_dir(base_dir: str | Path, scope: str) -> Path:
    """The folder of a scope."""
    return Path(base_dir, *scope_to_path_segments(scope))


def build_data_file_path(base_dir: str | Path, scope: str, collected_at: str) -> Path:
    """The place of a data file."""
    return build_scope_dir(base_dir, scope) / (timestamp_to_filename(collected_at) + SUFFIX)


def relative_path(scope: str, collected_at: str) -> str:
    """The same, from the tenant's data folder on; this is what the registry calls a file's path."""
    return f"{'/'.join(scope_to_path_segments(scope))}/{timestamp_to_filename(collected_at)}{SUFFIX}"


def generate_collected_at(now: datetime | None = None) -> str:
    """Now, or another moment, in UTC and whole seconds."""
    return f"{(now or datetime.now(UTC)).astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z"


class Stamps:
    """Times of collection, each later than the one before it, whatever the clock does."""

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        """clock: nanoseconds since 1970."""
        self._clock = clock
        self._lock = threading.Lock()
        self._last = 0
        self._second = 0
        self._begun: set[object] = set()

    def next(self, series: object) -> str:
        """The next time. series: what it is for; the first of a series in a second is in whole seconds."""
        with self._lock:
            moment = self._last = max(self._clock() // 1000, self._last + 1)
            second, rest = divmod(moment, _SECOND)
            if second != self._second:
                self._second, self._begun = second, set()
            is_first = series not in self._begun
            self._begun.add(series)
        whole = f"{_EPOCH + timedelta(seconds=second):%Y-%m-%dT%H:%M:%S}"
        # A fraction of nothing would name the moment that the first has.
        return f"{whole}Z" if is_first else f"{whole}.{max(rest, 1):06d}Z"


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
