"""What has to be done from time to time, by one worker of many."""

import asyncio
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from persistence.database.failures import DATABASE_ERRORS
from persistence.errors import ConfigurationError
from persistence.plane import Plane

_log = structlog.get_logger(__name__)

PURGE_BATCH: Final = 10_000

# Rebuilding a projection may take longer than an ordinary statement.
_NO_LIMIT = "SELECT set_config('statement_timeout', '0', true)"

# False when somebody else is at it.
_REFRESH = "SELECT persistence.refresh_projections(false)"

# Destroys sealed values that are past their time; how many.
_DESTROY = "SELECT persistence.destroy_over_secrets($1)"

# Deletes a batch of old published records; how many.
_PURGE = "SELECT persistence.purge_outbox($1, $2)"


@dataclass(frozen=True)
class Housekeeping:
    """interval: seconds between rounds; 0: never. retention: how long records of delivered effects stay; the log keeps what happened."""

    interval: float = 300.0
    retention: timedelta = timedelta(days=30)

    def __post_init__(self) -> None:
        if self.retention < timedelta(hours=1):
            raise ConfigurationError(
                f"retention: {self.retention} is less than an hour",
                hint="what was delivered within the hour is what is asked about most",
            )

    async def keep(self, plane: Plane) -> None:
        """A round every ``interval``, for ever."""
        if self.interval <= 0:
            return
        while True:
            await asyncio.sleep(self.interval * random.uniform(0.8, 1.2))
            try:
                await self.round(plane)
            except DATABASE_ERRORS as error:
                _log.warning("housekeeping_failed", error=str(error) or type(error).__name__)

    async def round(self, plane: Plane) -> int | None:
        """Refreshes the projections, destroys secrets that are over and purges the outbox. Returns how many records went; None when
        another process is at it.
        """
        purged: int = 0
        async with plane.pool.acquire() as connection, connection.transaction():
            await connection.execute(_NO_LIMIT)
            if not await connection.fetchval(_REFRESH):
                return None
        while True:
            async with plane.pool.acquire() as connection:
                if await connection.fetchval(_DESTROY, PURGE_BATCH) < PURGE_BATCH:
                    break
        while True:
            async with plane.pool.acquire() as connection:
                batch: int = await connection.fetchval(_PURGE, self.retention, PURGE_BATCH)
            purged += batch
            if batch < PURGE_BATCH:
                _log.info("housekeeping_done", purged=purged)
                return purged
