"""A process that posts data, tells what was answered, and dies where it is told to."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from persistence import Plane
from persistence.ingest import Ingest
from persistence.ingest.hierarchy import Draft
from persistence.ingest.journal import Journal
from persistence.ingest.registry import Registry
from persistence.transaction import Transaction
from tests.helpers import with_rules

SCOPES = ("web.form", "github.issues", "github.issues.opened")
RULES = {"data:github.*": {"run": "triage", "effects": [{"type": "TEST", "spec": {"n": {"$from": "/data/n"}}}]}}
POINTS: dict[str, tuple[type, str]] = {
    "write": (Draft, "fill"),
    "sync": (Draft, "sync"),
    "publish": (Draft, "publish"),
    "folder": (Draft, "sync_folder"),
    "index": (Registry, "insert_many"),
    "journal": (Journal, "add"),
    "signal": (Transaction, "_finish"),
    "note": (Journal, "told"),
}
"""The steps of a post, by what does them."""


def post(folder: Path, tenant_id: UUID, dsn: str, acknowledged: Path, name: str, *, most: int | None, records: bool) -> None:
    """Posts until it has posted ``most``, eight at a time; each answer becomes a line of the file ``acknowledged``."""
    asyncio.run(_post(folder, tenant_id, dsn, acknowledged, name, most, records))


def post_and_die(folder: Path, tenant_id: UUID, dsn: str, acknowledged: Path, point: str, *, after: bool, times: int) -> None:
    """The same, until it comes to a step for the n-th time: then it kills itself, before the step or after it."""
    owner, name = POINTS[point]
    arrivals = count(1)
    plainly = getattr(owner, name)

    def fatal(*arguments: Any, **more: Any) -> Any:
        is_it = next(arrivals) == times
        if is_it and not after:
            die()
        done = plainly(*arguments, **more)
        if is_it:
            die()
        return done

    async def fatal_later(*arguments: Any, **more: Any) -> Any:
        is_it = next(arrivals) == times
        if is_it and not after:
            die()
        done = await plainly(*arguments, **more)
        if is_it:
            die()
        return done

    chosen: Callable[..., Any] = fatal_later if asyncio.iscoroutinefunction(plainly) else fatal
    setattr(owner, name, chosen)
    asyncio.run(_post(folder, tenant_id, dsn, acknowledged, f"{point}-{times}", None, records=True))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def _post(folder: Path, tenant_id: UUID, dsn: str, acknowledged: Path, name: str, most: int | None, records: bool) -> None:
    line = os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    numbers = count()
    async with Plane(dsn=dsn, pool_max=2) as plane, Ingest(with_rules(folder, RULES), plane) as ingest:
        attending = asyncio.create_task(ingest.attend()) if records else None

        async def client() -> None:
            for number in numbers:
                if most is not None and number >= most:
                    return
                data = {"n": number, "by": name, "text": "x" * (number % 7) * 1000}
                receipt = await ingest.put(
                    tenant_id,
                    SCOPES[number % 3],
                    data,
                    actor="user:poster",
                    idempotency_key=f"{name}/{number}" if number % 2 else None,
                )
                os.write(line, b"\n" + json.dumps([receipt.scope, receipt.collected_at, data]).encode() + b"\n")

        await asyncio.gather(*(client() for _ in range(8)))
        if attending is not None:
            attending.cancel()
            await asyncio.gather(attending, return_exceptions=True)
