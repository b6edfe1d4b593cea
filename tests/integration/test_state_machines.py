"""Random lives of all aggregates: the local machine, the database and the replay of the log must agree at every step."""

from hashlib import sha256
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persistence import Plane
from persistence.canon import CANON, NEW
from persistence.errors import InvalidTransition
from persistence.gates.replay import verify
from persistence.models import AggregateModel, NewSignal, Tenant, new_id
from persistence.transaction import Transaction
from tests.helpers import ACTOR

ERROR = {"message": "no"}
SERVICE_EVENTS = {
    kind: tuple(name for name in CANON.transitions[kind] if CANON.event_types[name].writer == "service")
    for kind in ("SIGNAL", "RUN", "STEP", "TOOL_CALL", "CHECKPOINT", "EFFECT")
}


SAMPLES: dict[str, Any] = {
    "error_details": ERROR, "source_channel": "c", "source_id": "s", "signal_type": "t", "run_type": "t", "step_type": "t", "tool_name": "t",
    "effect_type": "t", "effect_spec": {"idempotency_key": "k"}, "digest": sha256(b"{}").hexdigest(), "size_bytes": 2,
}  # fmt: skip


def attachment_for(event_type: str) -> str | None:
    return "{}" if event_type == "CHECKPOINT_SAVED" else None


def data_for(event_type: str) -> dict[str, Any]:
    """What the event's data must hold."""
    return {key: SAMPLES.get(key) or str(new_id()) for key in CANON.event_types[event_type].required}


class Life:
    """One aggregate on its way, by the commands of its repository."""

    def __init__(self, tx: Transaction, kind: str, begin: str) -> None:
        self.tx, self.kind = tx, kind
        run = tx.runs.start(run_type="base")
        step = tx.steps.start(run, step_type="base")
        self.state: AggregateModel
        match begin:
            case "SIGNAL_RECEIVED":
                self.state = tx.signals.record(NewSignal(source_channel="c", source_id=str(new_id()), signal_type="t"))
            case "RUN_CREATED":
                self.state = tx.runs.create(run_type="t")
            case "RUN_STARTED":
                self.state = tx.runs.start(run_type="t")
            case "STEP_SCHEDULED":
                self.state = tx.steps.schedule(run, step_type="t")
            case "STEP_STARTED":
                self.state = tx.steps.start(run, step_type="t")
            case "STEP_RECORDED":
                self.state = tx.steps.record(run, step_type="t", output=1)
            case "STEP_AWAITED":
                self.state = tx.steps.wait(run, step_type="t", signal_type="s", signal_key="k")
            case "TOOL_CALL_REQUESTED":
                self.state = tx.tool_calls.request(step, tool_name="t")
            case "TOOL_CALL_STARTED":
                self.state = tx.tool_calls.start(step, tool_name="t")
            case "CHECKPOINT_SAVED":
                self.state = tx.checkpoints.save(run, {"n": 1})
            case "EFFECT_REQUESTED":
                self.state = tx.effects.request(step, "NOBODY", spec={}, idempotency_key=str(new_id()))

    @property
    def repository(self) -> Any:
        tx = self.tx
        return {
            "SIGNAL": tx.signals, "RUN": tx.runs, "STEP": tx.steps, "TOOL_CALL": tx.tool_calls, "CHECKPOINT": tx.checkpoints,
            "EFFECT": tx.effects,
        }[self.kind]  # fmt: skip

    def move(self, event_type: str) -> None:
        """Raises InvalidTransition exactly when the canon has no such way."""
        allowed = self.state.status in CANON.transitions[self.kind][event_type].sources
        if allowed:
            self.state = self.repository._advance(self.state, event_type, data_for(event_type), {})
        else:
            with pytest.raises(InvalidTransition):
                self.repository._advance(self.state, event_type, data_for(event_type), {})


@st.composite
def lives(draw: st.DrawFn) -> tuple[str, str, list[str]]:
    kind = draw(st.sampled_from(sorted(SERVICE_EVENTS)))
    begin = draw(st.sampled_from([e for e in SERVICE_EVENTS[kind] if NEW in CANON.transitions[kind][e].sources]))
    return kind, begin, draw(st.lists(st.sampled_from(SERVICE_EVENTS[kind]), max_size=12))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(lives(), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
async def test_machine_database_and_replay_agree(
    plane: Plane, tenant: Tenant, audit_dsn: str, plan: list[tuple[str, str, list[str]]], flushes: int
) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        walked = []
        for kind, begin, events in plan:
            life = Life(tx, kind, begin)
            for number, event in enumerate(events):
                life.move(event)
                if flushes >> (number % 32) & 1:
                    await tx.flush()
            walked.append(life)
        for life in walked:
            stored = await life.repository.get(life.state.id)
            clock = {
                "created_at",
                "updated_at",
                "started_at",
                "completed_at",
                "processed_at",
                "received_at",
                "restored_at",
                "is_new",
                "step_index",
            }
            assert stored.model_dump(exclude=clock) == life.state.model_dump(exclude=clock)
    connection = await asyncpg.connect(audit_dsn)
    try:
        report = await verify(connection)
        assert report.differences == []
    finally:
        await connection.close()


CASES = [
    (kind, event, status)
    for kind, machine in SERVICE_EVENTS.items()
    for event in machine
    for status in CANON.aggregates[kind].statuses
]


async def test_the_database_allows_exactly_what_the_canon_allows(plane: Plane, tenant: Tenant) -> None:
    """Every event against every status, past the local machine, straight to append_events."""
    ways = _shortest_ways()
    for kind, event, status in CASES:
        if (kind, status) not in ways:
            continue  # only worker and operator lead there
        allowed = status in CANON.transitions[kind][event].sources
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            begin, *rest = ways[kind, status]
            life = Life(tx, kind, begin)
            for step in rest:
                life.move(step)
            assert life.state.status == status
        subject = life.state
        try:
            async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
                Life.repository.fget(life)._work = tx  # type: ignore[attr-defined]
                life.repository._record(
                    event,
                    subject.id,
                    subject.version + 1,
                    data_for(event),
                    {},
                    new_id(),
                    subject.correlation_id,
                    subject.last_event_id,
                    attachment_for(event),
                )
        except InvalidTransition:
            assert not allowed, (kind, event, status)
        else:
            assert allowed, (kind, event, status)


def _shortest_ways() -> dict[tuple[str, str], list[str]]:
    ways: dict[tuple[str, str], list[str]] = {}
    for kind, events in SERVICE_EVENTS.items():
        edge: list[tuple[str, list[str]]] = [(NEW, [])]
        while edge:
            status, way = edge.pop(0)
            for event in events:
                transition = CANON.transitions[kind][event]
                if status in transition.sources and (kind, transition.target) not in ways:
                    ways[kind, transition.target] = [*way, event]
                    edge.append((transition.target, [*way, event]))
    return ways
