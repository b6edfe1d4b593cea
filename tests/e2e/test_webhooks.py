"""The webhook bodies go in as signals, each raises an HTTP_POST effect to a local receiver, all are delivered, and the trace shows it."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from examples.webhook_relay import relay
from persistence import Plane
from persistence.importing.importer import Importer
from persistence.ingest.check import check
from persistence.models import Tenant
from persistence.outbox import Worker
from persistence.outbox.builtin import WebhookSettings, add_builtin_handlers
from persistence.queries.trace import Node, trace_run
from tests.helpers import ACTOR
from tests.receiver import receiver
from tests.serving import serving


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


async def test_all_webhooks_posted_with_curl_are_stored_recorded_and_delivered(
    plane: Plane, tenant: Tenant, shared_data: Path
) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl")
    files = sorted((shared_data / "github-webhooks").rglob("*.json"))
    async with receiver() as (url, received):
        rules = {
            "data:github.*": {
                "run": "relay",
                "effects": [{"type": "HTTP_POST", "spec": {"url": url, "json": {"$from": "/data"}}}],
            }
        }
        async with serving(plane, rules=rules, requests_per_second=10_000) as service, service.client(tenant) as client:
            at_once = asyncio.Semaphore(8)

            async def post(file: Path) -> dict[str, str]:
                async with at_once:
                    return await _curl(
                        curl, f"{service.url}/v1/data/github.{file.parent.name}", client.headers["authorization"], file
                    )

            answers = await asyncio.gather(*map(post, files))
            last = await client.post("/v1/data/web.form", json={}, headers={"Prefer": "wait=60"})
            assert last.json()["recorded"]
            for file, answer in zip(files, answers, strict=True):
                found = (await client.get(f"/v1/data/{answer['scope']}/{answer['collectedAt']}")).text
                assert json.loads(found)["data"] == json.loads(file.read_bytes())
                assert file.read_text() in found
            listed = {scope["scope"]: scope["files"] for scope in (await client.get("/v1/data")).json()["items"]}
            assert sum(listed.values()) == len(files) + 1
            with service.ingest.stores.of(tenant.tenant_id) as store:
                assert list(check(store)) == []
        worker = add_builtin_handlers(Worker(name="relay", listen=False), WebhookSettings(allow_private=True))
        assert await worker.drain(plane) == len(files)

    assert sorted(json.dumps(json.loads(r.body), sort_keys=True) for r in received) == sorted(
        json.dumps(json.loads(file.read_bytes()), sort_keys=True) for file in files
    )
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.signals.count(status="PROCESSED") == len(files)
        runs = (await tx.runs.list(limit=1000, run_type="relay")).items
        assert len(runs) == len(files)
        for run in runs:
            [root] = (await trace_run(tx, run.id)).roots
            assert path_of(root) == ["signal", "run", "step", "effect", "outbox"]


async def _curl(curl: str, url: str, authorization: str, file: Path) -> dict[str, str]:
    process = await asyncio.create_subprocess_exec(
        curl, "-s", "-f", "-X", "POST", url, "-H", f"Authorization: {authorization}", "-H", "Content-Type: application/json", "--data-binary", f"@{file}",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, file
    answer: dict[str, str] = json.loads(output)
    return answer
