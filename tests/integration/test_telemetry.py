"""What it tells of itself: metrics, spans, a trace that crosses the outbox."""

from collections.abc import Iterator

import httpx2
import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from persistence import Plane
from persistence.errors import Conflict
from persistence.gates.checks import shipped_suites
from persistence.gates.fit import Options, Runner
from persistence.gates.record import record
from persistence.models import Tenant
from persistence.outbox import Backoff, Delivery, PermanentFailure
from persistence.queries.gates import last_gates
from tests.helpers import ACTOR, request_effect, start_run, worker_with
from tests.serving import serving


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_writing_is_counted(plane: Plane, tenant: Tenant) -> None:
    events, committed = value("persistence_events_appended_total"), value("persistence_transactions_total", outcome="committed")
    run = await start_run(plane, tenant.tenant_id)
    assert value("persistence_events_appended_total") == events + 1
    assert value("persistence_transactions_total", outcome="committed") == committed + 1
    conflicts = value("persistence_transactions_total", outcome="conflict")
    for _ in range(2):
        try:
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                tx.runs.complete(run)
        except Conflict:
            pass
    assert value("persistence_transactions_total", outcome="conflict") == conflicts + 1
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        await tx.runs.get(run.id)
    assert value("persistence_transactions_total", outcome="committed") == committed + 2


async def test_delivering_is_counted(plane: Plane, tenant: Tenant) -> None:
    kind = "COUNTED"
    for key in ("good", "bad", "late"):
        await request_effect(plane, tenant.tenant_id, key, kind)

    async def deliver(delivery: Delivery) -> None:
        if delivery.idempotency_key == "bad":
            raise PermanentFailure("no")
        if delivery.idempotency_key == "late":
            raise ConnectionError("later")

    await worker_with(deliver, kind, backoff=Backoff(base=3600, cap=3600)).drain(plane)
    for outcome in ("executed", "failed", "dead"):
        assert value("persistence_outbox_settled_total", effect_type=kind, outcome=outcome) == 1
    assert value("persistence_outbox_claimed_total", effect_type=kind) == 3
    assert value("persistence_handler_seconds_count", effect_type=kind) == 3
    assert value("persistence_commit_to_start_seconds_count", effect_type=kind) == 3


async def test_the_service_offers_metrics_to_who_has_the_token(
    dsn: str, admin_dsn: str, audit_dsn: str, tenant: Tenant, admin: psycopg.Connection
) -> None:
    async with Plane(dsn=dsn, admin_dsn=admin_dsn, audit_dsn=audit_dsn, metrics_token="secret") as plane:
        await request_effect(plane, tenant.tenant_id, "waits", "SLOW")
        outcomes = await Runner(audit_dsn, dsn, plane.settings, Options()).run(shipped_suites())
        await record(audit_dsn, plane.settings, outcomes, Options(), seconds=1.5, actor="user:op")
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.runs.start(run_type="open")
            await tx.flush()  # a transaction that writes, and is open
            async with serving(plane) as service, httpx2.AsyncClient(timeout=60, base_url=service.url) as client:
                assert (await client.get("/metrics")).status_code == 401
                user = {"Authorization": f"Bearer {await service.token(tenant)}"}
                assert (await client.get("/metrics", headers=user)).status_code == 401
                answer = await client.get("/metrics", headers={"Authorization": "Bearer secret"})
                seen = await last_gates(tx)
    assert answer.status_code == 200
    text = answer.text
    assert 'persistence_outbox_entries{effect_type="SLOW",state="due"} 1.0' in text
    assert 'persistence_outbox_tenant_entries{state="open",tenant="acme"} 1.0' in text
    assert 'persistence_gates{severity="error",verdict="passed"}' in text
    assert "persistence_database_up 1.0" in text
    assert 'persistence_pool_connections{state="busy"} 1.0' in text
    assert 'persistence_outbox_tenant_oldest_seconds{tenant="acme"}' in text
    assert "persistence_log_horizon_lag_seconds{holder=" in text
    assert 'holder="nobody"' not in text
    assert 'persistence_stalled{kind="run"} 0.0' in text
    assert seen is not None
    assert len(seen.checks) == len(outcomes)
    assert (seen.actor, seen.seconds) == ("user:op", 1.5)


async def test_without_a_metrics_token_there_are_none(plane: Plane) -> None:
    async with serving(plane) as service, httpx2.AsyncClient(timeout=60, base_url=service.url) as client:
        assert (await client.get("/metrics", headers={"Authorization": "Bearer x"})).status_code == 404


@pytest.fixture(scope="module")
def provider() -> TracerProvider:
    """One for the process: OpenTelemetry lets it be set once."""
    made = TracerProvider()
    trace.set_tracer_provider(made)
    return made


@pytest.fixture
def spans(provider: TracerProvider) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    processor = SimpleSpanProcessor(exporter)
    provider.add_span_processor(processor)
    yield exporter
    processor.shutdown()


async def test_one_trace_crosses_the_outbox(plane: Plane, tenant: Tenant, spans: InMemorySpanExporter) -> None:
    with trace.get_tracer("a service").start_as_current_span("order") as outer:
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            signal = await tx.signals.receive("web", "1", "order")
            run = tx.runs.start(signal, run_type="order")
            one = tx.effects.request(run, "TRACED", spec={}, idempotency_key="k")
            tx.effects.request_many(run, "TRACED", {"many": {}})
        ours = outer.get_span_context().trace_id
    inside: list[int] = []

    async def deliver(delivery: Delivery) -> None:
        inside.append(trace.get_current_span().get_span_context().trace_id)

    await worker_with(deliver, "TRACED").drain(plane)
    named = {span.name: span for span in spans.get_finished_spans()}
    assert {
        "persistence.transaction",
        "persistence.append",
        "persistence.claim",
        "persistence.settle",
        "persistence.deliver TRACED",
    } <= set(named)
    assert inside == [ours, ours]
    delivered = named["persistence.deliver TRACED"]
    assert delivered.context is not None
    assert delivered.context.trace_id == ours
    assert (delivered.attributes or {})["persistence.attempt"] == 1
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        [received, *_] = await tx.events.of_aggregate(signal.id)
        entry = await tx.outbox.get(one.id)
    assert received.event_data["attributes"]["traceparent"].split("-")[1] == f"{ours:032x}"
    assert str(entry.traceparent).split("-")[1] == f"{ours:032x}"


async def test_a_trace_does_not_make_another_request_of_the_same(plane: Plane, tenant: Tenant, spans: InMemorySpanExporter) -> None:
    for _ in range(2):
        with trace.get_tracer("a service").start_as_current_span("order"):
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                signal = await tx.signals.receive("web", "1", "order")
                run = tx.runs.start(run_type="order", run_id=None)
                tx.effects.request(run, "TRACED", spec={}, idempotency_key="k")
    assert signal.is_new is False
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.effects.count() == 1


async def test_a_handler_that_fails_leaves_a_failed_span(plane: Plane, tenant: Tenant, spans: InMemorySpanExporter) -> None:
    await request_effect(plane, tenant.tenant_id, "bad", "TRACED")

    async def refuse(_: Delivery) -> None:
        raise PermanentFailure("no such mailbox")

    await worker_with(refuse, "TRACED").drain(plane)
    [delivered] = [span for span in spans.get_finished_spans() if span.name == "persistence.deliver TRACED"]
    assert delivered.status.status_code is trace.StatusCode.ERROR
    assert delivered.events[0].name == "exception"
