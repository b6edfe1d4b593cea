"""The usual mistakes are answered in words that name what was passed, and what to do."""

import asyncio
import traceback
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
import pytest

from persistence import Plane, Transaction
from persistence.database.pool import check_signing
from persistence.database.signing import ContextKeys, padded
from persistence.errors import ConfigurationError, InvalidInput, PermissionDenied
from persistence.models import NewSignal, Tenant
from persistence.outbox import Delivery, Worker
from tests.helpers import ACTOR, get_effect, request_effect

Mistake = Callable[[Transaction], Any]


def _run(tx: Transaction) -> Any:
    return tx.runs.start(run_type="order")


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda tx: tx.runs.start(tx.signals.receive("web", "1", "order", {}), run_type="order"), "origin: was not awaited .await what gives it"),
        (lambda tx: tx.steps.start(tx.runs.get(tx.context.tenant_id), step_type="charge"), "run: was not awaited .await what gives it"),
        (lambda tx: tx.steps.start(_run(tx).id, step_type="charge"), "run: is a UUID, not a Run .an id is not enough"),
        (lambda tx: tx.steps.complete(_run(tx)), "step: is a Run, not a Step"),
        (lambda tx: tx.runs.complete(tx.steps.start(_run(tx), step_type="charge")), "run: is a Step, not a Run"),
        (lambda tx: tx.runs.complete(_run(tx), because=tx.runs.list()), "because: was not awaited"),
        (lambda tx: tx.tool_calls.start(_run(tx), tool_name="search"), "step: is a Run, not a Step"),
        (lambda tx: tx.effects.request(_run(tx).id, "LOG", spec={}, idempotency_key="k"), "origin: is a UUID, not a Step or Run"),
        (lambda tx: tx.effects.request_many(None, "LOG", {"k": {}}), "origin: is a NoneType, not a Step or Run"),
        (lambda tx: tx.checkpoints.save("run", {}), "origin: is a str, not a Run or Step"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
async def test_what_is_not_what_it_should_be_is_named(plane: Plane, tenant: Tenant, mistake: Mistake, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        async with plane.transaction(tenant.tenant_id, actor="agent:a") as tx:
            mistake(tx)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
async def test_a_tenant_is_named_by_its_id(plane: Plane, tenant: Tenant) -> None:
    with pytest.raises(InvalidInput, match=r"tenant_id: .*pass tenant\.tenant_id"):
        plane.transaction(tenant, actor="agent:a")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"tenant_id: .*await what gives the tenant"):
        plane.transaction(plane.tenants.ensure("acme", actor="system:test"), actor="agent:a")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"spec": [1]}, "spec: is a list, not a JSON object"),
        ({"spec": {"idempotency_key": "other"}}, "spec.idempotency_key: says otherwise"),
        ({"spec": {}, "deliver_after": 5}, "deliver_after: is a int, not a datetime"),
        ({"spec": {}, "deliver_after": datetime(2030, 1, 1)}, "deliver_after: has no time zone"),  # noqa: DTZ001
    ],
)
async def test_an_effect_that_is_asked_for_wrongly(plane: Plane, tenant: Tenant, more: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        async with plane.transaction(tenant.tenant_id, actor="agent:a") as tx:
            tx.effects.request(_run(tx), "LOG", idempotency_key="k", **more)


async def test_a_handler_that_forgot_to_await_has_failed(plane: Plane, tenant: Tenant) -> None:
    """Nothing has happened yet, so it must not count as delivered; also where a plain function makes the coroutine."""
    worker = Worker()

    async def send() -> None:
        raise AssertionError("it ran")

    async def forgetful(_: Delivery) -> object:
        return send()

    def plain(_: Delivery) -> object:
        return send()

    worker.handler("ASYNC", max_attempts=1)(forgetful)
    worker.handler("PLAIN", max_attempts=1)(plain)
    asked = [await request_effect(plane, tenant.tenant_id, kind, kind) for kind in ("ASYNC", "PLAIN")]
    await worker.drain(plane)
    for each in asked:
        effect = await get_effect(plane, tenant.tenant_id, each.id)
        assert effect.status == "DEAD_LETTER"
        assert effect.error_details is not None
        assert "should have awaited" in effect.error_details["message"]


async def test_a_login_without_the_worker_role_does_not_try_for_ever(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection, dsn: str
) -> None:
    admin.execute("CREATE ROLE idle LOGIN")
    try:
        admin.execute("GRANT persistence_app TO idle")
        async with Plane(dsn.replace("persistence_service@", "idle@")) as humble:
            with pytest.raises(PermissionDenied, match="GRANT persistence_worker"):
                worker = Worker()
                worker.handler("ANY")(lambda _: None)
                await worker.drain(humble)
    finally:
        admin.execute("DROP OWNED BY idle; DROP ROLE idle")


async def test_a_database_that_asks_for_proofs_says_so(plane: Plane, tenant: Tenant, admin_dsn: str) -> None:
    await check_signing(plane.pool, plane.settings)
    ContextKeys(admin_dsn).set([padded("s" * 40)], actor="user:dba")
    with pytest.raises(ConfigurationError, match="PERSISTENCE_CONTEXT_SECRET"):
        await check_signing(plane.pool, plane.settings)


def test_a_secret_that_is_refused_is_not_shown() -> None:
    secret = "".join(("hu", "sh"))
    with pytest.raises(ConfigurationError) as refusal:
        Plane(context_secret=secret)
    assert secret not in "".join(traceback.format_exception(refusal.value))


async def test_a_forgotten_await_of_a_reception_is_said(plane: Plane, tenant: Tenant) -> None:
    with pytest.raises(InvalidInput, match=r"tx\.signals\.receive: was not awaited"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.runs.start(run_type="test")
            tx.signals.receive("web", "1", "order")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert (await tx.signals.count(), await tx.runs.count()) == (0, 0)
        together = await asyncio.gather(tx.signals.receive("web", "1", "order"))
        assert together[0].is_new
    with pytest.raises(ZeroDivisionError):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            tx.signals.receive("web", "2", "order")
            raise ZeroDivisionError


@pytest.mark.parametrize(
    ("signals", "words"),
    [
        (NewSignal(source_channel="web", source_id="1", signal_type="order"), "is one signal, not a list"),
        ([("web", "1", "order")], r"signals\[0\]: is a tuple, not a NewSignal"),
    ],
)
async def test_what_is_no_list_of_signals_is_named(plane: Plane, tenant: Tenant, signals: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        await plane.receive(tenant.tenant_id, signals, actor=ACTOR)
