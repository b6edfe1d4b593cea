import re
from pathlib import Path

import pytest

from persistence.canon import CANON, NEW
from persistence.errors import InvalidInput, InvalidTransition, UnknownEventType
from persistence.models import (
    Checkpoint,
    DataKey,
    Effect,
    Memory,
    MemoryIndex,
    MemoryRecall,
    OutboxEntry,
    Run,
    Secret,
    Signal,
    Snapshot,
    Step,
    ToolCall,
    VaultAccess,
)

# Written by the operator's functions, and read in other ways than through repositories.
OPERATED = {"TENANT", "BACKUP_VERIFICATION"}
MODELS = {
    model.kind: model
    for model in (
        Signal,
        Run,
        Step,
        ToolCall,
        Effect,
        OutboxEntry,
        Checkpoint,
        DataKey,
        Secret,
        VaultAccess,
        Memory,
        MemoryRecall,
        MemoryIndex,
        Snapshot,
    )
}


def test_every_aggregate_has_a_machine_and_a_model() -> None:
    assert set(CANON.aggregates) == set(CANON.transitions) == set(MODELS) | OPERATED


@pytest.mark.parametrize("aggregate", CANON.aggregates)
def test_machines_speak_of_known_statuses_and_leave_no_terminal_one(aggregate: str) -> None:
    known = set(CANON.aggregates[aggregate].statuses)
    for event, way in CANON.transitions[aggregate].items():
        assert way.target in known
        assert set(way.sources) <= known | {NEW}
        assert not set(way.sources) & set(CANON.aggregates[aggregate].terminal), event


@pytest.mark.parametrize("aggregate", CANON.aggregates)
def test_every_status_can_be_reached(aggregate: str) -> None:
    assert {way.target for way in CANON.transitions[aggregate].values()} == set(CANON.aggregates[aggregate].statuses)


def test_an_outbox_entry_moves_with_its_effect() -> None:
    effect, entry = CANON.transitions["EFFECT"], CANON.transitions["OUTBOX_ENTRY"]
    renamed = {"EXECUTED": "PUBLISHED"}
    assert {name: renamed.get(way.target, way.target) for name, way in effect.items()} == {n: w.target for n, w in entry.items()}


@pytest.mark.parametrize("name", CANON.event_types)
def test_event_data_are_folded_into_fields_that_exist(name: str) -> None:
    kind = CANON.event_types[name]
    if kind.aggregate in OPERATED:
        return
    fields = set(MODELS[kind.aggregate].model_fields)
    if kind.aggregate == "EFFECT":
        fields |= set(OutboxEntry.model_fields)
    not_folded = {"attributes", "reason", "open_parts", "target", "changes"}
    assert set(kind.data_schema["properties"]) - not_folded <= fields
    assert set(kind.clears) - {"sealed"} <= fields  # which no model has
    assert {kind.stamps, kind.counts} - {None} <= fields


def test_unknown_keys_and_wrong_types_are_refused_by_name() -> None:
    kind = CANON.event_types["STEP_FAILED"]
    with pytest.raises(InvalidInput, match="error_details"):
        kind.check_data({}, creates=False)
    with pytest.raises(InvalidInput, match="error_details"):
        kind.check_data({"error_details": "text"}, creates=False)
    with pytest.raises(InvalidInput, match="colour"):
        kind.check_data({"error_details": {}, "colour": "red"}, creates=False)


def test_a_first_event_needs_more() -> None:
    with pytest.raises(InvalidInput, match="run_type"):
        CANON.event_types["RUN_STARTED"].check_data({}, creates=True)
    CANON.event_types["RUN_STARTED"].check_data({}, creates=False)


def test_what_is_not_allowed_is_said_with_what_is() -> None:
    with pytest.raises(InvalidTransition, match="RUN_RESUMED is not allowed in status RUNNING .it may follow WAITING"):
        CANON.next_status("RUN_RESUMED", "RUNNING")
    with pytest.raises(UnknownEventType, match="RUN_EXPLODED"):
        CANON.event_type("RUN_EXPLODED")


def test_the_write_path_looks_for_each_event_that_ends_what_may_have_parts() -> None:
    """``append_events`` finds them by their names, before it asks the canon."""
    text = (Path(__file__).parents[2] / "migrations" / "sql" / "parts" / "ending_types.v1.sql").read_text()
    pattern = text.splitlines()[-1]
    ends = {row["event_type"] for row in CANON.reference_rows()["event_types"] if row["ends"]}
    assert ends == {name for name in CANON.event_types if re.search(pattern, name)}
