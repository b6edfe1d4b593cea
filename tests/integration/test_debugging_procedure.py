"""The debugging procedure of the operational walkthrough: its SQL runs as it is written, by an operator in psql."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from persistence import Plane
from persistence.models import Tenant
from persistence.outbox import Backoff, Delivery, PermanentFailure
from tests.helpers import ACTOR, get_effect, worker_with

PROCEDURE = Path(__file__).parent / "debugging_procedure.sql"


def statements() -> dict[str, str]:
    """The statements by their titles."""
    parts = re.split(r"^-- (.+)$", PROCEDURE.read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True))


class Operator:
    """Someone at a prompt, in a tenant, with the operator's role."""

    def __init__(self, dsn: str, tenant: Tenant, user_id: UUID) -> None:
        self.connection = psycopg.connect(dsn)
        self.connection.execute("SET search_path = persistence")
        self.connection.execute("SELECT enter_tenant(%s, %s)", (tenant.tenant_id, user_id))

    def run(self, title: str, **parameters: Any) -> list[tuple[Any, ...]]:
        sql = re.sub(r"\$(\w+)", r"%(\1)s", statements()[title])
        cursor = self.connection.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def operator(dsn: str, plane: Plane, tenant: Tenant) -> Iterator[Operator]:
    someone = Operator(dsn, tenant, plane.settings.user_id)
    yield someone
    someone.connection.close()


@pytest.fixture
async def failed(plane: Plane, tenant: Tenant) -> dict[str, UUID]:
    """A run that failed after a tool call went wrong twice, with an effect that became a dead letter."""
    error = {"message": "register is down"}
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        signal = await tx.signals.receive("web", "1", "loan.application", {"amount": 7})
        run = tx.runs.start(signal, run_type="loan")
        step = tx.steps.start(run, step_type="assess")
        step = tx.steps.retry(tx.steps.fail(step, error))
        call = tx.tool_calls.fail(tx.tool_calls.start(step, tool_name="register", args={"who": "Ada"}), error)
        step = tx.steps.fail(step, error, because=call)
        effect = tx.effects.request(step, "TEST", spec={"to": "x"}, idempotency_key="k")
        run = tx.runs.fail(run, error, because=step)

    async def refuse(_: Delivery) -> None:
        raise PermanentFailure("no such mailbox")

    await worker_with(refuse, backoff=Backoff()).drain(plane)
    return {
        "correlation_id": signal.correlation_id, "run_id": run.id, "failed_step_id": step.id, "effect_id": effect.id, "outbox_id": effect.id,
        "signal_id": signal.id,
    }  # fmt: skip


async def test_a_run_is_reconstructed(operator: Operator, failed: dict[str, UUID]) -> None:
    correlation = {"correlation_id": failed["correlation_id"]}
    assert len(operator.run("Locate Signal", **correlation)) == 1
    assert len(operator.run("Locate Run", **correlation)) == 1
    assert len(operator.run("Reconstruct Steps", run_id=failed["run_id"])) == 1
    events = operator.run("Retrieve Events", **correlation)
    assert [row[0] for row in events] == [
        "SIGNAL_RECEIVED", "RUN_STARTED", "STEP_STARTED", "STEP_FAILED", "STEP_RETRIED", "TOOL_CALL_STARTED", "TOOL_CALL_FAILED", "STEP_FAILED",
        "EFFECT_REQUESTED", "RUN_FAILED", "EFFECT_DEAD_LETTERED",
    ]  # fmt: skip
    [effect] = operator.run("Check Effects", **correlation)
    assert effect[:3] == (failed["effect_id"], "TEST", "DEAD_LETTER")
    [entry] = operator.run("Check Outbox", **correlation)
    assert entry[:3] == ("TEST", "DEAD_LETTER", 1)
    chain = operator.run("Validate Causation Chain", **correlation)
    assert len(chain) == 11
    assert chain[0][1:] == ("SIGNAL_RECEIVED", None, 0)
    assert max(row[3] for row in chain) >= 6


async def test_a_failed_run_is_diagnosed(operator: Operator, failed: dict[str, UUID]) -> None:
    [step] = operator.run("Query failed steps", run_id=failed["run_id"])
    assert step == (failed["failed_step_id"], "assess", {"message": "register is down"})
    causes = operator.run("Check events for failure cause", failed_step_id=failed["failed_step_id"])
    assert [row[0] for row in causes] == ["STEP_FAILED", "STEP_FAILED"]
    [call] = operator.run("Check tool calls", failed_step_id=failed["failed_step_id"])
    assert call == ("register", {"who": "Ada"}, {"message": "register is down"})
    assert operator.run("Verify retry attempts", failed_step_id=failed["failed_step_id"]) == [(1,)]


async def test_an_effect_is_traced_and_requeued(operator: Operator, failed: dict[str, UUID], plane: Plane, tenant: Tenant) -> None:
    assert operator.run("Check effect status", effect_id=failed["effect_id"]) == [("DEAD_LETTER", 1, None)]
    [entry] = operator.run("Check outbox entry", effect_id=failed["effect_id"])
    assert entry[0] == "DEAD_LETTER"
    [(reason,)] = operator.run("If DEAD_LETTER, check reason", outbox_id=failed["outbox_id"])
    assert reason["message"] == "no such mailbox"
    operator.run("Requeue if transient failure", outbox_id=failed["outbox_id"])
    operator.connection.commit()

    async def accept(_: Delivery) -> str:
        return "accepted"

    assert await worker_with(accept).drain(plane) == 1
    effect = await get_effect(plane, tenant.tenant_id, failed["effect_id"])
    assert (effect.status, effect.retry_count) == ("EXECUTED", 0)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        life = await tx.events.of_aggregate(effect.id)
        assert [event.event_type for event in life][-2:] == ["EFFECT_REQUEUED", "EFFECT_EXECUTED"]
        assert life[-2].actor == f"user:{plane.settings.user_id}"
