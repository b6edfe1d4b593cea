"""How long to wait before the next attempt."""

from dataclasses import dataclass

from tenacity import RetryCallState, wait_random_exponential

from persistence.errors import ConfigurationError


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with full jitter: a random time between zero and ``base * 2 ** (attempt - 1)``, at most ``cap``, in seconds."""

    base: float = 1.0
    cap: float = 3600.0

    def __post_init__(self) -> None:
        for name in ("base", "cap"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise ConfigurationError(f"backoff: {name} is {value!r}", hint="give seconds: a number from 0 on")

    def delay(self, attempt: int) -> float:
        """Seconds to wait after attempt number ``attempt`` (1 for the first) failed."""
        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
        state.attempt_number = attempt
        return float(wait_random_exponential(multiplier=self.base, max=self.cap)(state))
