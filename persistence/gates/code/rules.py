"""The rules of FIT-PERSISTENCE-ABSTRACTION-001 for code, in the form of checks."""

from pathlib import Path
from typing import Final

from persistence.gates.checks import Check, Severity

SUITE: Final = "FIT-PERSISTENCE-ABSTRACTION-001"


def _rule(name: str, section: str, law: str, title: str, means: str, remedy: str, severity: Severity = "error") -> Check:
    return Check(SUITE, name, title, law, means, remedy, "", Path(__file__), section, severity)


RULES: Final[dict[str, Check]] = {
    rule.name: rule
    for rule in (
        _rule(
            "driver_import",
            "6.2",
            "CANON-PERSISTENCE-001 §6.1",
            "Only repositories import a database driver",
            "Code can reach the database past the repositories, and so past the tenant's first wall.",
            "Move it into a repository, or take a Transaction as argument.",
        ),
        _rule(
            "orm_session",
            "6.2",
            "CANON-PERSISTENCE-001 §6.1",
            "Only repositories hold an ORM's session or engine",
            "State can be changed without an event.",
            "Use plane.transaction; plane.bind joins a session that a repository holds.",
        ),
        _rule(
            "raw_sql",
            "6.2",
            "CANON-PERSISTENCE-001 §6.1",
            "Only repositories, queries and migrations contain SQL",
            "The statement is in no review of queries, and nothing holds it to its tenant.",
            "Move the statement into a repository or a read service.",
        ),
        _rule(
            "tenant_in_statement",
            "7.1",
            "CANON-PERSISTENCE-001 §4.6",
            "Every statement on a table of the plane names tenant_id",
            "The first wall is missing here: only row level security keeps tenants apart.",
            "Add tenant_id = $1 as the first condition.",
        ),
        _rule(
            "append_only_repository",
            "7.2",
            "CANON-EVENTS-001 §2.1",
            "A repository of events has no method that changes or deletes one",
            "Somebody will call it.",
            "Remove the method; append an event that corrects the state.",
        ),
        _rule(
            "outside_call",
            "7.4",
            "CANON-EVENTS-001 §4.1",
            "Orchestration code calls nothing outside: effects leave through the outbox",
            "The call happens though the transaction fails, or twice, and nothing records it.",
            "tx.effects.request(…), and make the call in a handler registered with @worker.handler.",
        ),
        _rule(
            "projection_in_decision",
            "7.5",
            "CANON-PERSISTENCE-001 §6.3",
            "Only read services ask a projection",
            "A decision is made on state that may be hours old.",
            "Read the runtime table in the transaction that decides: await tx.runs.get(…).",
        ),
        _rule(
            "allow_without_reason",
            "6.2",
            "CANON-PERSISTENCE-001 §6.1",
            "Every exception to a rule says why, and is needed",
            "Nobody will know whether the exception may go.",
            "# fit: allow RULE because …; delete the comment where the rule has nothing to say.",
        ),
        _rule(
            "unreadable",
            "6.2",
            "CANON-PERSISTENCE-001 §6.1",
            "Every file can be read",
            "Nothing is known about this file.",
            "Mend the syntax error, or exclude the file in pyproject.toml.",
        ),
    )
}
