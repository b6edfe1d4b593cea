"""Signals that callers take in at the same time go together, and each caller gets its own answer."""

import asyncio
from typing import Any

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.errors import IdempotencyMismatch, InvalidInput, TenantDenied
from persistence.models import NewSignal, Signal, Tenant, new_id
from persistence.settings import Settings
from tests.helpers import ACTOR

_COMMITS = "SELECT count(*), count(DISTINCT transaction_id) FROM orchestration_events WHERE event_type = 'SIGNAL_RECEIVED'"


def named(name: str, payload: Any = None) -> NewSignal:
    return NewSignal(source_channel="web", source_id=name, signal_type="order", payload=payload)


async def taken(plane: Plane, tenant: Tenant, *signals: NewSignal) -> list[Signal]:
    return await plane.receive(tenant.tenant_id, signals, actor=ACTOR)


async def test_fifty_callers_share_commits(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    answers = await asyncio.gather(*(taken(plane, tenant, named(f"{n}-a", n), named(f"{n}-b", n)) for n in range(50)))
    assert [[(signal.source_id, signal.payload, signal.is_new) for signal in answer] for answer in answers] == [
        [(f"{n}-a", n, True), (f"{n}-b", n, True)] for n in range(50)
    ]
    received, commits = admin.execute(_COMMITS).fetchone() or (0, 0)
    assert received == 100
    assert commits < 25
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        for answer in answers:
            there = await tx.signals.get(answer[0].id)
            assert (there.received_at, there.correlation_id) == (answer[0].received_at, answer[0].correlation_id)


async def test_the_same_signal_by_many_at_once_is_new_to_one(plane: Plane, tenant: Tenant) -> None:
    answers = await asyncio.gather(*(taken(plane, tenant, named("same", 1)) for _ in range(30)))
    assert sum(bool(answer[0].is_new) for answer in answers) == 1
    assert len({answer[0].id for answer in answers}) == 1


async def test_one_that_is_refused_takes_nobody_with_it(plane: Plane, tenant: Tenant) -> None:
    await taken(plane, tenant, named("known", 1))
    answers = await asyncio.gather(
        *(taken(plane, tenant, named(f"{n}")) for n in range(20)),
        taken(plane, tenant, named("beside"), named("known", 2)),
        return_exceptions=True,
    )
    assert isinstance(answers[-1], IdempotencyMismatch)
    assert [answer[0].is_new for answer in answers[:-1] if not isinstance(answer, BaseException)] == [True] * 20
    assert (await taken(plane, tenant, named("beside")))[0].is_new


async def test_tenants_do_not_go_together(plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    answers = await asyncio.gather(*(taken(plane, whose, named(f"{n}")) for n in range(20) for whose in (tenant, other)))
    assert {answer[0].tenant_id for answer in answers} == {tenant.tenant_id, other.tenant_id}
    for whose in (tenant, other):
        async with plane.transaction(whose.tenant_id, actor=ACTOR) as tx:
            assert await tx.signals.count() == 20
    with pytest.raises(TenantDenied):
        await plane.receive(new_id(), [named("x")], actor=ACTOR)


async def test_what_is_wrong_is_named_and_nothing_is_nothing(plane: Plane, tenant: Tenant) -> None:
    with pytest.raises(InvalidInput, match=r"signals\[1\]"):
        await taken(plane, tenant, named("a"), named("b", object()))
    assert await taken(plane, tenant) == []


async def test_attributes_are_kept_whole(plane: Plane, tenant: Tenant) -> None:
    attributes = {"a": None, "b": {"c": None, "d": [None]}, "z": 1}
    signal = NewSignal(source_channel="web", source_id="x", signal_type="order", attributes=attributes)
    [received] = await taken(plane, tenant, signal)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        [event] = await tx.events.of_aggregate(received.id)
    assert event.event_data["attributes"] == attributes


async def test_an_answer_that_was_lost_is_given_again(plane: Plane, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is lost after the commit: the signal is there, and it was this call that received it."""
    assert plane._receiver is not None
    plainly, lost = plane._receiver._receive, []

    async def lose(*arguments: Any) -> Any:
        answer = await plainly(*arguments)
        if not lost:
            lost.append(answer)
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return answer

    monkeypatch.setattr(plane._receiver._groups, "_together", lose)
    [signal] = await taken(plane, tenant, named("once"))
    assert signal.is_new
    assert signal.id == lost[0][0][0]["id"]


async def test_behind_a_transaction_pooler_too(dsn: str, admin_dsn: str, tenant: Tenant) -> None:
    settings = Settings(dsn=dsn, admin_dsn=admin_dsn, transaction_pooler=True)  # type: ignore[arg-type]
    async with Plane(settings=settings) as plane:
        assert (await taken(plane, tenant, named("pooled")))[0].is_new
