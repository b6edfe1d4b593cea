import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from persistence.errors import ImportFailed
from persistence.importing.cases import CaseBuilder
from persistence.importing.identity import stable_id
from persistence.importing.signals import BrokenSignal, SignalLines, WebhookFolder
from persistence.importing.xes import BrokenTrace, XesFile, XesTrace

HEAD = '<?xml version="1.0"?>\n<log xes.version="1.0" xmlns="http://www.xes-standard.org/">\n<string key="concept:name" value="loans"/>\n'


def event(name: str, transition: str | None = "complete", minute: int = 0, extra: str = "") -> str:
    life = f'<string key="lifecycle:transition" value="{transition}"/>' if transition else ""
    moment = f"2026-01-04T10:{minute:02d}:00+00:00"
    return f'<event><string key="concept:name" value="{name}"/>{life}<date key="time:timestamp" value="{moment}"/>{extra}</event>\n'


def trace(name: str, *events: str) -> str:
    return f'<trace><string key="concept:name" value="{name}"/><int key="amount" value="7"/>\n{"".join(events)}</trace>\n'


def written(path: Path, *traces: str) -> XesFile:
    path.write_text(HEAD + "".join(traces) + "</log>")
    return XesFile(path)


def life(*events: str, tmp_path: Path) -> list[tuple[str, int]]:
    """The event types and aggregate versions of a case's steps."""
    [read] = list(written(tmp_path / "log.xes", trace("1", *events)).traces())
    assert isinstance(read, XesTrace)
    return [(e.event_type, e.aggregate_version) for e in CaseBuilder("loans", read).events() if e.event_type.startswith("STEP")]


def test_stable_ids_are_uuid7_in_the_order_of_time() -> None:
    early, late = datetime(2011, 1, 1, tzinfo=UTC), datetime(2012, 1, 1, tzinfo=UTC)
    first = stable_id(early, "a", "b")
    assert first == stable_id(early, "a", "b") != stable_id(early, "ab")
    assert first < stable_id(late, "a", "b")
    assert first.version == 7
    assert first.variant == "specified in RFC 4122"


def test_attributes_keep_their_types(tmp_path: Path) -> None:
    extra = (
        '<boolean key="b" value="true"/><float key="f" value="0.5"/><list key="l"><values><int key="i" value="1"/></values></list>'
    )
    [read] = list(written(tmp_path / "log.xes", trace("1", event("A", extra=extra))).traces())
    assert isinstance(read, XesTrace)
    assert read.attributes == {"amount": 7}
    assert read.events[0].attributes == {"b": True, "f": 0.5, "l": {"xes:type": "list", "xes:values": [["i", 1]]}}


def test_schedule_start_complete_are_the_life_of_one_step(tmp_path: Path) -> None:
    seen = life(event("W", "SCHEDULE"), event("W", "START", 1), event("W", "COMPLETE", 2), tmp_path=tmp_path)
    assert seen == [("STEP_SCHEDULED", 1), ("STEP_STARTED", 2), ("STEP_COMPLETED", 3)]


def test_a_completion_alone_is_a_step_of_its_own(tmp_path: Path) -> None:
    assert life(event("A"), event("A", None, 1), tmp_path=tmp_path) == [("STEP_RECORDED", 1), ("STEP_RECORDED", 1)]


def test_a_completion_without_a_start_implies_one(tmp_path: Path) -> None:
    seen = life(event("W", "schedule"), event("W", "complete", 1), tmp_path=tmp_path)
    assert seen == [("STEP_SCHEDULED", 1), ("STEP_STARTED", 2), ("STEP_COMPLETED", 3)]


def test_other_transitions_follow_the_life_cycle_or_are_kept_as_they_are(tmp_path: Path) -> None:
    seen = life(
        event("W", "start"),
        event("W", "suspend", 1),
        event("W", "resume", 2),
        event("W", "pi_abort", 3),
        event("W", "reassign", 4),
        tmp_path=tmp_path,
    )
    assert [kind for kind, _ in seen] == ["STEP_STARTED", "STEP_SUSPENDED", "STEP_RESUMED", "STEP_CANCELLED", "STEP_RECORDED"]


def test_broken_traces_name_their_line_and_leave_the_others_alone(tmp_path: Path) -> None:
    nameless = "<trace>\n<event><date key='time:timestamp' value='2026-01-04T10:00:00Z'/></event></trace>\n"
    timeless = trace("2", '<event><string key="concept:name" value="A"/></event>')
    unread = trace("3", event("A", extra='<int key="n" value="seven"/>'))
    good = trace("4", event("A"))
    read = list(written(tmp_path / "log.xes", nameless, timeless, unread, good).traces())
    assert [str(item) for item in read[:3]] == [
        "line 5: the event has no concept:name",
        "line 7: the event A has no time:timestamp",
        "line 9: n: 'seven' is no int",
    ]
    assert all(isinstance(item, BrokenTrace) for item in read[:3])
    assert isinstance(read[3], XesTrace)


def test_a_damaged_file_names_line_or_byte(tmp_path: Path) -> None:
    broken = tmp_path / "broken.xes"
    broken.write_text(HEAD + trace("1", event("A")) + "<trace></log>")
    with pytest.raises(ImportFailed, match=r"broken\.xes: line \d+"):
        list(XesFile(broken).traces())
    cut = tmp_path / "cut.xes.gz"
    cut.write_bytes(gzip.compress((HEAD + trace("1", event("A")) * 2000 + "</log>").encode())[:-200])
    with pytest.raises(ImportFailed, match=r"cut\.xes\.gz: byte \d+"):
        list(XesFile(cut).traces())


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    path = tmp_path / "entity.xes"
    path.write_text(
        f'<!DOCTYPE log [<!ENTITY x SYSTEM "file://{secret}">]><log><trace><string key="concept:name" value="1"/>'
        f'<string key="a" value="b">&x;</string>{event("A")}</trace></log>'
    )
    assert "secret" not in repr(list(XesFile(path).traces())).replace(str(secret), "")


def test_webhook_bodies_become_signals(tmp_path: Path) -> None:
    (tmp_path / "push").mkdir()
    (tmp_path / "push" / "payload.json").write_text('{"ref": "main"}')
    (tmp_path / "issues").mkdir()
    (tmp_path / "issues" / "opened.json").write_text('{"action": "opened"}')
    (tmp_path / "issues" / "broken.json").write_text("{")
    read = [signal for _, signal in WebhookFolder(tmp_path).signals()]
    assert isinstance(read[0], BrokenSignal)
    assert "line 1, column" in str(read[0])
    assert [(s.source_id, s.signal_type) for s in read[1:] if not isinstance(s, BrokenSignal)] == [
        ("issues/opened.json", "github.issues.opened"),
        ("push/payload.json", "github.push"),
    ]


def test_lines_become_signals_and_broken_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "signals.jsonl"
    path.write_text(
        '{"source_channel": "web", "source_id": "1", "signal_type": "order", "payload": [1]}\n\n{"source_channel": 1}\nnothing\n'
    )
    good, wrong, unread = (signal for _, signal in SignalLines(path).signals())
    assert not isinstance(good, BrokenSignal)
    assert good.payload == [1]
    assert "line 3: source_channel" in str(wrong)
    assert "line 4: column 1" in str(unread)
