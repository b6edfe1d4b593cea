"""Loan applications, as a service would write them."""

from typing import Any
from uuid import UUID

from persistence.models import Memory, Run, Step, new_id
from persistence.outbox import Backoff, Delivery, PermanentFailure, Worker
from persistence.plane import Plane
from persistence.transaction import Transaction

SEND_OFFER = "SAMPLE_SEND_OFFER"
AGENT = "agent:loan-desk"
RULE = "A loan is at most half of what the applicant earns in a year."

APPLICATIONS: tuple[dict[str, Any], ...] = (
    {"applicant": "Ada", "amount": 20_000, "income": 64_000, "mailbox": "busy at first"},
    {"applicant": "Blaise", "amount": 5_000, "income": 41_000, "mailbox": "fine"},
    {"applicant": "Charles", "amount": 90_000, "income": 38_000, "mailbox": "fine"},
    {"applicant": "Dorothy", "amount": 12_000, "income": 52_000, "mailbox": "gone"},
    {"applicant": "Edsger", "amount": 15_000, "income": None, "mailbox": "fine"},
)


def add_sample_handlers(worker: Worker) -> None:
    """The handler of SAMPLE_SEND_OFFER: one mailbox is busy at the first attempt, one is gone for good."""

    @worker.handler(SEND_OFFER, timeout=5, max_attempts=4, backoff=Backoff(base=0.2, cap=2))
    async def send_offer(delivery: Delivery) -> dict[str, Any]:
        mailbox = delivery.payload["mailbox"]
        if mailbox == "gone":
            raise PermanentFailure("the mailbox does not exist", details={"recipient": delivery.payload["to"]})
        if mailbox == "busy at first" and delivery.attempt == 1:
            raise ConnectionError("the mail server is busy")
        return {"accepted_by": "sample mail server", "attempt": delivery.attempt}


async def play(plane: Plane, tenant_id: UUID) -> list[UUID]:
    """Receives the applications and orchestrates each, with what the agent remembers. Returns the runs."""
    occasion = new_id()
    runs = []
    rule = await _rule(plane, tenant_id)
    for number, application in enumerate(APPLICATIONS, 1):
        async with plane.transaction(tenant_id, actor=AGENT, source="sample") as tx:
            signal = await tx.signals.receive("sample", f"{occasion}/{number}", "loan.application", application)
            run = tx.runs.start(signal, run_type="loan-application", input=application)
            runs.append(run.id)
            known = await tx.memories.search(application["applicant"], agent=AGENT, tags=["applicant"], limit=1)
            run = _assess(tx, run, application, [rule, *(one.memory for one in known)])
            if run.status == "FAILED":
                tx.signals.fail(signal, {"type": "RunFailed", "run_id": str(run.id)}, because=run)
            else:
                tx.signals.process(signal, because=run)
    return runs


async def _rule(plane: Plane, tenant_id: UUID) -> Memory:
    """What the agent goes by; written down the first time."""
    async with plane.transaction(tenant_id, actor=AGENT, source="sample") as tx:
        there = await tx.memories.search(f'"{RULE}"', agent=AGENT, context="doc", limit=1)
        return there[0].memory if there else tx.memories.remember(RULE, agent=AGENT, context="doc", tags=["rule"], importance=1.0)


def _assess(tx: Transaction, run: Run, application: dict[str, Any], known: list[Memory]) -> Run:
    """known: what the agent remembers: the rule, and what it learned of the applicant before."""
    step = tx.steps.start(run, step_type="assess", input={"amount": application["amount"]})
    tx.memory_recalls.record(known, agent=AGENT, origin=step)
    call = tx.tool_calls.start(step, tool_name="credit-register", args={"applicant": application["applicant"]})
    if application["income"] is None:
        error = {"type": "NoIncome", "message": "the register knows no income for this applicant"}
        call = tx.tool_calls.fail(call, error)
        step = tx.steps.fail(step, error, because=call)
        return tx.runs.fail(run, error, because=step)
    call = tx.tool_calls.complete(call, {"income": application["income"]})
    approved = application["amount"] <= application["income"] / 2
    tx.memories.remember(
        f"{application['applicant']} asked for {application['amount']:,} with an income of {application['income']:,}: "
        f"{'approved' if approved else 'declined'}",
        agent=AGENT,
        context="workflow",
        origin=step,
        tags=["applicant"],
        supersedes=known[1] if len(known) > 1 else None,
    )
    step = tx.steps.complete(step, {"approved": approved}, because=call)
    if approved:
        step = _offer(tx, run, step, application)
    return tx.runs.complete(run, {"approved": approved}, because=step)


def _offer(tx: Transaction, run: Run, assessed: Step, application: dict[str, Any]) -> Step:
    step = tx.steps.start(run, step_type="offer", because=assessed)
    spec = {
        "to": f"{application['applicant'].lower()}@example.org",
        "amount": application["amount"],
        "mailbox": application["mailbox"],
    }
    tx.effects.request(step, SEND_OFFER, spec=spec, idempotency_key=f"offer/{run.id}")
    return tx.steps.complete(step, {"offer": "requested"})
