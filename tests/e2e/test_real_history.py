"""BPI Challenge 2012, whole: 13,087 cases, 262,200 log events; lawful, and no change of it goes unseen."""

import warnings
from collections import Counter
from pathlib import Path

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.exporting.xes import write_xes
from persistence.gates.checks import shipped_suites
from persistence.gates.fit import Runner
from persistence.gates.replay import verify
from persistence.importing.importer import Importer
from persistence.models import Tenant
from persistence.queries.stories import stories
from persistence.settings import Settings
from tests.helpers import ACTOR
from tests.real import cases

pm4py = pytest.importorskip("pm4py")


@pytest.mark.slow
async def test_the_loan_applications_go_in_whole_and_once(
    plane: Plane, tenant: Tenant, shared_data: Path, admin: psycopg.Connection, audit_dsn: str, dsn: str, tmp_path: Path
) -> None:
    log = shared_data / "bpic2012.xes.gz"
    first = await Importer(plane, tenant.tenant_id).read(log)
    assert (first.items, first.added, first.log_events, first.problems) == (13_087, 13_087, 262_200, [])

    def count(query: str) -> int:
        row = admin.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    assert count("SELECT count(*) FROM runs") == 13_087
    real = "aggregate_type = 'STEP' AND event_data #>> '{attributes,xes:implied}' IS NULL"
    assert count(f"SELECT count(*) FROM orchestration_events WHERE {real}") == 262_200
    kinds = Counter(
        dict(admin.execute(f"SELECT event_type, count(*) FROM orchestration_events WHERE {real} GROUP BY 1").fetchall())
    )
    assert kinds["STEP_SCHEDULED"] == 26_318
    assert kinds["STEP_STARTED"] == 71_376
    assert kinds["STEP_COMPLETED"] + kinds["STEP_RECORDED"] == 164_506
    assert count("SELECT count(DISTINCT actor) FROM orchestration_events WHERE actor LIKE 'user:%'") == 68

    again = await Importer(plane, tenant.tenant_id).read(log)
    assert (again.added, again.known, again.events) == (0, 13_087, 0)
    connection = await asyncpg.connect(audit_dsn)
    report = await verify(connection)
    await connection.close()
    assert report.differences == []
    assert report.rows["runs"] == 13_087

    await comes_out_again(plane, tenant, log, tmp_path / "out.xes.gz")
    assert await red(audit_dsn, dsn) == {}
    admin.execute("SET session_replication_role = replica")
    forged = "UPDATE {} WHERE id = (SELECT min(id::text)::uuid FROM {} WHERE {})"
    admin.execute(forged.format("steps SET updated_at = updated_at + interval '1 microsecond'", "steps", "status = 'COMPLETED'"))
    admin.execute(
        forged.format("orchestration_events SET source = 'importer'", "orchestration_events", "event_type = 'STEP_RECORDED'")
    )
    found = await red(audit_dsn, dsn)
    assert {"state_is_the_fold", "event_digests"} <= set(found)
    assert (found["state_is_the_fold"], found["event_digests"]) == (1, 1)


async def comes_out_again(plane: Plane, tenant: Tenant, source: Path, target: Path) -> None:
    """All cases, activities, transitions, resources, order and times; and pm4py reads them from the exported file."""
    report = await write_xes(target, stories(plane, tenant.tenant_id, actor=ACTOR))
    assert (report.cases, report.events) == (13_087, 262_200)
    wanted = cases(source)
    assert cases(target) == wanted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log = pm4py.read_xes(str(target))
    columns = ["case:concept:name", "concept:name", "lifecycle:transition", "org:resource", "time:timestamp"]
    read = Counter(
        (case, name, transition, resource, time)
        for case, name, transition, resource, time in log[columns].fillna("").values.tolist()
    )
    assert read == Counter(
        (case, name, transition, resource or "", time)
        for case, events in wanted.items()
        for name, transition, resource, time in events
    )


async def red(audit_dsn: str, dsn: str) -> dict[str, int]:
    """The checks that are red, with how many violations."""
    outcomes = await Runner(audit_dsn, dsn, Settings()).run(shipped_suites())
    assert [outcome.problem for outcome in outcomes if outcome.verdict == "failed"] == []
    return {outcome.check.name: len(outcome.violations) for outcome in outcomes if outcome.verdict == "violated"}
