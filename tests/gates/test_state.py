"""A run as it was, at any of its events and at any time."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from persistence import Plane
from persistence.errors import NotFound, PermissionDenied
from persistence.gates.state import RunState, run_at
from persistence.models import Run, Tenant, new_id
from tests.helpers import ACTOR

NOON = datetime(2026, 1, 4, 12, tzinfo=UTC)


@pytest.fixture
async def run(plane: Plane, tenant: Tenant) -> Run:
    """Started at noon; one step from one to two o'clock; suspended at three and completed at four."""

    def at(hours: int) -> datetime:
        return NOON + timedelta(hours=hours)

    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="walk", at=at(0))
        step = tx.steps.start(run, step_type="stride", at=at(1))
        tx.steps.complete(step, {"far": True}, at=at(2))
        run = tx.runs.suspend(run, "breath", at=at(3))
        run = tx.runs.resume(run, at=at(3))
        return tx.runs.complete(run, {"home": True}, at=at(4))


async def shown(dsn: str, run: Run, **where: object) -> RunState:
    connection = await asyncpg.connect(dsn)
    try:
        return await run_at(connection, run.id, **where)  # type: ignore[arg-type]
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("hours", "status", "steps"),
    [(0.5, "RUNNING", []), (1.5, "RUNNING", ["RUNNING"]), (2.5, "RUNNING", ["COMPLETED"]), (9, "COMPLETED", ["COMPLETED"])],
)
async def test_at_a_time(audit_dsn: str, run: Run, hours: float, status: str, steps: list[str]) -> None:
    found = await shown(audit_dsn, run, moment=NOON + timedelta(hours=hours))
    assert found.run["status"] == status
    assert [step["status"] for step in found.parts["steps"]] == steps
    assert (found.run["output_result"] is not None) == (status == "COMPLETED")


async def test_at_each_event_the_version_is_one_higher(audit_dsn: str, plane: Plane, tenant: Tenant, run: Run) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        events = await tx.events.of_aggregate(run.id)
        now = await tx.runs.get(run.id)
    for event in events:
        found = await shown(audit_dsn, run, sequence_number=event.sequence_number)
        assert (found.run["version"], found.run["last_event_id"]) == (event.aggregate_version, str(event.id))
    assert found.run["status"] == now.status
    assert (await shown(audit_dsn, run)).run["output_result"] == {"home": True}


async def test_before_it_began_there_was_none(audit_dsn: str, dsn: str, run: Run) -> None:
    with pytest.raises(NotFound, match="did not exist yet"):
        await shown(audit_dsn, run, moment=NOON - timedelta(seconds=1))
    with pytest.raises(NotFound, match="there is no run"):
        await shown(audit_dsn, run.model_copy(update={"id": new_id()}))
    with pytest.raises(NotFound, match="there is no run"):
        await shown(audit_dsn, run, tenant=str(new_id()))
    with pytest.raises(PermissionDenied):
        await shown(dsn, run)
