"""The log in files that are signed: what is kept is proven, and what was changed, left out or cut off is found."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from persistence import Plane
from persistence.errors import ConfigurationError, Conflict, InvalidInput
from persistence.models import Position, Tenant
from persistence.streams.archive import Archive, Verdict, make_key, read_key, read_public_key, verify
from tests.helpers import ACTOR
from tests.integration.test_streams import write


@pytest.fixture
async def events(plane: Plane, tenant: Tenant) -> list[object]:
    await write(plane, tenant, 50)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        return list(await tx.events.read_each(limit=50))


def judged(folder: Path, key: Path, **options: Position) -> Verdict:
    return verify(folder, read_public_key(key.with_name(key.name + ".pub")), **options)


def test_what_is_archived_is_proven(events: list, tmp_path: Path) -> None:
    key, folder = tmp_path / "key", tmp_path / "archive"
    make_key(key)
    assert key.stat().st_mode & 0o777 == 0o600
    with Archive(folder, read_key(key), "events", segment=20) as archive:
        archive.add(events[:25])
        with pytest.raises(Conflict), Archive(folder, read_key(key), "events"):
            pass
    with (folder / "open.jsonl").open("a") as file:
        file.write('{"position": "1-9')  # it was cut off
    with Archive(folder, read_key(key), "events", segment=20) as archive:
        assert archive.position == events[19][1]  # what nothing had signed is written again
        archive.add(events)
        assert archive.position == events[-1][1]
    verdict = judged(folder, key, reaches=events[39][1])
    assert (verdict.problems, verdict.segments, verdict.events, verdict.unsealed) == ([], 2, 40, 10)
    lines = [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"), key=lambda path: path.name == "open.jsonl")
        for line in path.open()
    ]
    assert [line["event"]["id"] for line in lines] == [str(event.id) for event, _ in events]
    with pytest.raises(InvalidInput), Archive(folder, read_key(key), "type:RUN_STARTED"):
        pass
    with pytest.raises(InvalidInput):
        make_key(key)
    assert {path.stat().st_mode & 0o077 for path in folder.glob("*.jsonl")} == {0}
    make_key(tmp_path / "other")
    with pytest.raises(InvalidInput, match="another key"), Archive(folder, read_key(tmp_path / "other"), "events"):
        pass


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def cut(folder: Path) -> None:
    for path in folder.glob("segment-000003.*"):
        path.unlink()


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (
            lambda folder: edit(folder / "segment-000002.jsonl", "RUN_STARTED", "RUN_STARTES"),
            "segment-000002.jsonl: was changed since it was signed",
        ),
        (lambda folder: edit(folder / "segment-000002.json", '"events": 10', '"events": 11'), "the signature is not of this seal"),
        (lambda folder: (folder / "segment-000002.jsonl").unlink(), "segment-000002.jsonl: is missing"),
        (
            lambda folder: [(folder / f"segment-000002.{end}").unlink() for end in ("json", "jsonl")],
            "the segment before it is missing",
        ),
        (lambda folder: (folder / "segment-000002.json").unlink(), "segment-000002.jsonl: belongs to no seal in order"),
        (cut, "ends at"),
        (lambda folder: (folder / "segment-000001.json").write_text("{"), "a seal cannot be read"),
    ],
)
def test_what_was_done_to_it_is_found(harm: Callable[[Path], object], found: str, events: list, tmp_path: Path) -> None:
    key, folder = tmp_path / "key", tmp_path / "archive"
    make_key(key)
    with Archive(folder, read_key(key), "events", segment=10) as archive:
        archive.add(events[:30])
    assert judged(folder, key, reaches=events[29][1]).problems == []
    harm(folder)
    assert any(found in problem for problem in judged(folder, key, reaches=events[29][1]).problems)
    other = tmp_path / "other"
    make_key(other)
    assert any("another key" in problem for problem in judged(folder, other).problems) or "cannot be read" in found


def test_a_segment_signed_by_who_has_the_key_does_not_fit_in_another_place(events: list, tmp_path: Path) -> None:
    key = tmp_path / "key"
    make_key(key)
    for name, part in (("one", events[:30]), ("two", events[10:40])):
        with Archive(tmp_path / name, read_key(key), "events", segment=10) as archive:
            archive.add(part)
    for end in ("json", "jsonl"):
        (tmp_path / "two" / f"segment-000002.{end}").replace(tmp_path / "one" / f"segment-000002.{end}")
    assert any("the seal before it is another" in problem for problem in judged(tmp_path / "one", key).problems)


KILLED = """
import sys, os, pathlib
sys.path.insert(0, {root!r})
from persistence.streams import archive as module
step = int(sys.argv[2])
calls = 0
def counted(name):
    real = getattr(os, name)
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), 9)
        return real(*arguments, **options)
    setattr(os, name, call)
for name in ("fsync", "rename", "open", "truncate", "close"):
    counted(name)
import pickle
events = pickle.loads(pathlib.Path(sys.argv[3]).read_bytes())
folder = pathlib.Path(sys.argv[1])
with module.Archive(folder / "archive", module.read_key(folder / "key"), "events", segment=7) as opened:
    for begin in range(0, len(events), 5):
        opened.add(events[begin : begin + 5])
"""


def test_killed_at_any_step_it_goes_on_without_gap_or_double(events: list, tmp_path: Path) -> None:
    import pickle

    given = tmp_path / "events"
    given.write_bytes(pickle.dumps(events))
    make_key(tmp_path / "key")
    root = str(Path(__file__).parents[2])
    killed = 0
    for step in range(1, 40, 3):
        done = subprocess.run([sys.executable, "-c", KILLED.format(root=root), str(tmp_path), str(step), str(given)], check=False)
        killed += done.returncode == -signal.SIGKILL
    with Archive(tmp_path / "archive", read_key(tmp_path / "key"), "events", segment=7) as archive:
        archive.add(events)
        archive.seal()
    verdict = judged(tmp_path / "archive", tmp_path / "key", reaches=events[-1][1])
    assert (verdict.problems, verdict.events, verdict.unsealed) == ([], len(events), 0)
    assert killed >= 5


def test_what_stood_in_the_open_file_is_not_signed(events: list, tmp_path: Path) -> None:
    key, folder, victim = tmp_path / "key", tmp_path / "archive", tmp_path / "victim"
    make_key(key)
    with Archive(folder, read_key(key), "events", segment=20) as archive:
        archive.add(events[:30])
    forged = json.dumps({"position": "1-99999999999-1", "event": {"forged": 1}})
    (folder / "open.jsonl").write_text(forged + "\n")
    with Archive(folder, read_key(key), "events", segment=20) as archive:
        archive.add(events[:40])
    assert "forged" not in "".join(path.read_text() for path in folder.glob("*.jsonl"))
    assert judged(folder, key, reaches=events[39][1]).problems == []
    victim.write_text("mine, without an end of line")
    (folder / "open.jsonl").unlink()
    (folder / "open.jsonl").symlink_to(victim)
    (folder / "segment-000003.json.draft").symlink_to(victim)
    with Archive(folder, read_key(key), "events", segment=10) as archive:
        archive.add(events)
    assert victim.read_text() == "mine, without an end of line"
    assert judged(folder, key, reaches=events[49][1]).problems == []
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError, match="others may write"), Archive(folder, read_key(key), "events"):
        pass
