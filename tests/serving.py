"""A service that listens, and those who ask it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx2

from persistence import Plane
from persistence.models import Role, Tenant
from persistence.service import create_app
from persistence.service.server import listen, serve


@dataclass(frozen=True)
class Service:
    """Where it listens."""

    plane: Plane
    url: str

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
async def serving(plane: Plane, **settings: Any) -> AsyncIterator[Service]:
    """The service of a plane, on a port of its own."""
    stop = asyncio.Event()
    with listen("127.0.0.1", 0) as listening:
        running = asyncio.create_task(serve(create_app(plane, **settings), listening, stop))
        try:
            yield Service(plane, listening.url)
        finally:
            stop.set()
            await running
