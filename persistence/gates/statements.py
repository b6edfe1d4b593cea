"""The statements that this package sends, and how PostgreSQL would go about them."""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

import psycopg

from persistence.database.pinned import connect_pinned
from persistence.database.tables import (
    DATA_KEYS,
    EFFECTS,
    MEMORIES,
    MEMORY_RECALLS,
    ORCHESTRATION_EVENTS,
    OUTBOX_EVENTS,
    RUN_CHECKPOINTS,
    RUNS,
    SECRETS,
    SIGNALS,
    SNAPSHOTS,
    STEPS,
    TOOL_CALLS,
    VAULT_ACCESSES,
)
from persistence.queries.runs import statements as run_lists
from persistence.repositories.rows import by_correlations, page_statement
from persistence.resources import PACKAGE

_SQL: Final = re.compile(r"\s*(SELECT|WITH|INSERT INTO|UPDATE|DELETE FROM)\s", re.IGNORECASE)
# Where statements are sent while work is done. Gates and migrations read everything by their nature.
_ROOMS: Final = (
    "transaction.py",
    "tenants.py",
    "dead_letters.py",
    "limits.py",
    "tokens.py",
    "secrets",
    "repositories",
    "queries",
    "outbox",
    "database/pool.py",
    "database/wake.py",
)


# What traces and services ask the repositories for.
_FILTERS: Final = {
    SIGNALS: ("correlation_id",),
    RUNS: ("correlation_id", "signal_id", "parent_run_id"),
    STEPS: ("run_id",),
    TOOL_CALLS: ("run_id", "step_id"),
    EFFECTS: ("run_id", "step_id"),
    RUN_CHECKPOINTS: ("run_id",),
    DATA_KEYS: ("subject",),
    SECRETS: ("name",),
    MEMORIES: ("agent", "run_id"),
    MEMORY_RECALLS: ("agent", "run_id"),
    SNAPSHOTS: ("snapshot_kind",),
    VAULT_ACCESSES: ("secret_id", "key_id"),
    OUTBOX_EVENTS: ("correlation_id", "aggregate_id", "idempotency_key"),
    ORCHESTRATION_EVENTS: ("correlation_id", "aggregate_id"),
}


@cache
def shipped_statements() -> Sequence[tuple[str, str]]:
    """Each statement with its place: the constants of the modules, and what the repositories build for common questions."""
    return [*_constants(), *_built()]


def _constants() -> Iterator[tuple[str, str]]:
    for room in _ROOMS:
        place = PACKAGE / room
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            module = ast.parse(path.read_text(encoding="utf-8"))
            for node in module.body:
                if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
                    text = node.value.value
                    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                    if isinstance(text, str) and _SQL.match(text) and isinstance(target, ast.Name):
                        yield f"{path.relative_to(PACKAGE)} {target.id}", text


def _built() -> Iterator[tuple[str, str]]:
    yield from run_lists().items()
    yield "events by correlations", by_correlations(ORCHESTRATION_EVENTS)
    for table, filters in _FILTERS.items():
        yield f"{table.name}, a page", page_statement(table)
        for name in filters:
            yield f"{table.name} by {name}", page_statement(table, name)


def plans(dsn: str, statements: Sequence[tuple[str, str]]) -> list[dict[str, str | None]]:
    """Where statements read a table from end to end although they were told not to if there is another way.

    Returns rows of statement, table_name, and error for a statement that cannot be planned.
    """
    found: list[dict[str, str | None]] = []
    # In a transaction: behind a pooler, what is set for a session is set for whoever comes next.
    with connect_pinned(dsn, autocommit=False) as connection:
        connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL search_path = persistence")
        for place, statement in statements:
            try:
                with connection.transaction():
                    # Without parameters of its own psycopg sends the text as it stands, placeholders and all: GENERIC_PLAN wants it so.
                    [[plan]] = connection.execute(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {statement}".encode()).fetchall()
            except psycopg.errors.InsufficientPrivilege:
                continue  # what this login may not send it does not send
            except psycopg.Error as error:
                found.append({"statement": place, "table_name": None, "error": str(error).strip().splitlines()[0]})
                continue
            found += [{"statement": place, "table_name": table, "error": None} for table in _whole_reads(plan[0]["Plan"])]
    return found


def _whole_reads(node: dict[str, Any]) -> Iterator[str]:
    if node["Node Type"] == "Seq Scan":
        yield node["Relation Name"]
    for child in node.get("Plans", ()):
        yield from _whole_reads(child)
