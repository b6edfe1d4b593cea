"""How long to wait before the next attempt."""

from dataclasses import dataclass

from tenacity import RetryCallState, wait_random_exponential


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with full jitter: a random time between zero and ``base * 2 ** (attempt - 1)``, at most ``cap``, in seconds."""

    base: float = 1.0
    cap: float = 3600.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait after attempt number ``attempt`` (1 for the first) failed."""
        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
        state.attempt_number = attempt
        return float(wait_random_exponential(multiplier=self.base, max=self.cap)(state))
