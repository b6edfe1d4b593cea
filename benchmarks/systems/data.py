"""Parts of the measurement of data files. Each round writes into a tree of its own on the disk of ``folder``."""

import asyncio
import os
import random
import time
from pathlib import Path
from uuid import UUID, uuid4

from benchmarks.processes import Gate
from benchmarks.systems.http import DATA as BODY
from benchmarks.systems.plane import ACTOR, as_service, tenant_of
from persistence import Plane
from persistence.ingest import Ingest
from persistence.ingest.index import initialize_database
from persistence.ingest.registry import Registry

SCOPE = "bench.posts"


def write_and_sync(folder: str, seconds: float, gate: Gate) -> int:
    """A loop by hand: a file of 1 KiB and fsync, one after the other; no rename, no folder, no index."""
    place = Path(folder, uuid4().hex)
    place.mkdir()
    gate.wait()
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        file = os.open(place / f"{done}.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(file, BODY)
        os.fsync(file)
        os.close(file)
        done += 1
    return done


def write_rename_and_sync(folder: str, seconds: float, gate: Gate) -> int:
    """The same, as an atomic and durable write takes it: temporary name, fsync, rename, fsync of the folder."""
    place = Path(folder, uuid4().hex)
    place.mkdir()
    directory = os.open(place, os.O_RDONLY)
    gate.wait()
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        name = place / f"{done}.json"
        file = os.open(f"{name}.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(file, BODY)
        os.fsync(file)
        os.close(file)
        os.rename(f"{name}.tmp", name)
        os.fsync(directory)
        done += 1
    return done


async def put(folder: str, callers: int, seconds: float, gate: Gate) -> int:
    """By the library, without a database."""
    async with Ingest(Path(folder, uuid4().hex)) as ingest:
        tenant_id = uuid4()
        await ingest.put(tenant_id, SCOPE, BODY, actor=ACTOR)
        gate.wait()
        return await _posted(ingest, tenant_id, callers, seconds)


async def put_and_record(dsn: str, folder: str, callers: int, seconds: float, gate: Gate) -> tuple[int, int]:
    """By the library, while another task of the process records. Posts, and how many of them were recorded by then."""
    async with Plane(dsn=as_service(dsn)) as plane, Ingest(Path(folder, uuid4().hex), plane) as ingest:
        tenant_id = await tenant_of(plane)
        await ingest.put(tenant_id, SCOPE, BODY, actor=ACTOR)
        attending = asyncio.create_task(ingest.attend())
        gate.wait()
        done = await _posted(ingest, tenant_id, callers, seconds)
        waiting, _ = await ingest.waiting(tenant_id)
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)
        return done, done - waiting


async def _posted(ingest: Ingest, tenant_id: UUID, callers: int, seconds: float) -> int:
    end, done = time.monotonic() + seconds, 0

    async def caller() -> None:
        nonlocal done
        while time.monotonic() < end:
            await ingest.put(tenant_id, SCOPE, BODY, actor=ACTOR)
            done += 1

    await asyncio.gather(*(caller() for _ in range(callers)))
    return done


def listing(folder: str, files: int, rounds: int, gate: Gate) -> dict[str, list[float]]:
    """Seconds that questions to the index of so many files took, half of them in one scope."""
    connection = initialize_database(Path(folder, f"{uuid4().hex}.db"))
    registry = Registry(connection)
    second = 1_700_000_000
    with registry.transaction():
        for number in range(files):
            scope = SCOPE if number % 2 else f"bench.scope{number % 1000:03d}"
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second + number))
            registry.insert(f"{scope.replace('.', '/')}/{moment}.json", scope, moment, 1100, sha256=f"{number:064x}")
    chance, taken = random.Random(1), {}
    gate.wait()
    for _ in range(rounds):
        anywhere = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second + chance.randrange(files)))
        path = f"bench/posts/{anywhere}.json"
        for name, ask in {
            "newest 50 of a scope": lambda: registry.find_by_scope(SCOPE, limit=50),
            "page of 50 of a scope, anywhere": lambda moment=anywhere: registry.find_older(SCOPE, moment, limit=50),
            "50 of a scope, 10,000 left out": lambda: registry.find_by_scope(SCOPE, limit=50, offset=10_000),
            "newest 50 of all": lambda: registry.find_by_scope(limit=50),
            "latest of a scope": lambda: registry.find_latest_by_scope(SCOPE),
            "one by its path": lambda path=path: registry.find_by_path(path),
            "how many a scope has": lambda: registry.count_by_scope(SCOPE),
            "all scopes with counts": registry.scopes,
        }.items():
            begun = time.monotonic()
            ask()
            taken.setdefault(name, []).append(time.monotonic() - begun)
    registry.close()
    return taken
