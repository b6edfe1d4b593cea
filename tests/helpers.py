"""What several tests do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from persistence import Plane
from persistence.encoding import encode
from persistence.ingest.rules import RuleFile
from persistence.models import Effect, Run
from persistence.outbox import Worker
from persistence.outbox.registry import HandlerFunction

ACTOR = "agent:tester"
TENANT_EVENTS = 2
"""What making a tenant leaves in its log: TENANT_CREATED and TENANT_USER_ADDED."""


async def start_run(plane: Plane, tenant_id: UUID, **arguments: Any) -> Run:
    async with plane.transaction(tenant_id, actor=ACTOR) as tx:
        return tx.runs.start(run_type="test", **arguments)


async def request_effect(plane: Plane, tenant_id: UUID, key: str = "key", effect_type: str = "TEST", **spec: Any) -> Effect:
    async with plane.transaction(tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        return tx.effects.request(run, effect_type, spec=spec, idempotency_key=key)


async def get_effect(plane: Plane, tenant_id: UUID, effect_id: UUID) -> Effect:
    async with plane.transaction(tenant_id, actor=ACTOR) as tx:
        return await tx.effects.get(effect_id)


def worker_with(handler: HandlerFunction, effect_type: str = "TEST", **settings: Any) -> Worker:
    worker = Worker(name="tester", listen=False)
    worker.handler(effect_type, **settings)(handler)
    return worker


def let_time_pass(admin: psycopg.Connection) -> None:
    """Makes everything in the queue due: waiting times and leases are over."""
    admin.execute(
        "UPDATE persistence.outbox_queue SET due_at = CASE WHEN held_by IS NULL THEN now() ELSE due_at END, leased_until = least(leased_until, now())"
    )


def with_rules(folder: Path, rules: Mapping[str, Any]) -> Path:
    """A folder of data files, with these rules in it."""
    RuleFile(folder).replace(encode(rules))
    return folder
