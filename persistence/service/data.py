"""/v1/data: data files by scope."""

import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from persistence.ingest import Ingest, IngestResponse
from persistence.ingest.registry import IndexEntry
from persistence.ingest.threads import in_thread
from persistence.models import Role
from persistence.service.access import Caller, Needs
from persistence.service.parameters import Limit, StrictRoute
from persistence.service.problems import Refused, responses

router = APIRouter(prefix="/v1/data", tags=["data"], route_class=StrictRoute)

_READ_AT_ONCE: Final = 256 * 1024
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait=(\d{1,3})(?:$|[,;\s])")
_LONGEST_WAIT: Final = 60

# Data come in, and can be read, while the database is away.
Looking = Annotated[Caller, Depends(Needs(Role.READER, without_database=True))]
Sending = Annotated[Caller, Depends(Needs(Role.OPERATOR, without_database=True))]
ScopeName = Annotated[str, Path(description="``source.category[.subcategory]``.", examples=["github.issues"])]
CollectedAt = Annotated[str, Path(description="When it was collected.", examples=["2026-01-21T10:00:00Z"])]
CollectedAtOrLatest = Annotated[str, Path(description="When it was collected, or ``latest``.", examples=["latest"])]


class _Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class DataFile(_Camel):
    """A data file. sha256: of the data as they were sent. recorded: whether the database knows of it; signal_id: its signal there."""

    scope: str
    collected_at: str
    created_at: str
    size_bytes: int
    sha256: str | None
    path: str
    recorded: bool
    signal_id: UUID | None

    @classmethod
    def of(cls, entry: IndexEntry) -> "DataFile":
        return cls(
            **entry.model_dump(exclude={"id", "file_id"}),
            recorded=entry.file_id is not None,
            signal_id=entry.file_id,  # type: ignore[arg-type]
        )


class DataFiles(_Camel):
    """A scope's files, the newest first. next: pass it as ``cursor``; None: that was all."""

    scope: str
    items: Sequence[DataFile]
    next: str | None


class Scope(_Camel):
    """What a scope has. unrecorded: files of which the database has not been told yet."""

    scope: str
    files: int
    size_bytes: int
    latest: str
    unrecorded: int


class Scopes(BaseModel):
    items: Sequence[Scope]


async def ingest_of(request: Request) -> Ingest:
    ingest: Ingest = request.app.state.ingest
    return ingest


Files = Annotated[Ingest, Depends(ingest_of)]


@router.get("", response_model=Scopes, summary="List scopes", responses=responses())
async def scopes(caller: Looking, files: Files) -> Scopes:
    """Every scope that has files."""
    return Scopes(items=[Scope(**summary.model_dump()) for summary in await files.scopes(caller.bearer.tenant_id)])


@router.post(
    "/{scope}",
    status_code=201,
    response_model=IngestResponse,
    summary="Post data",
    responses={
        200: {"model": IngestResponse, "description": "This key or content came before; this is its file"},
        **responses(400, 413, 507),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}, "example": {"hello": "world"}}},
        }
    },
)
async def post(
    request: Request,
    caller: Sending,
    scope: ScopeName,
    response: Response,
    *,
    deduplicate: Annotated[bool, Query(description="Answer content that the scope has with the file that is there.")] = False,
    correlation_id: Annotated[UUID | None, Query(description="Joins it to an existing correlation; none: its own.")] = None,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=500, pattern=r"^[\x21-\x7e]+$", description="The same key again stores nothing new."),
    ] = None,
    prefer: Annotated[str | None, Header(max_length=200, description="``wait=SECONDS``: answer once it is recorded.")] = None,
) -> IngestResponse:
    """Stores one JSON object as a data file. It is durable and can be read once this answers; the database is told then, or when it is back."""
    bearer = caller.bearer
    files = await ingest_of(request)  # as a dependency it would cost the commonest request more than the authentication does
    try:
        receipt = await files.put(
            bearer.tenant_id,
            scope,
            request.stream(),
            **caller.circumstances,
            correlation_id=correlation_id,
            idempotency_key=idempotency_key,
            deduplicate=deduplicate,
        )
    except ClientDisconnect:
        raise Refused(400, "the body ended before its end", "send it again") from None
    wait = _WAIT.search(prefer or "")
    if wait:
        seconds = min(int(wait[1]), _LONGEST_WAIT)
        receipt = await files.wait_until_recorded(bearer.tenant_id, receipt, seconds)
        response.headers["Preference-Applied"] = f"wait={seconds}"
    response.status_code = 201 if receipt.is_new else 200
    response.headers["Location"] = f"/v1/data/{scope}/{receipt.collected_at}"
    return IngestResponse(scope=scope, collectedAt=receipt.collected_at, recorded=receipt.recorded)


@router.get("/{scope}", response_model=DataFiles, summary="List a scope's data files", responses=responses(400))
async def versions(
    caller: Looking,
    files: Files,
    scope: ScopeName,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(max_length=40, description="The ``next`` of the page before.")] = None,
) -> DataFiles:
    """A scope's files, the newest first; none where it has none."""
    found = await files.list(caller.bearer.tenant_id, scope, limit=limit + 1, before=cursor)
    items = [DataFile.of(entry) for entry in found[:limit]]
    return DataFiles(scope=scope, items=items, next=items[-1].collected_at if len(found) > limit else None)


@router.get(
    "/{scope}/{collected_at}",
    summary="Read a data file",
    response_class=Response,
    responses={
        200: {"content": {"application/json": {"schema": {"type": "object"}}}, "description": "The file, as it is on the disk"},
        **responses(400, 404),
    },
)
async def read(caller: Looking, files: Files, scope: ScopeName, collected_at: CollectedAtOrLatest) -> StreamingResponse:
    """The envelope: version, scope, collectedAt, and data as they were posted. ETag is the digest of the data."""
    entry = await files.find(caller.bearer.tenant_id, scope, collected_at)
    async with AsyncExitStack() as stack:
        file = await stack.enter_async_context(files.opened(caller.bearer.tenant_id, entry))
        headers = {"ETag": f'"{entry.sha256}"', "Content-Location": f"/v1/data/{scope}/{entry.collected_at}"}
        return FileResponse(file, stack.pop_all(), headers)


@router.delete("/{scope}/{collected_at}", status_code=204, summary="Delete a data file", responses=responses(400, 404, 507))
async def delete(caller: Sending, files: Files, scope: ScopeName, collected_at: CollectedAt) -> None:
    """Deletes a data file for good. That it was there, and who deleted it, stays in the log."""
    await files.delete(caller.bearer.tenant_id, scope, collected_at, **caller.circumstances)


class FileResponse(StreamingResponse):
    """An open file, closed when it is sent or the client goes."""

    def __init__(self, file: int, held: AsyncExitStack, headers: Mapping[str, str]) -> None:
        super().__init__(_chunks(file), media_type="application/json", headers=headers)
        self._held = held

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def _chunks(file: int) -> AsyncIterator[bytes]:
    while chunk := await in_thread(os.read, file, _READ_AT_ONCE):
        yield chunk
