"""The usual mistakes are answered in words that name what was passed, and what to do."""

from collections.abc import Callable
from typing import Any

import pytest

from persistence import Plane, Transaction
from persistence.errors import InvalidInput
from persistence.models import Tenant

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
