"""How values are said to people, on paper and on pages alike."""

from datetime import datetime
from typing import Any, Final

_GOOD: Final = frozenset({"COMPLETED", "EXECUTED", "PROCESSED", "PUBLISHED", "SAVED", "passed", "delivered"})
_BAD: Final = frozenset({"DEAD_LETTER", "FAILED", "REJECTED", "violated", "failed", "dead", "broken"})
_IDLE: Final = frozenset({"CANCELLED", "DISCARDED", "SKIPPED", "skipped", "cancelled", "discarded"})


def tone(status: str) -> str:
    """How a status sounds: good, bad, idle, or busy for what is under way."""
    return "good" if status in _GOOD else "bad" if status in _BAD else "idle" if status in _IDLE else "busy"


def clock(moment: datetime | None) -> str:
    """A moment to the millisecond."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}"


def duration(seconds: float | None, decimals: int = 1) -> str:
    """In the unit that fits. decimals: of hours and days."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.{decimals}f} h" if seconds < 172_800 else f"{seconds / 86_400:.{decimals}f} d"


def error_text(details: Any) -> str:
    """An error as ``Class: message``."""
    if not isinstance(details, dict):
        return "an error without details"
    text = ": ".join(str(details[name]) for name in ("type", "message") if details.get(name))
    return (text or "an error without details").rstrip(".")
