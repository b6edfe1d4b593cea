"""What does not get on is found, by whatever one looks: query, diagnosis, metric."""

from datetime import timedelta

import psycopg
import pytest

from persistence import Plane
from persistence.errors import InvalidInput
from persistence.models import Run, Tenant
from persistence.queries.database_state import standstill
from persistence.queries.run_diagnosis import RunDiagnosis, diagnose_run
from persistence.queries.stalled import Stalled, stalled

TABLES = ("runs", "steps", "tool_calls", "effects")


def hours_pass(admin: psycopg.Connection, hours: int) -> None:
    for table in TABLES:
        admin.execute(f"UPDATE {table} SET updated_at = updated_at - interval '{hours} hours'")  # type: ignore[call-overload]


async def found(plane: Plane, tenant: Tenant, *, waiting: bool = False) -> list[tuple[str, str | None]]:
    async with plane.snapshot(tenant.tenant_id, actor="user:u") as tx:
        return [(item.run_type, item.tool_name) for item in await stalled(tx, waiting=waiting)]


async def diagnosed(plane: Plane, tenant: Tenant, run: Run) -> RunDiagnosis:
    async with plane.snapshot(tenant.tenant_id, actor="user:u") as tx:
        return await diagnose_run(tx, run.id)


async def test_silence_is_found_whichever_part_was_heard_last(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection, audit_dsn: str
) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    async with plane.transaction(other.tenant_id, actor="agent:o") as tx:
        tx.runs.start(run_type="somebody else's")
    async with plane.transaction(tenant.tenant_id, actor="agent:a") as tx:
        silent = tx.runs.start(run_type="silent")
        tx.steps.start(silent, step_type="work")
        busy = tx.runs.start(run_type="busy")
        calling = tx.runs.start(run_type="calling")
        tx.tool_calls.start(tx.steps.start(calling, step_type="work"), tool_name="search")
        suspended = tx.runs.suspend(tx.runs.start(run_type="suspended"), "an approval")
        parent = tx.runs.start(run_type="parent")
        child = tx.runs.start(parent, run_type="child")
        done = tx.runs.complete(tx.runs.start(run_type="done"))
    assert await found(plane, tenant) == []
    assert (await diagnosed(plane, tenant, silent)).next is None
    hours_pass(admin, 3)
    async with plane.transaction(tenant.tenant_id, actor="agent:a") as tx:
        tx.effects.request(await tx.runs.get(busy.id), "LOG", spec={}, idempotency_key="k")
        tx.steps.start(await tx.runs.get(child.id), step_type="work")
    assert sorted(await found(plane, tenant), key=str) == [("calling", "search"), ("calling", None), ("silent", None)]
    assert ("suspended", None) in await found(plane, tenant, waiting=True)
    counted = await standstill(audit_dsn, plane.settings)
    assert (counted.runs, counted.tool_calls) == (3, 1)  # one of them the other tenant's

    said = await diagnosed(plane, tenant, silent)
    assert "Nothing has happened in it for 3.0 h." in said.conclusion
    assert said.next is not None
    assert "agent:a" in said.next
    assert "persistence runs cancel" in said.next
    assert "resume" in ((await diagnosed(plane, tenant, suspended)).next or "")
    assert (await diagnosed(plane, tenant, done)).quiet_seconds is None
    assert "Nothing" not in (await diagnosed(plane, tenant, busy)).conclusion

    hours_pass(admin, 3)
    assert {run_type for run_type, _ in await found(plane, tenant)} == {"silent", "calling", "busy", "child"}


async def test_the_longest_silence_comes_first(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    for number in range(3):
        async with plane.transaction(tenant.tenant_id, actor="agent:a") as tx:
            tx.runs.start(run_type=str(number))
        hours_pass(admin, 2)
    async with plane.snapshot(tenant.tenant_id, actor="user:u") as tx:
        silent: list[Stalled] = list(await stalled(tx, limit=2))
        assert [item.run_type for item in silent] == ["0", "1"]
        assert silent[0].seconds > silent[1].seconds > 7200
        assert await stalled(tx, timedelta(days=1)) == []
        with pytest.raises(InvalidInput, match="limit"):
            await stalled(tx, limit=0)
        with pytest.raises(InvalidInput, match="quiet"):
            await stalled(tx, timedelta(seconds=-1))
