"""Old events are read and replayed as if they had been written today; events from the future are refused."""

from collections.abc import Iterator

import psycopg
import pytest

from persistence import Plane
from persistence.canon import CANON
from persistence.canon.parts import PastVersion
from persistence.errors import PersistenceError, UnknownEventType
from persistence.models import Run, Tenant
from tests.gates.test_replay import replayed
from tests.helpers import ACTOR

# What a migration would do: version 2 of RUN_COMPLETED holds its output in `output_result`, version 1 held it in `result`.
MIGRATION = """
UPDATE canon.event_types SET is_current = false, event_version = 1 WHERE event_type = 'RUN_COMPLETED';
INSERT INTO canon.event_types
SELECT (jsonb_populate_record(t, '{"event_version": 2, "is_current": true}')).* FROM canon.event_types AS t WHERE t.event_type = 'RUN_COMPLETED';
INSERT INTO canon.upcasters VALUES ('RUN_COMPLETED', 1, 'upcast_run_completed_v1');
CREATE FUNCTION persistence.upcast_run_completed_v1(data jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object('output_result', data -> 'result') || (data - 'result');
GRANT EXECUTE ON FUNCTION persistence.upcast_run_completed_v1(jsonb) TO persistence_app, persistence_auditor;
"""


@pytest.fixture
async def run(plane: Plane, tenant: Tenant) -> Run:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="old")
        return tx.runs.complete(run, {"n": 1})


@pytest.fixture
def second_version(admin: psycopg.Connection, run: Run) -> Iterator[None]:
    """The log holds a RUN_COMPLETED of version 1 as it was written then; schema and package are at version 2."""
    admin.execute(MIGRATION)
    admin.execute("ALTER TABLE orchestration_events DISABLE TRIGGER append_only")
    admin.execute("UPDATE orchestration_events SET event_data = '{\"result\": {\"n\": 1}}' WHERE event_type = 'RUN_COMPLETED'")
    before = CANON.event_types["RUN_COMPLETED"]
    past = {1: PastVersion(data={"properties": {"result": {}}}, upcaster="upcast_run_completed_v1")}
    CANON.event_types["RUN_COMPLETED"] = before.model_copy(update={"version": 2, "past": past})
    yield
    CANON.event_types["RUN_COMPLETED"] = before


@pytest.mark.usefixtures("second_version")
async def test_an_old_event_is_read_as_the_present_version(plane: Plane, tenant: Tenant, run: Run) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        by_aggregate = (await tx.events.of_aggregate(run.id))[-1]
        by_id = await tx.events.get(run.last_event_id)
        in_order = (await tx.events.read())[0][-1]
    for event in (by_aggregate, by_id, in_order):
        assert (event.event_version, event.event_data) == (2, {"output_result": {"n": 1}})


@pytest.mark.usefixtures("second_version")
async def test_an_old_event_is_replayed_as_the_present_version(audit_dsn: str) -> None:
    assert (await replayed(audit_dsn)).differences == []


@pytest.mark.usefixtures("second_version")
async def test_only_the_present_version_is_written(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.runs.complete(tx.runs.start(run_type="new"), {"n": 2})
    versions = admin.execute(
        "SELECT event_version FROM orchestration_events WHERE event_type = 'RUN_COMPLETED' ORDER BY 1"
    ).fetchall()
    assert versions == [(1,), (2,)]
    CANON.event_types["RUN_COMPLETED"] = CANON.event_types["RUN_COMPLETED"].model_copy(update={"version": 1})
    with pytest.raises(UnknownEventType, match="version 1 of RUN_COMPLETED is no longer written .This process is older"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.runs.complete(tx.runs.start(run_type="late"), {"n": 3})


async def test_an_event_of_an_unknown_version_is_an_error_and_never_a_guess(
    plane: Plane, tenant: Tenant, run: Run, admin: psycopg.Connection, audit_dsn: str
) -> None:
    admin.execute("ALTER TABLE orchestration_events DISABLE TRIGGER append_only")
    admin.execute("UPDATE orchestration_events SET event_version = 7 WHERE event_type = 'RUN_COMPLETED'")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        with pytest.raises(UnknownEventType, match="RUN_COMPLETED of version 7 is unknown to this version of the package"):
            await tx.events.get(run.last_event_id)
    with pytest.raises(PersistenceError, match="the log holds RUN_COMPLETED of version 7, which this schema does not know"):
        await replayed(audit_dsn)
