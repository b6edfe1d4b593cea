"""Trying again what failed for a passing reason."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from persistence.database.failures import DATABASE_ERRORS, is_transient, translated
from persistence.settings import Settings

T = TypeVar("T")

_FIRST_WAIT = 0.02
_LONGEST_WAIT = 2.0


async def retried(work: Callable[[], Awaitable[T]], settings: Settings) -> T:
    """Awaits ``work()``, again and again while it fails for a passing reason, with full jitter, for at most ``settings.retry_for`` seconds.

    What it raises in the end is one of this package's exceptions.
    """
    attempts = AsyncRetrying(
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
        stop=stop_after_delay(settings.retry_for),
        reraise=True,
    )
    try:
        return await attempts(work)
    except DATABASE_ERRORS as error:
        raise translated(error) from error
