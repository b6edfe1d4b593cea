"""The webhook bodies go in as signals, each raises an HTTP_POST effect to a local receiver, all are delivered, and the trace shows it."""

import json
from pathlib import Path

from examples.webhook_relay import relay
from persistence import Plane
from persistence.importing.importer import Importer
from persistence.models import Tenant
from persistence.outbox import Worker
from persistence.outbox.builtin import WebhookSettings, add_builtin_handlers
from persistence.queries.trace import Node, trace_run
from tests.helpers import ACTOR
from tests.receiver import receiver


def path_of(node: Node) -> list[str]:
    """The kinds of nodes on the way down the first branch."""
    return [node.kind, *(path_of(node.children[0]) if node.children else [])]


async def test_all_webhooks_are_delivered_and_traced(plane: Plane, tenant: Tenant, shared_data: Path) -> None:
    folder = shared_data / "github-webhooks"
    files = sorted(folder.rglob("*.json"))
    report = await Importer(plane, tenant.tenant_id).read(folder)
    assert (report.added, report.problems) == (len(files), [])
    assert (await Importer(plane, tenant.tenant_id).read(folder)).added == 0

    async with receiver() as (url, received):
        assert await relay(plane, tenant.tenant_id, url) == len(files)
        assert await relay(plane, tenant.tenant_id, url) == 0
        worker = add_builtin_handlers(Worker(name="relay", listen=False), WebhookSettings(allow_private=True))
        assert await worker.drain(plane) == len(files)

    assert sorted(json.dumps(json.loads(r.body), sort_keys=True) for r in received) == sorted(
        json.dumps(json.loads(file.read_bytes()), sort_keys=True) for file in files
    )
    assert len({r.headers["idempotency-key"] for r in received}) == len(files)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.outbox.count(status="PUBLISHED") == len(files)
        for run in (await tx.runs.list(limit=1000)).items:
            trace = await trace_run(tx, run.id)
            [root] = trace.roots
            assert path_of(root) == ["signal", "run", "step", "effect", "outbox"]
            outbox = root.children[0].children[0].children[0].children[0]
            assert [(o.event_type, o.actor, o.cause) for o in outbox.life] == [
                ("EFFECT_EXECUTED", "system:outbox-worker/relay", "EFFECT_REQUESTED")
            ]
