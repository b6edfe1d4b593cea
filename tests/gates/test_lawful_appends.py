"""What a service may append, by right or by trying, never turns a gate red: it is refused at the write, or it keeps the law.

Events are made without the library's checks and handed to ``append_events`` as any SQL client could.
"""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import asyncpg
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persistence import Plane
from persistence.canon import CANON
from persistence.errors import InvalidInput
from persistence.gates.checks import shipped_suites
from persistence.gates.fit import Options, Runner
from persistence.gates.replay import verify
from persistence.models import NewSignal, Role, Tenant, new_id
from persistence.outbox import Delivery
from persistence.outbox.housekeeping import Housekeeping
from persistence.queries.trace import trace_run
from tests.helpers import worker_with

CHECKS = [check for check in shipped_suites() if check.suite == "FIT-DATA-QUALITY-001"]
SERVICE = [name for name, kind in CANON.event_types.items()]
APPEND = "SELECT * FROM persistence.append_events($1, $2, $3::text::jsonb)"

junk = st.sampled_from(
    [None, 0, -1, 1.5, 10**30, "", "x", "infinity", "200000-01-01", True, [], {}, ["attributes"], {"type": "x"}, "x" * 400]
)
times = st.one_of(
    st.none(),
    st.sampled_from(
        ["0001-01-01T00:00:00+01:00", "0001-01-01T00:00:00Z", "200000-01-01", "infinity", "-infinity", "9999-12-31T23:59:59-12:00"]
    ),
    st.integers(-600, 600).map(lambda minutes: (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()),
)


class History:
    """What was appended so far, as a random client remembers it: ids to point at, right and wrong."""

    def __init__(self) -> None:
        self.lives: list[tuple[str, str, int, str]] = []  # aggregate type, id, version, correlation
        self.events: list[tuple[str, str]] = []  # id, correlation

    def note(self, batch: list[dict[str, Any]]) -> None:
        for event in batch:
            others = [life for life in self.lives if life[1] != event["aggregate_id"]]
            life = (event["aggregate_type"], event["aggregate_id"], event["aggregate_version"], event["correlation_id"])
            self.lives = [*others, life]
            self.events.append((event["id"], event["correlation_id"]))


@st.composite
def documents(draw: st.DrawFn, history: History) -> dict[str, Any]:
    kind = CANON.event_types[draw(st.sampled_from(SERVICE))]
    known = [life for life in history.lives if life[0] == kind.aggregate]
    goes_on = known and draw(st.booleans())
    life = draw(st.sampled_from(known)) if goes_on else (kind.aggregate, str(new_id()), 0, "")
    near = history.events[-12:]
    cause = draw(st.one_of(st.none(), st.just((str(new_id()), str(new_id()))), *([st.sampled_from(near)] * 6 if near else [])))
    correlation = life[3] or (cause[1] if cause and draw(st.integers(0, 9)) else str(new_id()))
    data: dict[str, Any] = {}
    for key in kind.known:
        if key in kind.required or key in kind.create or draw(st.integers(0, 3)) == 0:
            data[key] = draw(value_of(key, history))
    if draw(st.integers(0, 12)) == 0:
        data[draw(st.sampled_from(["source_id", "status", "run_id", "retry_count", "payload", "colour"]))] = draw(junk)
    document = {
        "id": str(new_id()),
        "event_type": kind.name,
        "event_version": 1,
        "aggregate_type": kind.aggregate,
        "aggregate_id": life[1],
        "aggregate_version": life[2] + 1,
        "event_data": data,
        "correlation_id": correlation,
        "causation_id": cause[0] if cause else None,
        "actor": draw(st.sampled_from(["agent:x"] * 8 + ["system:outbox-worker/w", "nobody"])),
        "source": draw(st.sampled_from(["service"] * 8 + ["outbox", "operator", ""])),
        "occurred_at": draw(times),
    }
    sealed = kind.name in {"SECRET_SET", "SECRET_REWRAPPED", "DATA_KEY_CREATED", "DATA_KEY_REWRAPPED"}
    if sealed or kind.name == "CHECKPOINT_SAVED" or draw(st.integers(0, 30)) == 0:
        document["attachment"] = draw(
            st.sampled_from(["QUJD"] * 6 + ["no base64"] if sealed else ["{}", "{}", "{}", "no JSON", "[1]"])
        )
        if sealed and isinstance(data.get("digest"), str):
            data["digest"] = sha256(b"QUJD").hexdigest()
    return document


def value_of(key: str, history: History) -> st.SearchStrategy[Any]:
    ids = {
        "run_id": "RUN",
        "parent_run_id": "RUN",
        "step_id": "STEP",
        "signal_id": "SIGNAL",
        "key_id": "DATA_KEY",
        "secret_id": "SECRET",
    }
    right: st.SearchStrategy[Any]
    if key in ids:
        there = [life[1] for life in history.lives if life[0] == ids[key]][-6:]
        right = st.sampled_from(there) if there else st.just(str(new_id()))
    else:
        right = {
            "error_details": st.just({"message": "no"}),
            "effect_spec": st.integers(0, 5).map(lambda n: {"idempotency_key": f"k{n}"}),
            "digest": st.just(sha256(b"{}").hexdigest()),
            "size_bytes": st.just(2),
            "attributes": st.just({"a": 1}),
            "open_parts": st.just("cancel"),
            "next_retry_at": st.just("2026-01-04T00:00:00Z"),
            "source_id": st.integers(0, 20).map(str),
            "step_index": st.integers(0, 5),
            "priority": st.integers(-100, 100),
            "ordering_key": st.just("o"),
            "subject": st.sampled_from(["", "", "a" * 64]),
            "term": st.integers(1, 9),
            "vault_id": st.just(str(new_id())),
            "vault_term": st.integers(1, 3),
            "number": st.integers(1, 9),
            "secret_kind": st.just("token"),
            "expires_at": st.sampled_from(["2026-01-04T00:00:00Z", "2999-01-04T00:00:00Z"]),
            "max_reads": st.integers(1, 3),
            "snapshot_kind": st.sampled_from(["tenant", "agent"]),
            "position": st.just("0-1-1"),
            "cause": st.just("manual"),
            "folder": st.integers(1, 20).map(lambda n: f"2026-01-04T00000{n}Z"),
            "findings": st.just({}),
            "changes": st.just({}),
            "traceparent": st.just("00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
        }.get(key, st.just("x"))
    return st.one_of(right, right, right, right, right, right, right, right, right, junk)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
async def test_no_append_turns_a_gate_red(plane: Plane, tenant: Tenant, audit_dsn: str, dsn: str, data: st.DataObject) -> None:
    history = History()
    taken = 0
    connection = await asyncpg.connect(dsn)
    try:
        for _ in range(60):
            batch = [data.draw(documents(history)) for _ in range(data.draw(st.sampled_from([1, 1, 1, 2, 3])))]
            try:
                await connection.fetch(APPEND, tenant.tenant_id, plane.settings.user_id, json.dumps(batch))
            except asyncpg.PostgresError as refused:
                strange = [] if refused.sqlstate[:2] in {"PE", "22", "23", "40"} else [refused]
            else:
                strange = []
                history.note(batch)
                taken += 1
            assert strange == []
    finally:
        await connection.close()
    outcomes = await Runner(audit_dsn, dsn, plane.settings, Options()).run(CHECKS)
    bad = {
        o.check.name: o.problem or [f"{v.object}: {v.detail}" for v in o.violations]
        for o in outcomes
        if o.verdict not in {"passed", "skipped"}
    }
    bad.pop(
        "times_of_life", None
    )  # a warning: when something happened is what its reporter says, and imported histories may be odd
    assert bad == {}
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        assert len(await tx.events.all()) > taken


async def document(plane: Plane, tenant: Tenant, **changes: Any) -> str:
    facts = {
        "id": str(new_id()), "event_type": "RUN_STARTED", "event_version": 1, "aggregate_type": "RUN", "aggregate_id": str(new_id()),
        "aggregate_version": 1, "event_data": {"run_type": "test"}, "correlation_id": str(new_id()), "actor": "agent:x", "source": "service",
    }  # fmt: skip
    return json.dumps([{**facts, **changes}])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"occurred_at": "0001-01-01T00:00:00+01:00"}, "occurred_at: .* before the year 1"),
        ({"occurred_at": "200000-01-01"}, "occurred_at: .* still to come"),
        ({"occurred_at": "infinity"}, "occurred_at: infinity .* still to come"),
        ({"causation_id": "00000000-0000-7000-8000-00000000dead"}, "causation_id: the cause .* is not in this tenant's log"),
        ({"event_data": {"run_type": "x", "status": "DONE"}}, "has keys that it does not know: status"),
        ({"event_data": {"run_type": 7}}, "RUN_STARTED.run_type is not what its schema says"),
        ({"event_data": {"run_type": "x", "attributes": 7}}, "RUN_STARTED.attributes is not what"),
        ({"event_data": {"run_type": "x" * 201}}, "too long for type character varying"),
        ({"actor": "system:outbox-worker/me"}, "a service cannot write as system:outbox-worker/me"),
        ({"source": "operator"}, "a service cannot write as agent:x from operator"),
        ({"attachment": "{}"}, "RUN_STARTED takes no attachment"),
        ({"event_type": "EFFECT_CANCEL_REQUESTED", "aggregate_type": "EFFECT", "event_data": {}}, "is written by the plane only"),
    ],
)
async def test_what_would_be_poison_is_refused_by_name(plane: Plane, tenant: Tenant, changes: dict[str, Any], words: str) -> None:
    async with plane.pool.acquire() as connection:
        with pytest.raises(asyncpg.PostgresError, match=words):
            await connection.fetch(APPEND, tenant.tenant_id, plane.settings.user_id, await document(plane, tenant, **changes))


async def test_what_creation_said_stays_said(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        signal = await tx.signals.receive("web", "1", "order", {"n": 1})
        created = tx.runs.create(signal, run_type="first")
        saved = tx.checkpoints.save(created, {"n": 1})
    more = {"correlation_id": str(signal.correlation_id), "aggregate_version": 2}
    for subject, cause, event_type, data in (
        (signal, signal, "SIGNAL_PROCESSED", {"source_id": "2", "signal_type": "other", "payload": {}}),
        (created, created, "RUN_STARTED", {"run_type": "second"}),
    ):
        text = await document(
            plane, tenant, **more, aggregate_id=str(subject.id), event_type=event_type, aggregate_type=subject.kind, event_data=data,
            causation_id=str(cause.last_event_id),
        )  # fmt: skip
        async with plane.pool.acquire() as connection:
            with pytest.raises(asyncpg.PostgresError, match="has keys that it does not"):
                await connection.fetch(APPEND, tenant.tenant_id, plane.settings.user_id, text)
    text = await document(
        plane, tenant, **more, aggregate_id=str(saved.id), event_type="CHECKPOINT_RESTORED", aggregate_type="CHECKPOINT", event_data={},
        causation_id=str(saved.last_event_id), attachment='{"n": 2}',
    )  # fmt: skip
    async with plane.pool.acquire() as connection:
        with pytest.raises(asyncpg.PostgresError, match="attachment"):
            await connection.fetch(APPEND, tenant.tenant_id, plane.settings.user_id, text)


async def test_size_limits_are_the_databases(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    admin.execute("UPDATE canon.size_limits SET event_bytes = 2048, batch_events = 5")
    many = json.dumps([json.loads(await document(plane, tenant))[0] for _ in range(6)])
    large = await document(plane, tenant, event_data={"run_type": "x", "input_data": [str(new_id()) for _ in range(200)]})
    async with plane.pool.acquire() as connection:
        for text, words in ((many, "6 events exceeds the limit of 5"), (large, "exceeds the limit of 2048")):
            with pytest.raises(asyncpg.PostgresError, match=words):
                await connection.fetch(APPEND, tenant.tenant_id, plane.settings.user_id, text)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("purge_outbox('-1 year')", "older_than"),
        ("purge_outbox('1 day', -5)", "most"),
        ("claim_outbox('w', gen_random_uuid(), '{TEST}', '{1}', '1000 years')", "lease"),
        ("claim_outbox('w', gen_random_uuid(), '{TEST}', '{1}', '-1 second')", "lease"),
        ("extend_leases('{}', '{}', '{}', '2 days')", "lease"),
        ("report_destinations('{00000000-0000-7000-8000-00000000dead}', '{x}', '{f}', '{9}', '{1}', '{1000 years}')", "rests"),
        ("report_destinations('{00000000-0000-7000-8000-00000000dead}', '{x}', '{f}', '{9}', '{-1}', '{1 second}')", "thresholds"),
        ("settle_outbox('user:me', '{}', '{}', '{}', '{}', '{}', '{}', '{}')", "is no outbox worker"),
        (
            "settle_outbox('system:outbox-worker/w', ARRAY[new_id()], ARRAY[new_id()], ARRAY[new_id()], ARRAY[new_id()], '{FAILED}', '{null}', '{0}')",
            "needs an error",
        ),
        (
            "settle_outbox('system:outbox-worker/w', ARRAY[new_id()], ARRAY[new_id()], ARRAY[new_id()], ARRAY[new_id()], '{FAILED}', '{\"{}\"}', '{200000 years}')",
            "within 30 days",
        ),
        ("add_tenant_user(system_tenant_id(), gen_random_uuid(), 'user:me')", "nobody belongs to the system tenant"),
        (
            "issue_token(system_tenant_id(), new_id(), 'n', 'admin', 'user:me', gen_random_uuid(), sha256('x'), NULL, 'user:me')",
            "nobody belongs to the system tenant",
        ),
        ("create_tenant(new_id(), '', new_id(), 'user:me')", "TENANT_CREATED: its data are with a wrong name"),
        ("create_tenant(new_id(), 'x', new_id(), 'system:outbox-worker/me')", "belongs to outbox workers"),
    ],
)
async def test_arguments_are_checked_where_the_rows_are(plane: Plane, tenant: Tenant, call: str, words: str) -> None:
    async with plane.pool.acquire() as connection:
        with pytest.raises(asyncpg.PostgresError, match=words):
            await connection.execute(f"SELECT persistence.{call}")


async def test_only_who_runs_the_gates_may_record_them(plane: Plane, audit_dsn: str) -> None:
    right = '{"checks": [], "seconds": 0}'
    async with plane.pool.acquire() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SELECT persistence.record_gates($1::text::jsonb, 'user:me')", right)
    auditor = await asyncpg.connect(audit_dsn)
    try:
        for wrong in (
            '{"x": 1}',
            "[]",
            "7",
            '{"checks": [{"id": 1}], "seconds": 0}',
            '{"checks": [], "seconds": "long"}',
            '{"checks": {}, "seconds": 1}',
        ):
            with pytest.raises(asyncpg.PostgresError, match="GATES_RUN"):
                await auditor.execute("SELECT persistence.record_gates($1::text::jsonb, 'user:me')", wrong)
        await auditor.execute("SELECT persistence.record_gates($1::text::jsonb, 'user:me')", right)
    finally:
        await auditor.close()


async def test_a_token_cannot_act_as_a_worker(plane: Plane, tenant: Tenant) -> None:

    with pytest.raises(InvalidInput, match="acts_as"):
        await plane.tokens.issue(tenant.tenant_id, "t", role=Role.READER, acts_as="system:outbox-worker/x", actor="user:me")


async def test_an_unreadable_value_does_not_hide_the_rest(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    """Written by a superuser past every check: the rows beside it are read all the same, and so is what can be read of it."""
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        odd, late, plain = (tx.runs.start(run_type="test", correlation_id=new_id()) for _ in range(3))
    admin.execute("SET session_replication_role = replica")
    admin.execute("UPDATE orchestration_events SET occurred_at = '200000-01-01' WHERE aggregate_id = %s", (late.id,))
    admin.execute("UPDATE runs SET started_at = '0044-03-15 BC' WHERE id = %s", (late.id,))
    admin.execute("UPDATE runs SET input_data = %s::jsonb WHERE id = %s", ("[" * 1500 + "]" * 1500, odd.id))
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        runs = {run.id: run for run in await tx.runs.all()}
        events = {event.aggregate_id: event for event in (await tx.events.read())[0]}
        trace = await trace_run(tx, late.id)
    assert set(runs) == {odd.id, late.id, plain.id} < set(events)
    assert (runs[late.id].started_at.year, events[late.id].occurred_at.year, events[plain.id].occurred_at.year > 2000) == (
        1,
        9999,
        True,
    )
    assert "unreadable" in runs[odd.id].input_data
    assert str(late.id) in trace.model_dump_json()


def event(event_type: str, subject: Any, version: int, data: dict[str, Any], of: Any, **more: Any) -> dict[str, Any]:
    """One event, as it goes to append_events; ``of`` has the correlation and the last event, its cause."""
    return {
        "id": str(new_id()), "event_type": event_type, "event_version": 1, "aggregate_type": CANON.event_types[event_type].aggregate,
        "aggregate_id": str(subject), "aggregate_version": version, "event_data": data, "correlation_id": str(of.correlation_id),
        "causation_id": str(of.last_event_id), "actor": "agent:x", "source": "service", **more,
    }  # fmt: skip


async def send(plane: Plane, tenant: Tenant, *batch: dict[str, Any]) -> list[bool]:
    async with plane.pool.acquire() as connection:
        rows = await connection.fetch(APPEND, tenant.tenant_id, plane.settings.user_id, json.dumps(batch))
    return [row["is_new"] for row in rows]


@pytest.mark.parametrize("state", [r'"\ud800"', r'"\u0000"', "1e200000", "{"])
async def test_a_state_that_cannot_be_read_is_refused(plane: Plane, tenant: Tenant, state: str) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
    data = {"run_id": str(run.id), "digest": sha256(state.encode()).hexdigest(), "size_bytes": len(state)}
    with pytest.raises(asyncpg.PostgresError, match="attachment is no JSON that PostgreSQL can hold"):
        await send(plane, tenant, event("CHECKPOINT_SAVED", new_id(), 1, data, run, attachment=state))


async def test_the_state_of_a_checkpoint_is_kept_however_its_id_is_written(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
    saved = new_id()
    data = {"run_id": str(run.id), "digest": sha256(b"[7]").hexdigest(), "size_bytes": 3}
    await send(plane, tenant, event("CHECKPOINT_SAVED", str(saved).upper(), 1, data, run, attachment="[7]"))
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        assert (await tx.checkpoints.get(saved)).state == [7]


@pytest.mark.parametrize("name", ["actor", "source"])
async def test_who_did_it_and_through_what_is_said(plane: Plane, tenant: Tenant, name: str) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
    with pytest.raises(asyncpg.PostgresError, match=f"event 1: {name}: is missing"):
        await send(plane, tenant, event("RUN_COMPLETED", run.id, 2, {}, run, **{name: None}))


async def test_versions_go_up_in_a_batch(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
    child = new_id()
    begun = event("RUN_STARTED", child, 1, {"run_type": "r", "parent_run_id": str(run.id)}, run)
    ended = event("RUN_COMPLETED", child, 2, {}, run)
    with pytest.raises(asyncpg.PostgresError, match="version 2 stands before version 1 in the batch"):
        await send(plane, tenant, ended, begun)
    assert await send(plane, tenant, begun, ended) == [True, True]


async def test_a_run_is_not_its_own_parent(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
    one, other = new_id(), new_id()
    for batch in (
        [event("RUN_STARTED", one, 1, {"run_type": "r", "parent_run_id": str(one)}, run)],
        [
            event("RUN_STARTED", one, 1, {"run_type": "r", "parent_run_id": str(other)}, run),
            event("RUN_STARTED", other, 1, {"run_type": "r", "parent_run_id": str(one)}, run),
        ],
    ):
        with pytest.raises(asyncpg.PostgresError, match="parent_run_id: RUN .* begins after its part"):
            await send(plane, tenant, *batch)


async def test_a_batch_without_step_indexes_is_answered_when_it_is_sent_again(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
    steps = [event("STEP_STARTED", new_id(), 1, {"run_id": str(run.id), "step_type": "s"}, run) for _ in range(2)]
    assert await send(plane, tenant, *steps) == [True, True]
    assert await send(plane, tenant, *steps) == [False, False]
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        assert sorted(step.step_index for step in await tx.steps.all(run_id=run.id)) == [0, 1]


async def test_who_is_no_member_waits_for_no_key(plane: Plane, tenant: Tenant, dsn: str) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
        tx.effects.request(run, "TEST", spec={}, idempotency_key="k", ordering_key="o")
        await tx.flush()  # the key is this transaction's now
        stranger = await asyncpg.connect(dsn)
        try:
            await stranger.execute("SET lock_timeout = '20s'")
            asked = event("EFFECT_REQUESTED", new_id(), 1, {"effect_type": "TEST", "ordering_key": "o"}, run)
            with pytest.raises(asyncpg.PostgresError) as refused:
                await stranger.fetch(APPEND, tenant.tenant_id, new_id(), json.dumps([asked]))
            assert refused.value.sqlstate == "PE005"
        finally:
            await stranger.close()


async def test_a_recorded_step_has_no_open_call(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
    step = new_id()
    call = event("TOOL_CALL_STARTED", new_id(), 1, {"run_id": str(run.id), "step_id": str(step), "tool_name": "t"}, run)
    recorded = event("STEP_RECORDED", step, 1, {"run_id": str(run.id), "step_type": "s"}, run)
    with pytest.raises(asyncpg.PostgresError, match="step_id: STEP .* begins after its part TOOL_CALL"):
        await send(plane, tenant, call, recorded)
    with pytest.raises(asyncpg.PostgresError, match="TOOL_CALL .* cannot begin or go on: its STEP .* is COMPLETED"):
        await send(plane, tenant, recorded, call)


@pytest.fixture(params=[0, 8], ids=["together", "one by one"])
def way(request: pytest.FixtureRequest, admin: psycopg.Connection) -> None:
    """Batches of the test go in by one way or the other."""
    admin.execute("UPDATE canon.size_limits SET one_by_one = %s", (request.param,))


@pytest.mark.usefixtures("way")
async def test_what_begins_before_its_whole_is_refused(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
        signal = tx.signals.record(NewSignal(source_channel="c", source_id="1", signal_type="t", payload={}))
    later = new_id()
    begun = event("RUN_STARTED", later, 1, {"run_type": "r"}, run)
    step = event("STEP_STARTED", new_id(), 1, {"run_id": str(later), "step_type": "s"}, run)
    told = event(
        "SIGNAL_RECEIVED", new_id(), 1, {"source_channel": "c", "source_id": "2", "signal_type": "t", "payload": {}}, signal
    )
    moved = event("RUN_STARTED", new_id(), 1, {"run_type": "r", "signal_id": told["aggregate_id"]}, signal)
    for batch, words in (
        ([step, begun], "run_id: RUN .* begins after its part STEP"),
        ([moved, told], "signal_id: SIGNAL .* begins after its part RUN"),
    ):
        with pytest.raises(asyncpg.PostgresError, match=words):
            await send(plane, tenant, *batch)
        assert await send(plane, tenant, *reversed(batch)) == [True, True]


@pytest.mark.usefixtures("way")
async def test_what_begins_before_its_whole_is_refused_in_a_savepoint_too(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
    begun = event("RUN_STARTED", new_id(), 1, {"run_type": "r"}, run)
    step = event("STEP_STARTED", new_id(), 1, {"run_id": begun["aggregate_id"], "step_type": "s"}, run)
    with pytest.raises(asyncpg.PostgresError, match="run_id: RUN .* begins after its part STEP"):
        async with plane.pool.acquire() as connection, connection.transaction(), connection.transaction():
            await connection.fetch(APPEND, tenant.tenant_id, plane.settings.user_id, json.dumps([step, begun]))


@pytest.mark.usefixtures("way")
async def test_effects_asked_for_at_the_same_moment_are_answered(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")

    def batch() -> list[dict[str, Any]]:
        asked = [{"run_id": str(run.id), "effect_type": "TEST", "effect_spec": {"idempotency_key": f"k{n}"}} for n in range(4)]
        return [event("EFFECT_REQUESTED", new_id(), 1, data, run) for data in asked]

    first = batch()
    async with plane.pool.acquire() as one, plane.pool.acquire() as other:
        async with one.transaction():
            await one.fetch(APPEND, tenant.tenant_id, plane.settings.user_id, json.dumps(first))
            asking = asyncio.create_task(other.fetch(APPEND, tenant.tenant_id, plane.settings.user_id, json.dumps(batch())))
            waits = "SELECT 1 FROM pg_locks WHERE pid = %s AND locktype = 'transactionid' AND NOT granted"
            while not admin.execute(waits, (other.get_server_pid(),)).fetchone():
                await asyncio.sleep(0.01)
        answers = await asking
    assert [row["is_new"] for row in answers] == [False] * 4
    assert sorted(str(row["aggregate_id"]) for row in answers) == sorted(item["aggregate_id"] for item in first)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("then", ["RUN_RETRIED", "RUN_CANCELLED"])
async def test_nothing_begins_while_its_whole_has_failed(plane: Plane, tenant: Tenant, then: str) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
    failed = event("RUN_FAILED", run.id, 2, {"error_details": {"message": "no"}}, run)
    step = event("STEP_STARTED", new_id(), 1, {"run_id": str(run.id), "step_type": "s"}, run)
    after = event(then, run.id, 3, {}, run)
    with pytest.raises(asyncpg.PostgresError, match="STEP .* cannot begin or go on: its RUN .* is FAILED"):
        await send(plane, tenant, failed, step, after)
    assert await send(plane, tenant, failed) == [True]
    with pytest.raises(asyncpg.PostgresError, match="STEP .* cannot begin or go on: its RUN .* is FAILED"):
        await send(plane, tenant, step, after)
    assert await send(plane, tenant, after) == [True]


@pytest.mark.usefixtures("way")
async def test_a_request_that_is_known_gives_its_place_to_its_cause(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
        asked = tx.effects.request(run, "TEST", spec={"n": 1}, idempotency_key="k")
    spec = {"idempotency_key": "k", "n": 1}
    again = event("EFFECT_REQUESTED", new_id(), 1, {"run_id": str(run.id), "effect_type": "TEST", "effect_spec": spec}, run)
    follows = {**event("RUN_SUSPENDED", run.id, 2, {}, run), "causation_id": again["id"]}
    async with plane.pool.acquire() as connection:
        rows = await connection.fetch(APPEND, tenant.tenant_id, plane.settings.user_id, json.dumps([again, follows]))
        answers = {str(row["event_id"]): (row["aggregate_id"], row["is_new"]) for row in rows}
    assert answers == {again["id"]: (asked.id, False), follows["id"]: (run.id, True)}
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        [suspended] = [e for e in await tx.events.of_aggregate(run.id) if e.event_type == "RUN_SUSPENDED"]
        assert suspended.causation_id == run.last_event_id
    begun = event("RUN_STARTED", new_id(), 1, {"run_type": "r"}, run)
    assert await send(plane, tenant, begun, {**again, "id": str(new_id()), "event_version": 7}) == [True, False]
    other = event("EFFECT_REQUESTED", new_id(), 1, {"run_id": str(run.id), "effect_type": "OTHER", "effect_spec": spec}, run)
    with pytest.raises(asyncpg.PostgresError, match="idempotency key 'k' belongs to effect"):
        await send(plane, tenant, other)


@pytest.mark.usefixtures("way")
async def test_a_request_that_is_sent_again_after_its_record_was_purged_leaves_nothing(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
    spec = {"idempotency_key": "k", "n": 1}
    asked = event("EFFECT_REQUESTED", new_id(), 1, {"run_id": str(run.id), "effect_type": "TEST", "effect_spec": spec}, run)
    assert await send(plane, tenant, asked) == [True]
    assert await worker_with(_deliver).drain(plane) == 1
    admin.execute("UPDATE outbox_events SET published_at = published_at - interval '1 year', last_event_id = %s", (new_id(),))
    assert await Housekeeping(retention=timedelta(days=1)).round(plane) == 1
    assert await send(plane, tenant, asked) == [False]
    assert admin.execute("SELECT count(*) FROM outbox_events").fetchone() == (0,)


@pytest.mark.usefixtures("way")
async def test_a_key_whose_record_was_purged_may_be_used_again(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection, audit_dsn: str
) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
    data = {"run_id": str(run.id), "effect_type": "TEST", "effect_spec": {"idempotency_key": "k"}}
    for _ in range(2):
        assert await send(plane, tenant, event("EFFECT_REQUESTED", new_id(), 1, data, run)) == [True]
        assert await worker_with(_deliver).drain(plane) == 1
        admin.execute("UPDATE outbox_events SET published_at = published_at - interval '1 year', last_event_id = %s", (new_id(),))
        assert await Housekeeping(retention=timedelta(days=1)).round(plane) == 1
    connection = await asyncpg.connect(audit_dsn)
    report = await verify(connection)
    await connection.close()
    assert report.differences == []


@pytest.mark.usefixtures("way")
async def test_an_event_id_stands_once_in_a_batch_also_where_a_request_was_known(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
        tx.effects.request(run, "TEST", spec={}, idempotency_key="k")
    data = {"run_id": str(run.id), "effect_type": "TEST", "effect_spec": {"idempotency_key": "k"}}
    asked = event("EFFECT_REQUESTED", new_id(), 1, data, run)
    other = event("RUN_SUSPENDED", run.id, 2, {}, run, id=asked["id"])
    for batch in ([asked, other], [other, asked]):
        with pytest.raises(asyncpg.PostgresError, match="event id .* stands twice in the batch") as refused:
            await send(plane, tenant, *batch)
        assert refused.value.sqlstate == "PE004"


@pytest.mark.usefixtures("way")
async def test_what_cannot_be_numbered_is_refused_for_good(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
        tx.steps.start(run, step_type="s", index=2**31 - 1)
    step = event("STEP_STARTED", new_id(), 1, {"run_id": str(run.id), "step_type": "s"}, run)
    begun = event("RUN_STARTED", new_id(), 0, {}, run, causation_id=None)
    for batch in ([step], [begun]):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await send(plane, tenant, *batch)
        assert refused.value.sqlstate != "40001"


@pytest.mark.usefixtures("way")
async def test_a_version_may_be_text_and_the_run_is_locked_all_the_same(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor="agent:x") as tx:
        run = tx.runs.start(run_type="r")
    ended = {**event("RUN_COMPLETED", run.id, 2, {}, run), "aggregate_version": "2"}
    with pytest.raises(asyncpg.PostgresError, match="cannot end in a transaction that is repeatable read"):
        async with plane.pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            await connection.fetch(APPEND, tenant.tenant_id, plane.settings.user_id, json.dumps([ended]))
    braced = {**ended, "aggregate_id": "{" + str(run.id) + "}"}
    assert await send(plane, tenant, braced) == [True]


async def _deliver(_: Delivery) -> None:
    return None
