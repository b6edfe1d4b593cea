"""A superuser changes one character of one value, with every trigger and key silenced: a gate or the replay finds it.

That holds for each column of each table. Not for when a queued entry is due or died and who has leased it, nor for what workers remember of streams,
rates and destinations: that changes without events. Nor for how a vector is named and when it was made; its dimensions are held by a constraint. What is in the queue is held to the outbox by other checks.
"""

import random
from collections.abc import Iterator

import asyncpg
import pytest

from persistence.canon import CANON
from persistence.gates.checks import Check, shipped_suites
from persistence.gates.fit import Options, check_variables, violations_of

CHECKS = {check.name: check for check in shipped_suites() if check.login == "auditor"}
# Those that find most come first.
ORDER = [
    *(
        CHECKS[name]
        for name in ("event_digests", "state_is_the_fold", "memberships_recorded", "canon_as_shipped", "queued_entries_pending")
    ),
    *(check for check in CHECKS.values() if check.suite == "FIT-DATA-QUALITY-001"),
    # the identity is what the fixture takes away itself
    *(check for check in CHECKS.values() if check.suite == "FIT-ORCH-SCHEMA-001" and check.name != "sequence_identity"),
]
TRANSIENT = {
    "outbox_queue": {
        "due_at",
        "leased_until",
        "attempts",
        "lease_token",
        "leased_by",
        "held_by",
        "died_at",
        "is_counted",
        "created_at",
        "updated_at",
    },
    "run_queue": {
        "due_at",
        "leased_until",
        "attempts",
        "wakes",
        "lease_token",
        "leased_by",
        "held_by",
        "position",
        "created_at",
        "updated_at",
    },
    "outbox_limits": {"id", "tokens", "tokens_at", "created_at", "updated_at"},
    "outbox_streams": {*CANON.tables["outbox_streams"].columns},
    "outbox_marks": {*CANON.tables["outbox_marks"].columns},
    "outbox_destinations": {*CANON.tables["outbox_destinations"].columns},
    "consumers": {"holder", "epoch", "transaction_id", "sequence_number", "updated_at"},
    "live_feeds": {*CANON.tables["live_feeds"].columns},
    "live_messages": {*CANON.tables["live_messages"].columns},
    "memory_vectors": {"id", "dimensions", "created_at", "updated_at"},
}
COLUMNS = [
    *(
        (f"persistence.{table}", column)
        for table, contract in CANON.tables.items()
        for column in contract.columns
        if column not in TRANSIENT.get(table, ())
    ),
    *((f"canon.{table}", column) for table, rows in CANON.reference_rows().items() for column in (rows[0] if rows else ())),
    ("canon.log_epochs", "system_identifier"),
    ("canon.schema_version", "version_num"),
]


@pytest.fixture
async def unheld(superuser: asyncpg.Connection) -> asyncpg.Connection:
    """The superuser, with triggers, keys and identity silenced."""
    await superuser.execute("SET LOCAL session_replication_role = replica")
    await superuser.execute("ALTER TABLE persistence.orchestration_events ALTER COLUMN sequence_number DROP IDENTITY")
    return superuser


def neighbours(text: str, chance: random.Random) -> Iterator[str]:
    """The same text with one character changed: digits to digits, letters to letters."""
    if text in {"true", "false"}:
        yield "false" if text == "true" else "true"
        return
    places = [place for place, character in enumerate(text) if character.isascii() and character.isalnum()]
    for place in chance.sample(places, len(places)):
        character = text[place]
        other = chr(ord(character) ^ 1)
        if other.isalnum() and other.isdigit() == character.isdigit():
            yield text[:place] + other + text[place + 1 :]


async def change_one_character(connection: asyncpg.Connection, table: str, column: str) -> bool:
    """False where no row has a value that could be changed, or a constraint lets none of its neighbours in."""
    chance = random.Random(f"{table}.{column}")
    rows = await connection.fetch(f"SELECT ctid::text, {column}::text AS value FROM {table} WHERE {column} IS NOT NULL")
    kind = await connection.fetchval(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = $2",
        table,
        column,
    )
    for row in chance.sample(list(rows), len(rows)):
        for value in neighbours(row["value"], chance):
            try:
                async with connection.transaction():
                    before = await connection.fetchval(
                        f"SELECT {column}::text FROM {table} WHERE ctid = $1::text::tid", row["ctid"]
                    )
                    after = await connection.fetchval(
                        f"UPDATE {table} SET {column} = $2::text::{kind} WHERE ctid = $1::text::tid RETURNING {column}::text",
                        row["ctid"],
                        value,
                    )
                if after != before:
                    return True
            except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.PostgresSyntaxError):
                continue
    return False


async def is_found(connection: asyncpg.Connection) -> Check | None:
    options = Options(limit=1)
    variables = check_variables(options)
    for check in ORDER:
        attempt = connection.transaction()
        await attempt.start()
        try:
            await connection.execute("SET LOCAL ROLE persistence_audit")
            if await violations_of(connection, check, variables, options):
                return check
        except asyncpg.PostgresError:
            return check  # a log that cannot even be folded
        finally:
            await attempt.rollback()
    return None


@pytest.mark.parametrize(("table", "column"), COLUMNS)
async def test_one_changed_character_is_found(unheld: asyncpg.Connection, table: str, column: str) -> None:
    if await change_one_character(unheld, table, column):
        assert await is_found(unheld) is not None
    else:
        values = {row[0] for row in await unheld.fetch(f"SELECT {column}::text FROM {table} WHERE {column} IS NOT NULL")}
        assert values <= {"{}", "EFFECT", "service", "worker", "operator", "plane", "unique", "foreign key", "index", "reader"}
