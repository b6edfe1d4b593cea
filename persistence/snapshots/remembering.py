"""Bringing back memories that a snapshot holds: what was known then, and is left aside or superseded now. What was forgotten stays forgotten."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from persistence.errors import Conflict, InvalidTransition
from persistence.models import Memory
from persistence.plane import Plane
from persistence.snapshots.differences import Action, Difference
from persistence.snapshots.lines import parsed
from persistence.snapshots.loading import State
from persistence.transaction import Transaction

_BATCH = 200
_LONGEST_CHAIN = 1_000
_MOMENT: TypeAdapter[datetime | None] = TypeAdapter(datetime | None)


def kept_memories(state: State) -> list[Mapping[str, Any]]:
    """What was known when a snapshot was taken, as its rows have it."""
    rows = (parsed(line) for _, line in sorted(state.rows.get("memories", {}).items()))
    return [row for row in rows if row.get("status") == "ACTIVE" and row.get("content") is not None]


async def differences(tx: Transaction, kept: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """What is not known any more, and what would be done."""
    found = []
    for begin in range(0, len(kept), _BATCH):
        found += [difference for difference, _ in await _compared(tx, kept[begin : begin + _BATCH])]
    return found


async def bring_back(
    plane: Plane,
    tenant_id: UUID,
    kept: Sequence[Mapping[str, Any]],
    circumstances: Mapping[str, Any],
    attributes: Mapping[str, Any],
    folder: str,
) -> list[Difference]:
    """Brings back what can be, some hundred at a time; again, it does the rest. Returns the differences as they were found."""
    found: list[Difference] = []
    for begin in range(0, len(kept), _BATCH):
        found += await _brought_back(plane, tenant_id, kept[begin : begin + _BATCH], circumstances, attributes, folder)
    return found


async def _brought_back(
    plane: Plane,
    tenant_id: UUID,
    part: Sequence[Mapping[str, Any]],
    circumstances: Mapping[str, Any],
    attributes: Mapping[str, Any],
    folder: str,
) -> list[Difference]:
    try:
        async with plane.transaction(tenant_id, **circumstances) as tx:
            compared = await _compared(tx, part)
            rows = {UUID(row["id"]): row for row in part}
            for difference, latest in compared:
                _apply(tx, difference, rows[difference.run_id], latest, attributes, folder)
        return [difference for difference, _ in compared]
    except (Conflict, InvalidTransition) as error:
        if len(part) == 1:
            row = part[0]
            return [_difference(row, "(changing)", "cannot", f"others work on it: {error.message}; restore again")]
    return [
        difference for row in part for difference in await _brought_back(plane, tenant_id, [row], circumstances, attributes, folder)
    ]


async def _compared(tx: Transaction, part: Sequence[Mapping[str, Any]]) -> list[tuple[Difference, Memory | None]]:
    """Each that differs, with the memory that is known in its place now."""
    present = {memory.id: memory for memory in await tx.memories.get_many([UUID(row["id"]) for row in part])}
    found: list[tuple[Difference, Memory | None]] = []
    for row in part:
        memory = present.get(UUID(row["id"]))
        if memory is None:
            found.append((_difference(row, "(not there)", "cannot", "this database does not have it"), None))
        elif memory.status == "PRUNED":
            found.append((_difference(row, "PRUNED", "bring back"), memory))
        elif memory.status == "FORGOTTEN":
            found.append((_difference(row, "FORGOTTEN", "cannot", "it was forgotten for good"), memory))
        elif memory.status == "SUPERSEDED":
            latest = await _latest(tx, memory)
            if latest.status != "ACTIVE" or latest.digest != row["digest"]:
                found.append((_difference(row, "SUPERSEDED", "remember again"), latest))
    return found


async def _latest(tx: Transaction, memory: Memory) -> Memory:
    """The memory at the end of those that took each other's place."""
    for _ in range(_LONGEST_CHAIN):
        if memory.superseded_by is None:
            break
        memory = await tx.memories.get(memory.superseded_by)
    return memory


def _apply(
    tx: Transaction,
    difference: Difference,
    row: Mapping[str, Any],
    latest: Memory | None,
    attributes: Mapping[str, Any],
    folder: str,
) -> None:
    details: dict[str, Any] = {"attributes": dict(attributes)}
    if difference.action == "bring back" and latest is not None:
        tx.memories.restore(latest, f"snapshot {folder} has it", **details)
    elif difference.action == "remember again":
        tx.memories.remember(
            row["content"],
            agent=row["agent"],
            context=row["context"],
            tags=row["tags"] or (),
            importance=row["importance"],
            valid_from=_MOMENT.validate_python(row["valid_from"]),
            valid_until=_MOMENT.validate_python(row["valid_until"]),
            supersedes=latest if latest is not None and latest.status == "ACTIVE" else None,
            **details,
        )


def _difference(row: Mapping[str, Any], now: str, action: Action, reason: str | None = None) -> Difference:
    return Difference(UUID(row["id"]), f"memory of {row['agent']}", "memory", "ACTIVE", now, action, reason)
