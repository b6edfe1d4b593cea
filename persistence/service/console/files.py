"""The pages of data files: what came in, and what it started."""

from contextlib import AsyncExitStack
from typing import Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from persistence.ingest.text import preview
from persistence.ingest.threads import in_thread
from persistence.models import Run, Signal
from persistence.service.console.parameters import Text
from persistence.service.console.rendering import render
from persistence.service.console.session import Visiting
from persistence.service.data import FileResponse, Files

router = APIRouter(prefix="/data")

_PAGE: Final = 50


@router.get("")
async def scopes(request: Request, caller: Visiting, files: Files) -> HTMLResponse:
    """Every scope that has files."""
    tenant_id = caller.bearer.tenant_id
    waiting, refused = await files.waiting(tenant_id)
    return render(request, "data.html", scopes=await files.scopes(tenant_id), waiting=waiting, refused=refused)


@router.get("/{scope}")
async def versions(request: Request, caller: Visiting, files: Files, scope: str, before: Text = "") -> HTMLResponse:
    """A scope's files, the newest first."""
    found = await files.list(caller.bearer.tenant_id, scope, limit=_PAGE + 1, before=before or None)
    items = found[:_PAGE]
    older = items[-1].collected_at if len(found) > _PAGE else None
    return render(request, "data_scope.html", scope=scope, items=items, before=before, older=older)


@router.get("/{scope}/{collected_at}")
async def file(request: Request, caller: Visiting, files: Files, scope: str, collected_at: str) -> HTMLResponse:
    """A data file: its beginning, its signal, and the runs that it started."""
    entry = await files.find(caller.bearer.tenant_id, scope, collected_at)
    async with files.opened(caller.bearer.tenant_id, entry) as descriptor:
        shown = await in_thread(preview, descriptor)
    signal: Signal | None = None
    runs: list[Run] = []
    signal_id = entry.signal_id
    if signal_id is not None:
        async with caller.reading() as tx:
            signal = await tx.signals.find(signal_id)
            runs = list((await tx.runs.list(signal_id=signal_id, limit=_PAGE)).items)
    return render(request, "data_file.html", entry=entry, preview=shown, signal=signal, runs=runs)


@router.get("/{scope}/{collected_at}/raw")
async def raw(caller: Visiting, files: Files, scope: str, collected_at: str) -> Response:
    """The file as it is on the disk."""
    entry = await files.find(caller.bearer.tenant_id, scope, collected_at)
    async with AsyncExitStack() as stack:
        descriptor = await stack.enter_async_context(files.opened(caller.bearer.tenant_id, entry))
        name = f"{entry.scope}.{entry.collected_at.replace(':', '-')}.json"
        return FileResponse(descriptor, stack.pop_all(), {"Content-Disposition": f'attachment; filename="{quote(name)}"'})
