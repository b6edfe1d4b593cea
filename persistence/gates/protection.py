"""What no migration may take away (CANON-PERSISTENCE-001 §7.2), held against the schema that a migration leaves, before it is committed."""

from typing import Final

from sqlalchemy import Connection, text

from persistence.database.quoting import verbatim
from persistence.errors import LawBroken
from persistence.gates.checks import select, shipped_suites
from persistence.gates.fit import Options, check_variables

PROTECTED: Final = (
    "tenant_id_column",
    "audit_columns",
    "log_columns",
    "primary_keys",
    "keys_led_by_tenant",
    "mandatory_unique_keys",
    "rls_enabled",
    "rls_forced",
    "rls_policy",
    "log_privileges",
    "log_triggers",
    "public_functions",
)
"""The checks whose violation stops a migration."""


def check_protection(connection: Connection, revision: str) -> None:
    """Raises LawBroken, naming law, check and object, when the schema as it is now breaks what is protected."""
    variables = check_variables(Options())
    place = connection.execute(text("SELECT current_setting('search_path')")).scalar_one()
    connection.execute(text("SET LOCAL search_path = pg_catalog, pg_temp"))
    for check in select(shipped_suites(), PROTECTED):
        row = connection.execute(verbatim(check.statement(variables))).first()
        if row is not None:
            raise LawBroken(
                f"migration {revision} breaks {check.law} ({check.name}): {row.object}: {row.detail}", hint=check.remedy
            )
    connection.execute(text("SELECT set_config('search_path', :place, true)"), {"place": place})
