"""What a database error means: the one place where SQLSTATEs become this package's exceptions."""

import asyncio
import re
from typing import Final

import asyncpg

from persistence.errors import (
    AppendOnly,
    Conflict,
    DeliveryUnderway,
    Erased,
    IdempotencyMismatch,
    InvalidInput,
    InvalidTransition,
    LeaseLost,
    NotFound,
    PermissionDenied,
    PersistenceError,
    SecretUnavailable,
    ServerError,
    SignalKnown,
    TenantDenied,
    TooLarge,
    Unavailable,
    UnknownEventType,
    VaultDamaged,
)

_OWN: Final[dict[str, type[PersistenceError]]] = {
    "PE001": Conflict,
    "PE002": InvalidTransition,
    "PE003": NotFound,
    "PE004": IdempotencyMismatch,
    "PE005": TenantDenied,
    "PE006": TooLarge,
    "PE007": UnknownEventType,
    "PE008": InvalidInput,
    "PE009": SignalKnown,
    "PE010": DeliveryUnderway,
    "PE011": AppendOnly,
    "PE012": PermissionDenied,
    "PE013": SecretUnavailable,
    "PE014": Erased,
    "PE015": VaultDamaged,
    "PE016": LeaseLost,
}

_STANDARD: Final[dict[str, type[PersistenceError]]] = {
    "23502": InvalidInput,  # not_null_violation
    "23503": NotFound,  # foreign_key_violation: the row pointed to is not in this tenant
    "23505": Conflict,  # unique_violation
    "23514": InvalidInput,  # check_violation
    "22000": InvalidInput,  # data_exception: the driver cannot encode an argument
    "22001": InvalidInput,  # string_data_right_truncation
    "22003": InvalidInput,  # numeric_value_out_of_range
    "22008": InvalidInput,  # datetime_field_overflow
    "22009": InvalidInput,  # invalid_time_zone_displacement_value
    "22021": InvalidInput,  # character_not_in_repertoire
    "22P02": InvalidInput,  # invalid_text_representation
    "22P05": InvalidInput,  # untranslatable_character
    "42501": PermissionDenied,  # insufficient_privilege
    "3F000": ServerError,  # invalid_schema_name
    "42P01": ServerError,  # undefined_table
    "42883": ServerError,  # undefined_function
}

_WAITED: Final = {
    "55P03": "somebody else held what this needs for longer than lock_timeout",
    "57014": "the database took longer than statement_timeout",
}

_LOST_STATEMENTS: Final = frozenset({"26000", "42P05"})  # invalid_sql_statement_name, duplicate_prepared_statement

_TRANSIENT_STATES: Final = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "53300",  # too_many_connections
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
        "57P05",  # idle_session_timeout
        "25P03",  # idle_in_transaction_session_timeout
    }
)

_POINTS_NOWHERE: Final = re.compile(
    r"(?:runs|steps|tool_calls|effects|run_checkpoints|secrets|vault_accesses|memories|memory_recalls|memory_vectors)_(?P<column>\w+)_fkey$"
)

DATABASE_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    EOFError,
    asyncio.TimeoutError,
)
"""What the driver may raise."""


def is_transient(error: BaseException) -> bool:
    """Whether the same work may succeed when it is done again from its beginning, on a new connection if need be."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state in _TRANSIENT_STATES or state.startswith("08")
    if isinstance(error, asyncpg.InterfaceError):
        return "closed" in str(error) or "released" in str(error)
    return isinstance(error, OSError | EOFError | asyncio.TimeoutError | asyncpg.InternalClientError)


def translated(error: BaseException) -> PersistenceError:
    """The exception that a caller of this package gets for a database error."""
    if isinstance(error, PersistenceError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        kind = _OWN.get(state) or _STANDARD.get(state)
        hint = getattr(error, "hint", None)
        if kind is ServerError:
            return ServerError(f"the schema is not as expected: {error.args[0]}", hint="run: persistence migrate up")
        if found := _POINTS_NOWHERE.match(getattr(error, "constraint_name", None) or ""):
            return NotFound(
                f"{found['column']}_id: there is no such {found['column'].removeprefix('parent_')} in this tenant",
                hint="it belongs to another tenant, or to a transaction that was not committed",
                sqlstate=state,
                constraint=found[0],
            )
        if kind is not None:
            return kind(str(error.args[0]), hint=hint, sqlstate=state, constraint=getattr(error, "constraint_name", None))
        if state in _LOST_STATEMENTS:
            return ServerError(
                f"the server does not know the session's statements: {error.args[0]}",
                hint="behind a pooler in transaction mode set PERSISTENCE_TRANSACTION_POOLER=true",
                sqlstate=state,
            )
        if state in _WAITED:
            return Unavailable(_WAITED[state], hint="try again in a moment", sqlstate=state)
        if is_transient(error):
            return Unavailable(f"the database kept failing: {error.args[0]}", hint="try again later", sqlstate=state)
        return PersistenceError(f"{error.args[0]} [{state}]", hint=hint, sqlstate=state)
    if is_transient(error):
        return Unavailable(f"the database did not answer: {error or type(error).__name__}", hint="try again later")
    if "another operation is in progress" in str(error):
        return PersistenceError(
            "two commands of one transaction were under way at once",
            hint="await one after the other, or give each a transaction of its own",
        )
    return PersistenceError(f"{type(error).__name__}: {error}")
