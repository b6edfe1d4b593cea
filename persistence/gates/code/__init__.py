"""Reading code: whether services keep to their repositories, to the outbox and to the log.

A rule is silenced on one line, with a reason, by a comment there or on the line above: ``# fit: allow raw_sql because …``. Whole places are
named in pyproject.toml: ``[tool.persistence.fit] repositories = [...]`` for code that is made to speak to the database, ``exclude = [...]`` for
code that is not to be read. Both are glob patterns.
"""

from persistence.gates.code.rules import RULES, SUITE
from persistence.gates.code.scan import Places, scan

__all__ = ["RULES", "SUITE", "Places", "scan"]
