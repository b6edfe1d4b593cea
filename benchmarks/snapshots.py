"""``python -m benchmarks.snapshots``: taking, verifying and restoring an agent of 10,000 saved states, and what the next snapshot costs after 1 % of them changed."""

import asyncio
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from benchmarks.big import say
from benchmarks.server import BenchServer
from benchmarks.systems import plane as system
from persistence import Plane
from persistence.snapshots import Subject, restore, take, verify

T = TypeVar("T")
COUNT = 10_000
AGENT = "agent:bench"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, BenchServer.started(Path(folder) / "server") as server:
        dsn = server.fresh("snapshots")
        system.prepare(dsn)
        asyncio.run(measure(dsn, dsn.replace("persistence_service@", "persistence_audit@"), Path(folder) / "data"))


async def measure(dsn: str, audit_dsn: str, folder: Path) -> None:
    async with Plane(dsn=dsn, audit_dsn=audit_dsn, data_dir=folder) as plane:
        tenant = await plane.tenants.ensure("bench", actor="system:bench")
        runs = []
        for _ in range(COUNT // 500):
            async with plane.transaction(tenant.tenant_id, actor=AGENT) as tx:
                for number in range(500):
                    run = tx.runs.start(run_type="talk", input={"text": f"hello {number}"})
                    tx.checkpoints.save(run, {"memory": "x" * 300, "n": number})
                    runs.append(run)
        subject = Subject("agent", AGENT)
        whole, first = await timed(take(plane, tenant.tenant_id, subject, actor=AGENT))
        say(f"taken, {COUNT:,} runs with their states: {whole:.2f} s, {first.size_bytes / 1e6:.1f} MB")
        async with plane.transaction(tenant.tenant_id, actor=AGENT) as tx:
            for run in runs[:: COUNT // 100]:
                tx.checkpoints.save(tx.runs.suspend(run, "x"), {"memory": "y"})
        part, second = await timed(take(plane, tenant.tenant_id, subject, actor=AGENT))
        say(
            f"after 1 % changed: {part:.2f} s ({part / whole:.0%} of it), {second.size_bytes / 1e6:.2f} MB ({second.size_bytes / first.size_bytes:.1%})"
        )
        seconds, _ = await timed(verify(plane, second, actor=AGENT))
        say(f"verified: {seconds:.2f} s")
        seconds, planned = await timed(restore(plane, first, actor=AGENT, dry_run=True))
        say(f"what differs, {len(planned.differences)}: {seconds:.2f} s")
        seconds, done = await timed(restore(plane, first, actor=AGENT))
        say(f"restored, {done.done} of {len(done.differences)}: {seconds:.2f} s (with a snapshot of before)")


async def timed(work: Awaitable[T]) -> tuple[float, T]:
    begun = time.perf_counter()
    done = await work
    return time.perf_counter() - begun, done


if __name__ == "__main__":
    main()
