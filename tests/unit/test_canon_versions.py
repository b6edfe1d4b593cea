"""Which version a change of the canon asks for, and which no version makes lawful."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from persistence.canon import Canon
from persistence.canon.changes import Bump, bump_between, changes, next_version
from persistence.cli.app import app
from persistence.errors import ConfigurationError
from persistence.resources import resource

Edit = Callable[[str], str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(resource("canon"), tmp_path / "canon"))


def edited(folder: Path, file: str, old: str, new: str) -> Canon:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    return Canon.read(folder)


COMPLETED = """RUN_COMPLETED:
  version: 1
  writer: service
  stamps: completed_at
  data: {properties: {output_result: {}, open_parts: {enum: [cancel]}}}
"""


@pytest.mark.parametrize(
    ("file", "old", "new", "bump", "words"),
    [
        ("tables.yaml", "    wait_reason: varchar(1000)\n", "", Bump.MAJOR, "column runs.wait_reason is gone"),
        ("tables.yaml", "    run_type: varchar(200) not null\n", "    run_type: varchar(200) not null\n    urgency: integer not null\n", Bump.MAJOR, "runs.urgency is new, and mandatory"),
        ("tables.yaml", "    run_type: varchar(200) not null\n", "    run_type: varchar(200) not null\n    urgency: integer\n", Bump.MINOR, "runs.urgency is new"),
        ("tables.yaml", "step_index: integer not null", "step_index: bigint not null", Bump.MAJOR, "steps.step_index has another form"),
        ("tables.yaml", "    signals_source_key: [tenant_id, source_channel, source_id]", "    signals_source_key: [tenant_id, source_id]", Bump.MAJOR, "unique key of signals"),
        ("tables.yaml", "    signals_correlation_idx: [tenant_id, correlation_id]", "    signals_type_idx: [tenant_id, signal_type]", Bump.MINOR, "index of signals"),
        ("tables.yaml", "tenants:\n  grows: false\n", "notes:\n  columns: {tenant_id: uuid not null}\ntenants:\n  grows: false\n", Bump.MINOR, "table notes is new"),
        ("aggregates.yaml", "statuses: [RECEIVED, PROCESSED", "statuses: [RECEIVED, LOST, PROCESSED", Bump.MAJOR, "statuses of SIGNAL"),
        ("transitions.yaml", "RUN_RETRIED:           {from: [FAILED]", "RUN_RETRIED:           {from: [FAILED, WAITING]", Bump.MAJOR, "machine of RUN changed: RUN_RETRIED"),
        ("rules.yaml", "cap_seconds: 3600", "cap_seconds: 60", Bump.MINOR, "rule backoff"),
        ("rules.yaml", "agent|user", "agent|robot|user", Bump.MAJOR, "rule actor_pattern"),
        ("CANON-TRACE-001.md", "nobody", "no one", Bump.PATCH, "text of CANON-TRACE-001"),
        ("event_types.yaml", COMPLETED, COMPLETED.replace("RUN_COMPLETED", "RUN_DONE"), Bump.REFUSED, "RUN_COMPLETED is gone or renamed"),
        ("event_types.yaml", COMPLETED, COMPLETED.replace("output_result: {}", "output_result: {}, score: {}"), Bump.REFUSED, "without a new version"),
        ("event_types.yaml", COMPLETED, COMPLETED.replace("version: 1", "version: 2"), Bump.REFUSED, "no upcaster from version 1"),
        ("event_types.yaml", COMPLETED, COMPLETED.replace("stamps: completed_at", "stamps: started_at"), Bump.MAJOR, "folds otherwise"),
        ("event_types.yaml", "  data: {properties: {wait_reason: {type: string, maxLength: 1000}}}\nRUN_RESUMED: {version: 1,", "  data: {properties: {wait_reason: {type: string, maxLength: 1000}}}\nRUN_RESUMED: {version: 0,", Bump.REFUSED, "went back"),
    ],
)  # fmt: skip
def test_each_kind_of_change_has_its_weight(folder: Path, file: str, old: str, new: str, bump: Bump, words: str) -> None:
    before = Canon.read(folder)
    found = changes(before, edited(folder, file, old, new))
    assert (found[0].bump, words in found[0].what) == (bump, True), found


def test_a_new_version_with_its_upcaster_is_lawful_and_asks_for_what_it_breaks(folder: Path) -> None:
    before = Canon.read(folder)
    form = (
        "  past: {1: {upcaster: upcast_run_completed_v1, data: {properties: {output_result: {}, open_parts: {enum: [cancel]}}}}}\n"
    )
    second = COMPLETED.replace("version: 1", "version: 2").replace("output_result: {}", "output_result: {}, score: {}") + form
    after = edited(folder, "event_types.yaml", COMPLETED, second)
    assert [(change.bump, change.what) for change in changes(before, after)] == [(Bump.MINOR, "RUN_COMPLETED is at version 2")]
    third = second.replace(
        "properties: {output_result: {}, score: {},", "required: [score], properties: {output_result: {}, score: {},", 1
    )
    assert changes(before, edited(folder, "event_types.yaml", second, third))[0].bump is Bump.MAJOR
    rows = {(row["event_type"], row["event_version"]): row["is_current"] for row in after.reference_rows()["event_types"]}
    assert (rows["RUN_COMPLETED", 1], rows["RUN_COMPLETED", 2]) == (False, True)
    forged = edited(
        folder,
        "event_types.yaml",
        "data: {properties: {output_result: {}, open_parts: {enum: [cancel]}}}}}\n",
        "data: {properties: {}}}}\n",
    )
    assert "not what they were" in changes(before, forged)[0].what


def test_no_change_asks_for_nothing_and_layout_is_no_change(folder: Path) -> None:
    before = Canon.read(folder)
    after = edited(folder, "tables.yaml", "runs:\n  columns:", "# a remark\nruns:\n\n  columns:")
    assert changes(before, after) == []
    assert after.seal == before.seal


def test_versions() -> None:
    assert bump_between("1.2.3", "1.2.3") is Bump.NONE
    assert bump_between("1.2.3", "1.2.2") is Bump.NONE
    assert bump_between("1.2.3", "1.2.9") is Bump.PATCH
    assert bump_between("1.2.3", "1.3.0") is Bump.MINOR
    assert bump_between("1.2.3", "2.0.0") is Bump.MAJOR
    assert [next_version("1.2.3", bump) for bump in (Bump.MAJOR, Bump.MINOR, Bump.PATCH, Bump.NONE)] == [
        "2.0.0",
        "1.3.0",
        "1.2.4",
        "1.2.3",
    ]


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_the_command_compares_with_the_last_tag_and_says_what_is_due(folder: Path) -> None:
    git(folder.parent, "init", "-q")
    git(folder.parent, "add", "canon")
    git(folder.parent, "commit", "-qm", "first")
    run = CliRunner().invoke
    assert "there is no release yet" in run(app, ["canon", "check", "--canon", str(folder)]).output
    git(folder.parent, "tag", "v1")
    edited(
        folder,
        "tables.yaml",
        "    run_type: varchar(200) not null\n",
        "    run_type: varchar(200) not null\n    urgency: integer\n",
    )
    refused = run(app, ["canon", "check", "--canon", str(folder)])
    assert refused.exit_code == 1
    assert "SEAL is not that of the data" in refused.output
    assert "minor changes since 1.0.0 ask for 1.1.0 at least" in refused.output.replace("\n", " ")
    (folder / "VERSION").write_text("1.1.0\n")
    assert run(app, ["canon", "seal", "--canon", str(folder)]).exit_code == 0
    assert run(app, ["canon", "check", "--canon", str(folder)]).exit_code == 0
    assert run(app, ["canon", "check", "--canon", str(folder), "--against", str(resource("canon"))]).exit_code == 0
    edited(folder, "event_types.yaml", COMPLETED, "")
    (folder / "VERSION").write_text("9.0.0\n")
    gone = run(app, ["canon", "check", "--canon", str(folder), "--against", "v1"])
    assert gone.exit_code == 1
    assert "RUN_COMPLETED is gone" in gone.output


def test_an_upcaster_that_is_no_function_is_missed(folder: Path) -> None:
    edited(
        folder,
        "event_types.yaml",
        COMPLETED,
        COMPLETED.replace("version: 1", "version: 2") + "  past: {1: {upcaster: nowhere, data: {}}}\n",
    )
    refused = CliRunner().invoke(app, ["canon", "check", "--canon", str(folder)])
    assert "the upcaster nowhere of version 1 is no function" in refused.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("tables.yaml", "runs: [1", "no YAML"),
        ("tables.yaml", "- runs", "no mapping"),
        ("rules.yaml", "backoff: {}", "Field required"),
    ],
)
def test_a_broken_canon_is_refused_by_file(folder: Path, file: str, text: str, words: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        Canon.read(folder)
    (folder / file).unlink()
    with pytest.raises(ConfigurationError, match="is missing"):
        Canon.read(folder)


def test_the_shipped_canon_is_sealed() -> None:
    canon = Canon.read(resource("canon"))
    assert canon.stated_seal == canon.seal
