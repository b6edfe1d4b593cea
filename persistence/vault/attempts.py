"""Wrong passphrases are slowed: after the first one second, after the second two, then four, up to five minutes, whichever process asks.

One attempt is made at a time on a machine. It counts as failed before it is made, so that nobody gains by being killed in the middle of it. Who can
write the vault's folder can take this away, and does not need it: such a one can try copies of the file elsewhere. What holds then is the derivation.
"""

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from persistence.errors import UnlockRefused
from persistence.workspaces.jail import FILE_MODE

LONGEST_WAIT: Final = 300.0
_BLIND_WAIT: Final = 1.0  # before an attempt that cannot be counted
_NAME: Final = "attempts.json"


class TooSoon(UnlockRefused):
    """Nothing was tried: one has to wait."""


@dataclass
class Attempts:
    """failures: since the last that succeeded. last_step: the newest one-time code that was used."""

    failures: int = 0
    failed_at: float = 0.0
    last_step: int = 0

    @property
    def wait(self) -> float:
        """Seconds to wait before the next."""
        if not self.failures:
            return 0.0
        since = max(0.0, time.time() - self.failed_at)
        return max(0.0, min(LONGEST_WAIT, 2.0 ** min(self.failures - 1, 20)) - since)


@contextmanager
def attempting(folder: Path) -> Iterator[Attempts]:
    """One attempt. It counts as failed unless the block sets ``failures`` to 0. To be used while the vault's file is ``locked``.

    Raises TooSoon while there is still to be waited.
    """
    path = folder / _NAME
    attempts = _read(path)
    if attempts.wait > 0:
        raise TooSoon(
            f"{attempts.failures} attempts to open the vault failed; the next may be made in {attempts.wait:.0f} s",
            hint="wait, then try again",
        )
    attempts.failures += 1
    attempts.failed_at = time.time()
    if not _write(path, attempts):
        time.sleep(_BLIND_WAIT)
    try:
        yield attempts
    finally:
        if not attempts.failures:
            _write(path, attempts)


def _read(path: Path) -> Attempts:
    """What is planted there counts as one attempt that failed now."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            said = json.loads(file.read(4096))
        found = Attempts(int(said["failures"]), float(said["failed_at"]), int(said["last_step"]))
    except FileNotFoundError:
        return Attempts()
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        found = Attempts(failures=1, failed_at=math.nan)
    now = time.time()
    if not now - 10 * 365 * 86_400 < found.failed_at < now + LONGEST_WAIT:  # a clock that was set back makes nobody wait for ever
        found.failed_at = _modified(path, now)
    return found


def _modified(path: Path, now: float) -> float:
    try:
        return min(now, path.lstat().st_mtime)
    except OSError:
        return now


def _write(path: Path, attempts: Attempts) -> bool:
    """False where it cannot be written: the disk is full, or not to be written. The vault has to open all the same."""
    new = path.with_suffix(".new")
    try:
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "w") as file:
            json.dump(asdict(attempts), file)
        new.replace(path)
    except OSError:
        return False
    return True
