"""For each check a planted violation: what a superuser does, what the check must find, and what cures it.

All of it happens in one transaction that is rolled back. Plants among the rows are written with triggers and foreign keys silenced.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plant:
    """fault: SQL. finds: the objects that the check must name, exactly; SQL that returns them where it begins with SELECT.

    cure: SQL; None: taking the fault back. asks: the role that runs the check; None: the superuser. is_row: written past triggers and keys.
    """

    fault: str
    finds: str
    cure: str | None = None
    asks: str | None = "persistence_audit"
    is_row: bool = False
    cure_asks: str | None = "persistence_audit"


def row(fault: str, finds: str) -> Plant:
    """A fault among the rows."""
    return Plant(fault, finds, is_row=True)


def service(fault: str, finds: str, cure: str) -> Plant:
    """A fault that a service's login sees."""
    return Plant(fault, finds, cure, asks="persistence_service", cure_asks="persistence_service")
