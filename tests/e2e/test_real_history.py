"""BPI Challenge 2012, whole: 13,087 cases, 262,200 log events; lawful, and no change of it goes unseen."""

from collections import Counter
from pathlib import Path

import asyncpg
import psycopg

from persistence import Plane
from persistence.gates.checks import shipped_suites
from persistence.gates.fit import Runner
from persistence.gates.replay import verify
from persistence.importing.importer import Importer
from persistence.models import Tenant
from persistence.settings import Settings


async def test_the_loan_applications_go_in_whole_and_once(
    plane: Plane, tenant: Tenant, shared_data: Path, admin: psycopg.Connection, audit_dsn: str, dsn: str
) -> None:
    log = shared_data / "bpic2012.xes.gz"
    first = await Importer(plane, tenant.tenant_id).read(log)
    assert (first.items, first.added, first.log_events, first.problems) == (13_087, 13_087, 262_200, [])

    def count(query: str) -> int:
        row = admin.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    assert count("SELECT count(*) FROM runs") == 13_087
    real = "aggregate_type = 'STEP' AND event_data #>> '{attributes,implied}' IS NULL"
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


async def red(audit_dsn: str, dsn: str) -> dict[str, int]:
    """The checks that are red, with how many violations."""
    outcomes = await Runner(audit_dsn, dsn, Settings()).run(shipped_suites())
    assert [outcome.problem for outcome in outcomes if outcome.verdict == "failed"] == []
    return {outcome.check.name: len(outcome.violations) for outcome in outcomes if outcome.verdict == "violated"}
