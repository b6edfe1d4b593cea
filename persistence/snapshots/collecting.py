"""What a snapshot holds: the events of what it is of, the rows that they made, and what is drawn from these for people and agents."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import orjson

from persistence.database.quoting import naming
from persistence.models import Position
from persistence.snapshots.lines import parsed
from persistence.snapshots.manifest import Kind
from persistence.transaction import Transaction

TABLES: Final = {
    "SIGNAL": "signals",
    "RUN": "runs",
    "STEP": "steps",
    "TOOL_CALL": "tool_calls",
    "MEMORY": "memories",
    "MEMORY_RECALL": "memory_recalls",
    "EFFECT": "effects",
    "CHECKPOINT": "run_checkpoints",
}
"""Kinds of aggregates, and the tables of their rows, in the order in which one may need the other."""

WINDOW: Final = 50
"""So many entries has a memory window."""

_BATCH: Final = 2_000
_SAID: Final = {
    "SIGNAL_RECEIVED": ("received", ("signal_type", "payload")),
    "STEP_COMPLETED": ("answered", ("output_result",)),
    "STEP_RECORDED": ("answered", ("step_type", "input_data", "output_result")),
    "TOOL_CALL_STARTED": ("asked a tool", ("tool_name", "tool_args")),
    "TOOL_CALL_COMPLETED": ("was told by a tool", ("tool_result",)),
    "RUN_STARTED": ("began", ("run_type", "input_data")),
    "RUN_COMPLETED": ("ended", ("output_result",)),
    "RUN_FAILED": ("failed", ("error_details",)),
}

# The position up to which this database snapshot sees everything, and the present epoch.
_POSITION: Final = """
SELECT
  persistence.log_epoch() AS epoch,
  coalesce(e.transaction_id::text, '0') AS transaction_id,
  coalesce(e.sequence_number, 0) AS sequence_number
FROM (VALUES (1)) AS one
LEFT JOIN LATERAL (
  SELECT e.transaction_id, e.sequence_number
  FROM persistence.orchestration_events AS e
  WHERE e.tenant_id = $1
    AND e.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
  ORDER BY e.transaction_id DESC, e.sequence_number DESC
  LIMIT 1
) AS e ON true
"""

# Events after a position, as they stand in the log, so many.
_SINCE: Final = """
SELECT
  e.id, e.transaction_id::text AS transaction_id, e.sequence_number, e.event_type, e.aggregate_type, e.aggregate_id, e.correlation_id, e.actor,
  CASE WHEN e.event_type = 'CHECKPOINT_SAVED' THEN (e.event_data ->> 'run_id')::uuid END AS run_id,
  (to_jsonb(e) - 'tenant_id')::text AS document
FROM persistence.orchestration_events AS e
WHERE e.tenant_id = $1
  AND (e.transaction_id, e.sequence_number) > ($2::text::xid8, $3)
ORDER BY e.transaction_id, e.sequence_number
LIMIT $4
"""

# Events of stories.
_STORIES: Final = """
SELECT
  e.id, e.transaction_id::text AS transaction_id, e.sequence_number, e.event_type, e.aggregate_type, e.aggregate_id, e.correlation_id, e.actor,
  CASE WHEN e.event_type = 'CHECKPOINT_SAVED' THEN (e.event_data ->> 'run_id')::uuid END AS run_id,
  (to_jsonb(e) - 'tenant_id')::text AS document
FROM persistence.orchestration_events AS e
WHERE e.tenant_id = $1
  AND e.correlation_id = ANY ($2::uuid[])
ORDER BY e.sequence_number
"""

_ROWS: Final = """
SELECT r.id, (to_jsonb(r) - 'tenant_id')::text AS document
FROM persistence.{table} AS r
WHERE r.tenant_id = $1
  AND r.id = ANY ($2::uuid[])
ORDER BY r.id
"""
# The same of checkpoints, with their states as they were saved: the digest is over their text.
_CHECKPOINTS: Final = """
SELECT r.id, (to_jsonb(r) - 'tenant_id' || jsonb_build_object('state', r.state::text))::text AS document
FROM persistence.run_checkpoints AS r
WHERE r.tenant_id = $1
  AND r.id = ANY ($2::uuid[])
ORDER BY r.id
"""

# Runs, each with the last state that was saved of it.
_CONTEXT: Final = """
SELECT jsonb_build_object(
  'id', r.id, 'run_type', r.run_type, 'status', r.status, 'wait_reason', r.wait_reason, 'checkpoint_id', s.id, 'state', s.state
)::text AS document
FROM persistence.runs AS r
LEFT JOIN LATERAL (
  SELECT c.id, c.state
  FROM persistence.run_checkpoints AS c
  WHERE c.tenant_id = $1
    AND c.run_id = r.id
    AND c.status = 'SAVED'
  ORDER BY c.id DESC
  LIMIT 1
) AS s ON true
WHERE r.tenant_id = $1
  AND r.id = ANY ($2::uuid[])
ORDER BY r.id
"""


@dataclass
class Collected:
    """position: of the log. members: by name, the bytes; rows: how many lines in each. events: how many are new."""

    position: Position
    members: dict[str, bytes] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    events: int = 0

    def add(self, name: str, lines: Sequence[str]) -> None:
        self.members[name] = "".join(f"{line}\n" for line in lines).encode()
        self.rows[name] = len(lines)

    def add_document(self, name: str, document: Any) -> None:
        self.members[name] = orjson.dumps(document, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        self.rows[name] = 1


async def collect(
    tx: Transaction,
    kind: Kind,
    subject: str | None,
    since: Position | None,
    known: Iterable[UUID],
    reminded: Sequence[dict[str, Any]],
) -> Collected:
    """What there is since a position; everything where that is None. known: correlations that a snapshot of an agent has already.
    reminded: its memory window.

    subject: of a conversation its correlation id, as Subject has it. tx: a snapshot, so that all that is read is of one state.
    """
    tenant_id = tx.context.tenant_id
    [at] = await tx.fetch(_POSITION, tenant_id)
    found = Collected(Position(epoch=at["epoch"], transaction_id=int(at["transaction_id"]), sequence_number=at["sequence_number"]))
    known = set(known)
    correlations = set(known)
    if kind == "conversation":
        correlations = {UUID(str(subject))}
        events = [e for e in await tx.fetch(_STORIES, tenant_id, list(correlations)) if _is_after(e, since)]
    else:
        events = await _since(tx, since)
        if kind == "agent":
            new = {e["correlation_id"] for e in events if e["actor"] == subject} - correlations
            stories = await tx.fetch(_STORIES, tenant_id, list(new)) if new and since is not None else []
            correlations |= new
            events = [e for e in events if e["correlation_id"] in correlations]
            events = list({e["id"]: e for e in (*stories, *events)}.values())
            events.sort(key=lambda e: e["sequence_number"])
    found.events = len(events)
    found.add("events.jsonl", [e["document"] for e in events])
    for aggregate, table in TABLES.items():
        ids = sorted({e["aggregate_id"] for e in events if e["aggregate_type"] == aggregate})
        lines: list[str] = []
        statement = _CHECKPOINTS if aggregate == "CHECKPOINT" else naming(_ROWS, table=table)
        for place in range(0, len(ids), _BATCH):
            lines += [row["document"] for row in await tx.fetch(statement, tenant_id, ids[place : place + _BATCH])]
        found.add(f"{table}.jsonl", lines)
    if kind != "tenant":
        found.add("context.jsonl", await _context(tx, events))
        window = _memory_window(events, subject if kind == "agent" else None)
        found.add_document("memory_window.json", [*reminded, *window][-WINDOW:])
    if kind == "agent":
        found.add("correlations.jsonl", [f'{{"id": "{item}"}}' for item in sorted(correlations - known)])
    return found


async def _context(tx: Transaction, events: Sequence[Any]) -> list[str]:
    """Each run that something happened to: its status, and the last state that was saved of it, as PostgreSQL writes it."""
    ids = {e["aggregate_id"] for e in events if e["aggregate_type"] == "RUN"} | {
        e["run_id"] for e in events if e["run_id"] is not None
    }
    wanted = sorted(ids)
    lines: list[str] = []
    for place in range(0, len(wanted), _BATCH):
        lines += [row["document"] for row in await tx.fetch(_CONTEXT, tx.context.tenant_id, wanted[place : place + _BATCH])]
    return lines


def _memory_window(events: Sequence[Any], agent: str | None) -> list[dict[str, Any]]:
    """The last entries of a story, as an agent would be reminded of it: when, who, what, and what was said."""
    window = []
    for row in [e for e in events if e["event_type"] in _SAID][-WINDOW:]:
        what, keys = _SAID[row["event_type"]]
        event = parsed(row["document"])
        data = event.get("event_data", event)  # or why it cannot be read
        window.append(
            {
                "at": event.get("occurred_at"),
                "actor": row["actor"],
                "what": what,
                "content": {key: data[key] for key in (*keys, "unreadable") if key in data},
                "event_id": str(row["id"]),
                "own": row["actor"] == agent,
            }
        )
    return window


async def _since(tx: Transaction, since: Position | None) -> list[Any]:
    after = since or Position()
    transaction_id, number = str(after.transaction_id), after.sequence_number
    events: list[Any] = []
    while True:
        page = await tx.fetch(_SINCE, tx.context.tenant_id, transaction_id, number, _BATCH)
        events += page
        if len(page) < _BATCH:
            return events
        transaction_id, number = page[-1]["transaction_id"], page[-1]["sequence_number"]


def _is_after(event: Any, since: Position | None) -> bool:
    return since is None or (int(event["transaction_id"]), event["sequence_number"]) > (since.transaction_id, since.sequence_number)
