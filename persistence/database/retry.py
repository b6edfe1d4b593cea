"""Trying again what failed for a passing reason."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from persistence.database.failures import DATABASE_ERRORS, is_transient, translated
from persistence.settings import Settings
from persistence.telemetry import RETRIES

T = TypeVar("T")

_FIRST_WAIT = 0.02
_LONGEST_WAIT = 2.0


async def retried(work: Callable[[], Awaitable[T]], settings: Settings) -> T:
    """Awaits ``work()``, again and again while it fails for a passing reason, with full jitter, for at most ``settings.retry_for`` seconds.

    What it raises in the end is one of this package's exceptions.
    """
    try:
        return await work()
    except DATABASE_ERRORS as error:
        if not is_transient(error):
            raise translated(error) from error
    except Exception as error:
        if not is_transient(error):
            raise
    RETRIES.inc()
    await asyncio.sleep(random.uniform(0, _FIRST_WAIT))
    attempts = AsyncRetrying(
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
        stop=stop_after_delay(settings.retry_for),
        before_sleep=lambda _: RETRIES.inc(),
        reraise=True,
    )
    try:
        return await attempts(work)
    except DATABASE_ERRORS as error:
        raise translated(error) from error


async def fetched(pool: asyncpg.Pool, settings: Settings, statement: str, *arguments: Any) -> Sequence[asyncpg.Record]:
    """The rows of one statement, on a connection of the pool, retried. For statements that may be repeated."""

    async def once() -> Sequence[asyncpg.Record]:
        async with pool.acquire() as connection:
            rows: Sequence[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return rows

    return await retried(once, settings)
