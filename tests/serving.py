"""A service that listens, and those who ask it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2

from persistence import Plane
from persistence.ingest import DATA_INGEST_MAX_SIZE, Ingest
from persistence.models import Role, Tenant
from persistence.service import create_app
from persistence.service.server import listen, serve
from tests.helpers import with_rules


@dataclass(frozen=True)
class Service:
    """Where it listens."""

    plane: Plane
    url: str
    ingest: Ingest

    async def token(
        self, tenant: Tenant, role: Role = Role.OPERATOR, acts_as: str = "user:ada", lasts: timedelta | None = None
    ) -> str:
        text, _ = await self.plane.tokens.issue(
            tenant.tenant_id, "test", role=role, acts_as=acts_as, actor="user:boss", lasts=lasts
        )
        return text

    @asynccontextmanager
    async def client(self, tenant: Tenant, role: Role = Role.OPERATOR) -> AsyncIterator[httpx2.AsyncClient]:
        headers = {"Authorization": f"Bearer {await self.token(tenant, role)}"}
        async with httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=30) as client:
            yield client

    @asynccontextmanager
    async def console(self, tenant: Tenant, role: Role = Role.OPERATOR) -> AsyncIterator[httpx2.AsyncClient]:
        """Somebody who is logged in."""
        async with httpx2.AsyncClient(base_url=self.url, timeout=30) as browser:
            entered = await browser.post("/console/login", data={"token": await self.token(tenant, role)})
            assert entered.status_code == 303, entered.text
            yield browser


@asynccontextmanager
async def serving(
    plane: Plane,
    *,
    folder: Path | None = None,
    rules: Mapping[str, Any] | None = None,
    max_data: int = DATA_INGEST_MAX_SIZE,
    unix: Path | None = None,
    port: int = 0,
    **settings: Any,
) -> AsyncIterator[Service]:
    """The service of a plane, on a port of its own. folder: of data files; none: one that is thrown away."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        place = folder or Path(stack.enter_context(TemporaryDirectory()))
        ingest = await stack.enter_async_context(Ingest(with_rules(place, rules or {}), plane, max_bytes=max_data))
        listening = stack.enter_context(listen("127.0.0.1", port, unix))
        running = asyncio.create_task(serve(create_app(plane, ingest, **settings), listening, stop))
        try:
            yield Service(plane, listening.url, ingest)
        finally:
            stop.set()
            await running
