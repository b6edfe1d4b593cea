"""What was answered is never lost, no torn file is ever seen, and everything is recorded once: whatever ends the process, fills the disk, or shares the tree."""

import asyncio
import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from persistence import Plane
from persistence.errors import StorageFull
from persistence.ingest import Ingest
from persistence.ingest.check import check
from persistence.models import Tenant
from tests.faults.data_poster import POINTS, RULES, post, post_and_die
from tests.helpers import ACTOR, with_rules
from tests.processes import PROCESSES
from tests.serving import serving

KILLS = 100


def begun(work: Any, *arguments: Any, **more: Any) -> ForkServerProcess:
    process = PROCESSES.Process(target=work, args=arguments, kwargs=more)
    process.start()
    return process


def answers(acknowledged: Path) -> list[tuple[str, str, dict[str, Any]]]:
    if not acknowledged.exists():
        return []
    # A line that was being written at the kill was not said.
    return [
        tuple(json.loads(line)) for line in acknowledged.read_text().splitlines() if line.endswith("]") and line.count('"by"') == 1
    ]


def visible(folder: Path) -> int:
    """How many data files there are. Each must be whole."""
    files = [file for file in folder.rglob("*.json") if not file.name.startswith(".")]
    for file in files:
        assert json.loads(file.read_bytes())["collectedAt"].replace(":", "-") + ".json" == file.name
    return len(files)


async def check_the_end(folder: Path, plane: Plane, tenant: Tenant, acknowledged: Path) -> int:
    """Mends as the next service does, records, and holds everything against everything. Returns how many files there are."""
    async with Ingest(with_rules(folder, RULES), plane) as ingest:
        await ingest.mend(tenant.tenant_id)
        await ingest.record(tenant.tenant_id)
        assert await ingest.waiting(tenant.tenant_id) == (0, 0)
        with ingest.stores.of(tenant.tenant_id) as store:
            assert list(check(store)) == []
        for scope, collected_at, data in answers(acknowledged):
            assert (await ingest.read(tenant.tenant_id, scope, collected_at)).data == data
        rows = await ingest.list(tenant.tenant_id, limit=1_000_000)
    assert all(row.file_id for row in rows)
    assert len({row.file_id for row in rows}) == len(rows) == visible(folder)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert await tx.signals.count() == len(rows)
        assert await tx.runs.count() == await tx.outbox.count() == sum(row.scope.startswith("github") for row in rows)
    return len(rows)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", POINTS)
async def test_a_process_that_is_killed_at_a_step_loses_nothing(
    tmp_path: Path, plane: Plane, tenant: Tenant, dsn: str, point: str, after: bool
) -> None:
    folder, acknowledged = tmp_path / "ingest", tmp_path / "acknowledged"
    for times in (1, 7):
        process = begun(post_and_die, folder, tenant.tenant_id, dsn, acknowledged, point, after=after, times=times)
        await asyncio.to_thread(process.join, 60)
        assert process.exitcode == -9
        visible(folder)
    assert await check_the_end(folder, plane, tenant, acknowledged) >= len(answers(acknowledged))


@pytest.mark.slow
async def test_a_hundred_kills_at_any_moment_lose_nothing(tmp_path: Path, plane: Plane, tenant: Tenant, dsn: str) -> None:
    folder, acknowledged = tmp_path / "ingest", tmp_path / "acknowledged"
    acknowledged.touch()
    dice = random.Random(20)
    for round_ in range(KILLS):
        before = acknowledged.stat().st_size
        process = begun(post, folder, tenant.tenant_id, dsn, acknowledged, str(round_), most=None, records=True)
        enough = before + dice.randrange(1, 30) * 100
        deadline = time.monotonic() + 60
        while acknowledged.stat().st_size < enough:
            assert process.is_alive()
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)
        process.kill()
        await asyncio.to_thread(process.join, 60)
        if round_ % 10 == 0:
            visible(folder)
    assert await check_the_end(folder, plane, tenant, acknowledged) >= len(answers(acknowledged)) >= KILLS


async def test_two_processes_share_a_tree(tmp_path: Path, plane: Plane, tenant: Tenant, dsn: str) -> None:
    folder, acknowledged = tmp_path / "ingest", tmp_path / "acknowledged"
    processes = [
        begun(post, folder, tenant.tenant_id, dsn, acknowledged, name, most=300, records=True) for name in ("one", "other")
    ]
    for process in processes:
        await asyncio.to_thread(process.join, 120)
        assert process.exitcode == 0
    assert await check_the_end(folder, plane, tenant, acknowledged) == len(answers(acknowledged)) == 600


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk takes root's rights")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def leave(disk: Path, free: int) -> None:
    """Fills a disk but for so many bytes."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    with ballast.open("wb") as file:
        file.write(b"x" * max(0, shutil.disk_usage(disk).free - free))


async def test_a_full_disk_leaves_nothing_behind(small_disk: Path, plane: Plane, tenant: Tenant) -> None:
    """With ever more room left, so that each step is the first that has none."""
    folder = small_disk / "ingest"
    stored, refused = [], 0
    async with Ingest(folder, plane) as ingest:
        await ingest.put(tenant.tenant_id, "web.form", {}, actor=ACTOR)
        for free in range(0, 160_000, 4096):
            leave(small_disk, free)
            scope = f"web.form.n{free}"
            try:
                stored.append(await ingest.put(tenant.tenant_id, scope, {"text": "x" * 20_000}, actor=ACTOR))
            except StorageFull:
                refused += 1
                assert not (folder / str(tenant.tenant_id) / "data/web/form" / f"n{free}").exists()
            with ingest.stores.of(tenant.tenant_id) as store:
                (small_disk / "ballast").unlink()
                assert list(check(store)) == []
        assert stored
        assert refused > 5
        assert len(await ingest.list(tenant.tenant_id, limit=1000)) == len(stored) + 1
        assert visible(folder) == len(stored) + 1
        await ingest.record(tenant.tenant_id)


async def test_a_full_disk_is_said_over_http(small_disk: Path, plane: Plane, tenant: Tenant) -> None:
    async with serving(plane, folder=small_disk / "ingest") as service, service.client(tenant) as client:
        assert (await client.post("/v1/data/web.form", json={})).status_code == 201
        leave(small_disk, 0)
        for size in (10_000, 1_000_000):
            answer = await client.post("/v1/data/web.form", json={"text": "x" * size})
            assert (answer.status_code, answer.headers["content-type"]) == (507, "application/problem+json")
            assert "nothing was stored" in answer.json()["detail"]
        assert (await client.get("/v1/data/web.form/latest")).status_code == 200
        (small_disk / "ballast").unlink()
        assert (await client.post("/v1/data/web.form", json={"text": "x" * 10_000})).status_code == 201
        assert len((await client.get("/v1/data/web.form")).json()["items"]) == 2
