"""Histories from files: whole cases or nothing, once each."""

import gzip
import json
from pathlib import Path

import pytest

from persistence import Plane
from persistence.errors import ImportFailed
from persistence.importing.importer import Importer
from persistence.models import Tenant
from tests.helpers import ACTOR
from tests.unit.test_reading_files import event, trace, written

HUGE = trace("huge", event("A", extra=f'<string key="x" value="{"x" * 1_100_000}"/>'))


async def imported(plane: Plane, tenant: Tenant, path: Path, on_error: str = "stop"):  # type: ignore[no-untyped-def]
    return await Importer(plane, tenant.tenant_id, on_error=on_error).read(path)  # type: ignore[arg-type]


async def test_a_case_becomes_a_signal_a_run_and_steps(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    person = '<string key="org:resource" value="112"/>'
    log = written(
        tmp_path / "log.xes", trace("173688", event("A"), event("W", "START", 1, person), event("W", "COMPLETE", 2, person))
    )
    report = await imported(plane, tenant, log.path)
    assert (report.items, report.added, report.log_events, report.events) == (1, 1, 3, 7)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        [signal], [run] = (await tx.signals.list()).items, (await tx.runs.list()).items
        assert (signal.source_channel, signal.source_id, signal.status, signal.payload) == (
            "xes:loans",
            "173688",
            "PROCESSED",
            {"amount": 7},
        )
        assert (run.signal_id, run.run_type, run.status) == (signal.id, "loans", "COMPLETED")
        assert run.started_at is not None
        assert run.started_at.isoformat() == "2026-01-04T10:00:00+00:00"
        steps = (await tx.steps.list(run_id=run.id)).items
        assert [(s.step_index, s.step_type, s.status) for s in steps] == [(0, "A", "COMPLETED"), (1, "W", "COMPLETED")]
        life = await tx.events.of_aggregate(steps[1].id)
        assert [(e.actor, e.occurred_at.minute) for e in life] == [("user:112", 1), ("user:112", 2)]
        assert (await tx.events.of_aggregate(steps[0].id))[0].actor == "external:unattributed"


async def test_a_case_that_is_not_finished_goes_on(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    await imported(plane, tenant, written(tmp_path / "log.xes", trace("1", event("W", "START"))).path)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert (await tx.runs.list()).items[0].status == "RUNNING"


async def test_the_same_file_again_adds_nothing(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    log = written(tmp_path / "log.xes", *(trace(str(n), event("A"), event("B", "START", 1)) for n in range(5)))
    assert (await imported(plane, tenant, log.path)).added == 5
    zipped = tmp_path / "log.xes.gz"
    zipped.write_bytes(gzip.compress(log.path.read_bytes()))
    again = await imported(plane, tenant, zipped)
    assert (again.items, again.added, again.known, again.events) == (5, 0, 5, 0)


async def test_an_interrupted_import_goes_on_where_it_was(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    cases = [trace(str(n), event("A"), event("B", "START", 1)) for n in range(6)]
    await imported(plane, tenant, written(tmp_path / "part.xes", *cases[:4]).path)
    whole = await imported(plane, tenant, written(tmp_path / "whole.xes", *cases).path)
    assert (whole.added, whole.known) == (2, 4)


async def test_a_broken_case_is_skipped_whole_and_named(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    nameless = "<trace><event/></trace>"
    log = written(tmp_path / "log.xes", trace("1", event("A")), nameless, HUGE, trace("2", event("A")))
    report = await imported(plane, tenant, log.path, "skip")
    assert report.added == 2
    assert len(report.problems) == 2
    assert "line 7: the event has no concept:name" in report.problems[0]
    assert "case huge" in report.problems[1]
    assert "exceed the limit" in report.problems[1]
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert {s.source_id for s in (await tx.signals.list()).items} == {"1", "2"}


async def test_a_broken_case_stops_the_import_and_keeps_what_was_before(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    log = written(tmp_path / "log.xes", trace("1", event("A")), "<trace><event/></trace>", trace("2", event("A")))
    with pytest.raises(ImportFailed, match=r"log\.xes: line 7: the event has no concept:name"):
        await imported(plane, tenant, log.path)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert [s.source_id for s in (await tx.signals.list()).items] == ["1"]


async def test_lines_are_received_once_and_broken_ones_named(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    good = [
        json.dumps({"source_channel": "web", "source_id": str(n), "signal_type": "order", "payload": {"n": n}}) for n in range(3)
    ]
    path = tmp_path / "signals.jsonl"
    path.write_text(
        "\n".join(
            [
                good[0],
                "{",
                good[1],
                json.dumps({"source_channel": "web", "source_id": "9", "signal_type": "o", "payload": "\x00"}),
                good[2],
            ]
        )
    )
    report = await imported(plane, tenant, path, "skip")
    assert report.added == 3
    assert [problem.partition("signals.jsonl: ")[2].partition(":")[0] for problem in report.problems] == ["line 2", "line 4"]
    assert "NUL character" in report.problems[1]
    with pytest.raises(ImportFailed, match="line 2"):
        await imported(plane, tenant, path)


@pytest.mark.parametrize(("name", "problem"), [("missing.xes", "no such file"), ("history.csv", "unknown kind of file")])
async def test_what_cannot_be_read_is_said(plane: Plane, tenant: Tenant, tmp_path: Path, name: str, problem: str) -> None:
    if name == "history.csv":
        (tmp_path / name).touch()
    with pytest.raises(ImportFailed, match=problem):
        await imported(plane, tenant, tmp_path / name)
