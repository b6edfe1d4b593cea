"""How the database stood when it was last held to the law."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from persistence.encoding import decode
from persistence.models import Model
from persistence.transaction import Transaction

# What came of the last run of the gates.
LAST_GATES = "SELECT g.findings::text AS findings, g.ran_at, g.actor FROM persistence.last_gates() AS g"


class CheckResult(Model):
    """violations: how many objects broke the law, as far as they were counted (more: there were others)."""

    id: str
    verdict: str
    severity: str
    violations: int
    more: bool = False
    seconds: float


class GatesRun(Model):
    """A run of the gates. since, sample: what expensive checks confined themselves to."""

    ran_at: datetime
    actor: str
    seconds: float
    since: datetime | None = None
    sample: float = 100.0
    checks: Sequence[CheckResult]

    @property
    def broken(self) -> Sequence[CheckResult]:
        """Checks that found something, or could not be run."""
        return [check for check in self.checks if check.verdict in {"violated", "failed"}]

    @property
    def is_lawful(self) -> bool:
        """Whether no check of severity ``error`` found anything, and all were run."""
        return not any(check.verdict == "failed" or check.severity == "error" for check in self.broken)


def gates_run(rows: Sequence[Any]) -> GatesRun | None:
    """The run that LAST_GATES found; None: there was none."""
    return GatesRun(**decode(rows[0]["findings"]), ran_at=rows[0]["ran_at"], actor=rows[0]["actor"]) if rows else None


async def last_gates(tx: Transaction) -> GatesRun | None:
    """The last run that was recorded; None: there is none."""
    return gates_run(await tx.fetch(LAST_GATES))
