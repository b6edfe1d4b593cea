"""``python -m benchmarks.snapshots``: taking, verifying and restoring an agent of 10,000 saved states, and what the next snapshot costs after 1 % of
them changed; then all there is, with 100 MB of files beside it, and the same with restic and borg where these are installed, over the same files and a
copy of the server by pg_basebackup.
"""

import asyncio
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from benchmarks.big import say
from benchmarks.server import BenchServer
from benchmarks.systems import plane as system
from persistence import Plane
from persistence.database.programs import hand_over, run_program
from persistence.database.server import Server, open_server
from persistence.settings import Settings
from persistence.snapshots import Subject, restore, take, verify
from persistence.snapshots.system import SystemSnapshots, system_roots

T = TypeVar("T")
COUNT = 10_000
AGENT = "agent:bench"
FILES = 2_000
FILE_BYTES = 50_000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, BenchServer.started(Path(folder) / "server") as server:
        dsn = server.fresh("snapshots")
        system.prepare(dsn)
        asyncio.run(measure(dsn, dsn.replace("persistence_service@", "persistence_audit@"), Path(folder) / "data"))
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure_all(Path(folder)))


async def measure_all(folder: Path) -> None:
    """All there is: ours, and the peers'."""
    settings = Settings(data_dir=folder / "data")
    async with Plane(settings=settings) as plane:
        tenant = await plane.tenants.ensure("bench", actor="system:bench")
        await work(plane, tenant.tenant_id, COUNT)
        files = folder / "data" / "ingest" / "bench"
        write_files(files, range(FILES))
        async with open_server(settings) as server:
            roots = system_roots(settings, settings.data_dir / "vault", settings.data_dir / "logs")
            systems: dict[str, System] = {"plane": Ours(settings, server, roots)}
            if shutil.which("restic"):
                systems["restic"] = Restic(folder, server, roots)
            if shutil.which("borg"):
                systems["borg"] = Borg(folder, server, roots)
            for step in ("whole", "after 1 % changed", "proven", "restored"):
                if step == "after 1 % changed":
                    await work(plane, tenant.tenant_id, COUNT // 100)
                    write_files(files, range(0, FILES, 100))
                for name, each in systems.items():
                    seconds = await asyncio.to_thread(clocked, each.step(step))
                    say(f"all there is, {step}: {name} {seconds:.2f} s, {each.size() / 1e6:.0f} MB")


async def work(plane: Plane, tenant_id: UUID, count: int) -> None:
    for _ in range(0, count, 100):
        async with plane.transaction(tenant_id, actor=AGENT) as tx:
            for number in range(100):
                tx.checkpoints.save(
                    tx.runs.start(run_type="talk", input={"text": f"hello {number}"}), {"memory": "x" * 300, "n": number}
                )


def write_files(folder: Path, numbers: range) -> None:
    """Files that compress about as JSON does."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        words = random.Random(time.time_ns())  # contents, not secrets
        (folder / f"{number}.json").write_bytes(words.randbytes(FILE_BYTES // 2).hex().encode())


def clocked(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


class System:
    """Something that takes snapshots of a server and folders."""

    def step(self, name: str) -> Callable[[], object]:
        return {"whole": self.take, "after 1 % changed": self.take, "proven": self.prove, "restored": self.restore}[name]

    def take(self) -> object:
        raise NotImplementedError

    def prove(self) -> object:
        raise NotImplementedError

    def restore(self) -> object:
        raise NotImplementedError

    def size(self) -> int:
        raise NotImplementedError


class Ours(System):
    def __init__(self, settings: Settings, server: Server, roots: dict[str, Path]) -> None:
        self._settings, self._server, self._roots = settings, server, roots
        self._snapshots = SystemSnapshots(settings)

    def take(self) -> object:
        return self._snapshots.take(self._server.for_administration, self._server.audit_dsn, self._roots, actor=AGENT)

    def prove(self) -> object:
        newest = self._snapshots.store.newest().folder
        refusal = asyncio.run(self._snapshots.verify(newest, self._server.for_administration, actor=AGENT))
        assert refusal is None, refusal
        return None

    def restore(self) -> object:
        return self._snapshots.restore(self._snapshots.store.newest().folder, self._settings.data_dir.parent / "restored-plane")

    def size(self) -> int:
        return used(self._settings.data_dir / "snapshots") + used(self._settings.data_dir / "backups")


class Peer(System):
    """A program over the same folders and a copy of the server, which it needs to be of one moment."""

    def __init__(self, folder: Path, server: Server, roots: dict[str, Path]) -> None:
        self.name = type(self).__name__.lower()
        self._server, self._roots = server, roots
        self._copy = folder / f"copy-{self.name}"
        self.repository, self.target = folder / f"repository-{self.name}", folder / f"restored-{self.name}"
        self.paths = [str(path) for path in (self._copy, *roots.values()) if path != self._copy]

    def copy(self) -> list[str]:
        """Copies the server; returns all that there is to take."""
        shutil.rmtree(self._copy, ignore_errors=True)
        self._copy.mkdir()
        hand_over(self._copy)
        status, words = run_program(
            "pg_basebackup", f"--dbname={self._server.for_administration}", f"--pgdata={self._copy}", "--checkpoint=fast"
        )
        assert status == 0, words
        return [path for path in self.paths if Path(path).exists()]

    def size(self) -> int:
        return used(self.repository)


class Restic(Peer):
    def take(self) -> object:
        if not self.repository.exists():
            self._run("init")
        return self._run("backup", *self.copy())

    def prove(self) -> object:
        return self._run("check", "--read-data")

    def restore(self) -> object:
        return self._run("restore", "latest", "--target", str(self.target))

    def _run(self, *arguments: str) -> None:
        run("restic", "--quiet", "--repo", str(self.repository), *arguments, RESTIC_PASSWORD="bench")  # of the benchmark


class Borg(Peer):
    def take(self) -> object:
        if not self.repository.exists():
            run("borg", "init", "--encryption", "none", str(self.repository))
        return run("borg", "create", f"{self.repository}::{time.time_ns()}", *self.copy())

    def prove(self) -> object:
        return run("borg", "check", "--verify-data", str(self.repository))

    def restore(self) -> object:
        self.target.mkdir()
        newest = subprocess.run(
            ["borg", "list", "--short", "--last", "1", self.repository], capture_output=True, text=True, check=True
        )
        return run("borg", "extract", f"{self.repository}::{newest.stdout.strip()}", cwd=self.target)


def run(*command: str, cwd: Path | None = None, **environment: str) -> None:
    subprocess.run(command, check=True, cwd=cwd, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)


def used(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


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
