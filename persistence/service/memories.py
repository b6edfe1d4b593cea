"""/v1/memories: what agents remember."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from persistence.errors import InvalidInput
from persistence.models import Memory, MemoryIndex, MemoryRecall, Page, Run, Step
from persistence.models.memory import MemoryContext
from persistence.queries.memories import MOST_DAYS, MemoryActivity, MemoryStory, memory_activity, memory_story
from persistence.repositories import Filters
from persistence.repositories.memory_search import MemoryFilter
from persistence.service.access import Caller, Operating, Reading
from persistence.service.conditions import IfMatch, check_match, tag
from persistence.service.parameters import Cursor, Limit, Since, StrictRoute, Until
from persistence.service.problems import responses
from persistence.stores.memory import Backends, MemorySearch
from persistence.stores.memory.search import Mode
from persistence.transaction import Transaction

router = APIRouter(prefix="/v1/memories", tags=["memories"], route_class=StrictRoute)

MemoryId = Annotated[UUID, Path(description="Id of a memory.")]
Agent = Annotated[str | None, Query(max_length=200, description="Only of this agent.")]
Context = Annotated[MemoryContext | None, Query(description="Only learned in this.")]
Tags = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=100)]] | None, Query(max_length=50, description="Only with all of these.")
]
At = Annotated[datetime | None, Query(description="What was known, and held, at this moment.")]


class MemoryIn(BaseModel):
    """What an agent learned. id: of the memory, where it is to be written once though it is sent twice. supersedes: whose place it takes.
    run_id, step_id: what taught it; at most one of them.
    """

    model_config = ConfigDict(extra="forbid")

    content: str = Field(min_length=1, max_length=65_536, examples=["Ada likes tea"])
    agent: str = Field(min_length=1, max_length=200, examples=["agent:desk"])
    context: MemoryContext = "chat"
    tags: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        default_factory=list, max_length=50, examples=[["taste"]]
    )
    importance: float | None = Field(None, ge=0, le=1)
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    run_id: UUID | None = None
    step_id: UUID | None = None
    supersedes: UUID | None = None
    id: UUID | None = None


class RecallIn(BaseModel):
    """An agent used memories. run_id, step_id: where; at most one of them. index_id: the index that found them."""

    model_config = ConfigDict(extra="forbid")

    memories: list[UUID] = Field(min_length=1, max_length=1000)
    agent: str = Field(min_length=1, max_length=200, examples=["agent:desk"])
    run_id: UUID | None = None
    step_id: UUID | None = None
    index_id: UUID | None = None


class ChangeIn(BaseModel):
    """Why something is done; it is on the record."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=1000, examples=["it was about somebody else"])


class FoundOut(BaseModel):
    """score: the higher the better, within one search. why: its ranks and scores by words and by vectors."""

    score: float
    why: dict[str, float]
    memory: Memory


class FindingsOut(BaseModel):
    """The best first. index: whose vectors were searched, if any were. without: why none were, where they were asked for."""

    found: list[FoundOut]
    index: MemoryIndex | None
    without: str | None


@router.get("", response_model=Page[Memory], summary="List memories", responses=responses())
async def list_(
    caller: Reading,
    limit: Limit = 50,
    cursor: Cursor = None,
    agent: Agent = None,
    context: Context = None,
    status: Annotated[str | None, Query(description="ACTIVE, SUPERSEDED, PRUNED or FORGOTTEN.")] = None,
) -> Page[Memory]:
    """Memories, the newest first."""
    filters: Filters = {}
    if agent is not None:
        filters["agent"] = agent
    if context is not None:
        filters["context"] = context
    if status is not None:
        filters["status"] = status
    async with caller.reading() as tx:
        return await tx.memories.list(limit=limit, after=cursor, newest_first=True, **filters)


@router.post("", status_code=201, response_model=Memory, summary="Remember", responses=responses(400, 404, 409, 413))
async def remember(caller: Operating, body: MemoryIn, response: Response) -> Memory:
    """Writes a memory down and asks for its vectors, in one transaction. With an ``id`` that was written already it is a 409."""
    async with caller.transaction() as tx:
        origin = await _origin(tx, body.run_id, body.step_id)
        memory = tx.memories.remember(
            body.content,
            agent=body.agent,
            context=body.context,
            origin=origin,
            tags=body.tags,
            importance=body.importance,
            valid_from=body.valid_from,
            valid_until=body.valid_until,
            supersedes=None if body.supersedes is None else await tx.memories.get(body.supersedes),
            memory_id=body.id,
        )
    stored = await _now(caller, memory.id)
    tag(response, stored)
    return stored


@router.get("/search", response_model=FindingsOut, summary="Search memories", responses=responses(400))
async def search(
    request: Request,
    caller: Reading,
    text: Annotated[str, Query(min_length=1, max_length=10_000, description="What is looked for.")],
    mode: Annotated[Mode, Query(description="By words, by vectors, or ranked by both.")] = "both",
    limit: Limit = 10,
    agent: Agent = None,
    context: Context = None,
    tag: Tags = None,
    at: At = None,
    since: Since = None,
    until: Until = None,
) -> FindingsOut:
    """The memories that answer a text best, and why each was found."""
    backends: Backends = request.app.state.backends
    who = caller.circumstances
    findings = await MemorySearch(backends).search(
        caller.bearer.tenant_id,
        text,
        MemoryFilter(agent, context, tag or (), at, since, until),
        actor=who["actor"],
        user_id=who["user_id"],
        mode=mode,
        limit=limit,
    )
    return FindingsOut(
        found=[FoundOut(score=one.score, why=dict(one.why), memory=one.memory) for one in findings.found],
        index=findings.index,
        without=findings.without,
    )


@router.get("/activity", response_model=list[MemoryActivity], summary="Learning over time", responses=responses())
async def activity(
    caller: Reading, days: Annotated[int, Query(ge=1, le=MOST_DAYS, description="So many, today among them.")] = 35
) -> list[MemoryActivity]:
    """What each agent learned and used on each of the last days, as far as it did anything."""
    async with caller.reading() as tx:
        return await memory_activity(tx, days)


@router.get("/indexes", response_model=list[MemoryIndex], summary="List indexes", responses=responses())
async def indexes(caller: Reading) -> list[MemoryIndex]:
    """The indexes that are kept up; the one that is searched first."""
    async with caller.reading() as tx:
        return await tx.memory_indexes.kept_up()


@router.post(
    "/recalls", status_code=201, response_model=MemoryRecall, summary="Record a recall", responses=responses(400, 404, 409, 413)
)
async def recall(caller: Operating, body: RecallIn) -> MemoryRecall:
    """Notes that an agent used memories, so that a trace says what it knew when it decided."""
    async with caller.transaction() as tx:
        origin = await _origin(tx, body.run_id, body.step_id)
        used = await tx.memories.get_many(body.memories)
        found = {memory.id: memory for memory in used}
        for memory_id in body.memories:
            if memory_id not in found:
                await tx.memories.get(memory_id)
        index = None if body.index_id is None else await tx.memory_indexes.get(body.index_id)
        recorded = tx.memory_recalls.record([found[one] for one in body.memories], agent=body.agent, origin=origin, index=index)
    async with caller.reading() as tx:
        return await tx.memory_recalls.get(recorded.id)


@router.get("/{memory_id}", response_model=Memory, summary="Read a memory", responses=responses(404))
async def read(caller: Reading, memory_id: MemoryId, response: Response) -> Memory:
    """One memory, with its version as ETag."""
    memory = await _now(caller, memory_id)
    tag(response, memory)
    return memory


@router.get("/{memory_id}/story", response_model=MemoryStory, summary="Read a memory's story", responses=responses(404))
async def story(caller: Reading, memory_id: MemoryId) -> MemoryStory:
    """Where a memory came from, what became of it, and who used it."""
    async with caller.reading() as tx:
        return await memory_story(tx, memory_id)


@router.post(
    "/{memory_id}/prune", response_model=Memory, summary="Leave a memory aside", responses=responses(400, 404, 409, 412, 413, 428)
)
async def prune(caller: Operating, memory_id: MemoryId, body: ChangeIn, response: Response, if_match: IfMatch = None) -> Memory:
    """It is not found any more, and can be brought back."""
    return await _change(caller, memory_id, "prune", body, response, if_match)


@router.post(
    "/{memory_id}/restore", response_model=Memory, summary="Bring a memory back", responses=responses(400, 404, 409, 412, 413, 428)
)
async def restore(caller: Operating, memory_id: MemoryId, body: ChangeIn, response: Response, if_match: IfMatch = None) -> Memory:
    """Brings back what was left aside."""
    return await _change(caller, memory_id, "restore", body, response, if_match)


@router.post(
    "/{memory_id}/forget", response_model=Memory, summary="Forget a memory", responses=responses(400, 404, 409, 412, 413, 428)
)
async def forget(caller: Operating, memory_id: MemoryId, body: ChangeIn, response: Response, if_match: IfMatch = None) -> Memory:
    """Drops its text and its vectors for good; its digest stays."""
    return await _change(caller, memory_id, "forget", body, response, if_match)


async def _change(caller: Caller, memory_id: UUID, what: str, body: ChangeIn, response: Response, if_match: str | None) -> Memory:
    async with caller.transaction() as tx:
        memory = await tx.memories.get(memory_id)
        check_match(if_match, memory)
        change = {"prune": tx.memories.prune, "restore": tx.memories.restore, "forget": tx.memories.forget}[what]
        change(memory, body.reason)
    changed = await _now(caller, memory_id)
    tag(response, changed)
    return changed


async def _origin(tx: Transaction, run_id: UUID | None, step_id: UUID | None) -> Run | Step | None:
    """What a body names as the work that it belongs to. Raises InvalidInput for two, NotFound."""
    if run_id is not None and step_id is not None:
        raise InvalidInput("run_id: a step says which run it is of", hint="send run_id or step_id", field="run_id")
    if step_id is not None:
        return await tx.steps.get(step_id)
    return None if run_id is None else await tx.runs.get(run_id)


async def _now(caller: Caller, memory_id: UUID) -> Memory:
    async with caller.reading() as tx:
        return await tx.memories.get(memory_id)
