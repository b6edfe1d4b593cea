"""Keeping what came of the gates: how many objects each check found, for consoles and metrics."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from persistence.database.failures import DATABASE_ERRORS, translated
from persistence.database.pool import connected
from persistence.encoding import encode
from persistence.gates.fit import Options, Outcome
from persistence.gates.reach import Reach
from persistence.settings import Settings

# Records a run of the gates.
_RECORD: Final = "SELECT persistence.record_gates($1::text::jsonb, $2)"


async def record(
    dsn: str,
    settings: Settings,
    outcomes: Sequence[Outcome],
    options: Options,
    *,
    seconds: float,
    actor: str,
    reach: Reach | None = None,
) -> None:
    """Records a run, without what was found: that may be of any tenant. dsn: a login with persistence_auditor.

    seconds: how long the run took. reach: what it has seen; None: not all. Raises one of this package's exceptions.
    """
    try:
        async with connected(dsn, settings) as connection:
            await connection.execute(_RECORD, encode(_findings(outcomes, options, seconds, reach)), actor)
    except DATABASE_ERRORS as error:
        raise translated(error) from error


def _findings(outcomes: Sequence[Outcome], options: Options, seconds: float, reach: Reach | None) -> dict[str, Any]:
    return {
        "checks": [
            {
                "id": outcome.check.id,
                "verdict": outcome.verdict,
                "severity": outcome.check.severity,
                "violations": len(outcome.violations),
                "more": outcome.more,
                "seconds": round(outcome.seconds, 3),
            }
            for outcome in outcomes
        ],
        "seconds": round(seconds, 3),
        "since": options.since.isoformat() if options.since else None,
        "sample": options.sample,
        **({"reach": asdict(reach)} if reach else {}),
    }
