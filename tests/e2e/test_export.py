"""What process mining tools read of the log."""

import gzip
import json
import sqlite3
import warnings
from pathlib import Path

import pytest

from persistence import Plane
from persistence.exporting.ocel import write_ocel
from persistence.exporting.xes import write_xes
from persistence.models import Tenant
from persistence.outbox import Worker
from persistence.queries.stories import stories
from persistence.sample import add_sample_handlers, play
from tests.helpers import ACTOR
from tests.real import cases


async def history(plane: Plane, tenant: Tenant) -> None:
    await play(plane, tenant.tenant_id)
    worker = Worker(name="tester", listen=False)
    add_sample_handlers(worker)
    await worker.drain(plane)


async def test_a_run_of_ones_own_is_a_trace(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    await history(plane, tenant)
    target = tmp_path / "own.xes"
    report = await write_xes(target, stories(plane, tenant.tenant_id, actor=ACTOR))
    assert report.cases == 5
    first = next(iter(cases(target).values()))
    assert [(activity, transition) for activity, transition, _, _ in first][:4] == [
        ("assess", "start"),
        ("credit-register", "start"),
        ("credit-register", "complete"),
        ("assess", "complete"),
    ]
    assert ("SAMPLE_SEND_OFFER", "schedule") in [(activity, transition) for activity, transition, _, _ in first]
    assert {resource for _, _, resource, _ in first} >= {"agent:loan-desk"}


async def test_only_what_is_newer_is_written(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    await history(plane, tenant)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        last = (await tx.runs.list(newest_first=True, limit=1)).items[0]
    assert last.started_at is not None
    report = await write_xes(
        tmp_path / "new.xes", stories(plane, tenant.tenant_id, actor=ACTOR, since=last.started_at.replace(year=2100))
    )
    assert report.cases == 0
    assert (
        await write_xes(
            tmp_path / "all.xes", stories(plane, tenant.tenant_id, actor=ACTOR, since=last.started_at.replace(year=1960))
        )
    ).cases == 5


@pytest.mark.parametrize("name", ["log.json", "log.sqlite"])
async def test_ocel_is_read_by_pm4py(plane: Plane, tenant: Tenant, tmp_path: Path, name: str) -> None:
    pm4py = pytest.importorskip("pm4py")
    await history(plane, tenant)
    target = tmp_path / name
    report = await write_ocel(target, stories(plane, tenant.tenant_id, actor=ACTOR))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log = pm4py.read_ocel2(str(target))
    assert len(log.events) == report.events
    assert len(log.objects) == report.objects
    assert set(log.objects["ocel:type"]) == {"SIGNAL", "RUN", "STEP", "TOOL_CALL", "EFFECT", "MEMORY", "MEMORY_RECALL", "ACTOR"}
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        delivered = await tx.effects.all(status="EXECUTED")
        events = await tx.events.of_aggregate(delivered[0].id)
    related = log.relations[log.relations["ocel:eid"] == str(events[-1].id)]
    assert set(related["ocel:type"]) == {"EFFECT", "STEP", "RUN", "SIGNAL", "ACTOR"}


async def test_ocel_says_how_statuses_changed(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    await history(plane, tenant)
    await write_ocel(tmp_path / "log.json", stories(plane, tenant.tenant_id, actor=ACTOR))
    await write_ocel(tmp_path / "log.sqlite", stories(plane, tenant.tenant_id, actor=ACTOR))
    document = json.loads((tmp_path / "log.json").read_text())
    run = next(item for item in document["objects"] if item["type"] == "RUN")
    statuses = [attribute["value"] for attribute in run["attributes"] if attribute["name"] == "status"]
    assert statuses == ["RUNNING", "COMPLETED"]
    with sqlite3.connect(tmp_path / "log.sqlite") as connection:
        rows = connection.execute("SELECT status FROM object_RUN WHERE ocel_id = ? ORDER BY ocel_time", (run["id"],)).fetchall()
    assert [status for (status,) in rows] == statuses


async def test_what_xml_cannot_hold_is_replaced(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    async with plane.transaction(tenant.tenant_id, actor="user:a\x01b") as tx:
        run = tx.runs.start(run_type="x")
        tx.steps.start(run, step_type="bell \x07", attributes={"n": 2**62, "deep": {"list": [1, "two", None]}, "ok": True})
    target = tmp_path / "odd.xes.gz"
    await write_xes(target, stories(plane, tenant.tenant_id, actor=ACTOR))
    [[(activity, _, resource, _)]] = cases(target).values()
    assert (activity, resource) == ("bell \ufffd", "a\ufffdb")
    assert b'<int key="n" value="4611686018427387904"/>' in gzip.decompress(target.read_bytes())
