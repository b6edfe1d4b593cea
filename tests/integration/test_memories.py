"""What agents learned: recorded with what taught it, superseded instead of changed, found as it was known, forgotten for good."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.errors import InvalidInput, InvalidTransition, NotFound
from persistence.gates.replay import verify
from persistence.models import Memory, Tenant, new_id
from persistence.snapshots import Subject, take
from persistence.snapshots import verify as verify_snapshot
from tests.helpers import ACTOR

CHAT = {"agent": "agent:desk", "context": "chat"}


async def learned(plane: Plane, tenant: Tenant, content: str, **more: object) -> Memory:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        return tx.memories.remember(content, **{**CHAT, **more})  # type: ignore[arg-type]


async def found(plane: Plane, tenant: Tenant, words: str, **more: object) -> list[str | None]:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        return [item.memory.content for item in await tx.memories.search(words, **more)]  # type: ignore[arg-type]


async def test_what_was_learned_is_in_the_story_that_taught_it(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="talk")
        step = tx.steps.start(run, step_type="listen")
        memory = tx.memories.remember("Ada likes tea", **CHAT, origin=step, tags=["taste", "ada"], importance=0.7)  # type: ignore[arg-type]
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        stored = await tx.memories.get(memory.id)
        [event] = await tx.events.of_aggregate(memory.id)
    assert (stored.run_id, stored.step_id, stored.correlation_id, stored.causation_id) == (
        run.id, step.id, run.correlation_id, step.last_event_id,
    )  # fmt: skip
    assert (stored.content, stored.tags, stored.importance, stored.status) == ("Ada likes tea", ["taste", "ada"], 0.7, "ACTIVE")
    assert stored.valid_from == stored.created_at
    assert "tea" not in str(event.event_data)
    assert stored.model_copy(update={"created_at": None, "updated_at": None, "valid_from": None}) == memory


async def test_what_is_known_better_supersedes_and_the_past_can_be_asked_for(plane: Plane, tenant: Tenant) -> None:
    first = await learned(plane, tenant, "the meeting is on Monday")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        before = (await tx.memories.get(first.id)).created_at
    second = await learned(plane, tenant, "the meeting is on Friday", supersedes=first)
    assert await found(plane, tenant, "meeting") == ["the meeting is on Friday"]
    assert await found(plane, tenant, "meeting", at=before) == ["the meeting is on Monday"]
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        old = await tx.memories.get(first.id)
    assert (old.status, old.superseded_by, old.content) == ("SUPERSEDED", second.id, "the meeting is on Monday")
    with pytest.raises(InvalidTransition):
        await learned(plane, tenant, "on Sunday", supersedes=old)


async def test_forgotten_is_gone_for_good_and_everything_still_holds(
    plane: Plane, tenant: Tenant, audit_dsn: str, admin: psycopg.Connection
) -> None:
    memory = await learned(plane, tenant, "her number is 0815")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.memories.forget(memory, "asked for it")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        gone = await tx.memories.get(memory.id)
    assert (gone.status, gone.content, gone.digest) == ("FORGOTTEN", None, memory.digest)
    assert await found(plane, tenant, "number") == []
    assert admin.execute("SELECT count(*) FROM memories AS m WHERE m::text LIKE '%number%'").fetchone() == (0,)
    assert admin.execute("SELECT count(*) FROM orchestration_events AS e WHERE e::text LIKE '%her number%'").fetchone() == (0,)
    connection = await asyncpg.connect(audit_dsn)
    assert (await verify(connection)).different == 0
    await connection.close()


async def test_what_is_pruned_comes_back(plane: Plane, tenant: Tenant) -> None:
    memory = await learned(plane, tenant, "it rained")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        pruned = tx.memories.prune(memory, "nobody asked in a year")
    assert await found(plane, tenant, "rained") == []
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.memories.restore(pruned, "somebody did")
        assert (await tx.memories.get(memory.id)).ended_at is None
    assert await found(plane, tenant, "rained") == ["it rained"]


async def test_a_search_is_by_words_agent_context_and_tags(plane: Plane, tenant: Tenant) -> None:
    await learned(plane, tenant, "tea in the morning", tags=["taste", "morning"])
    await learned(plane, tenant, "tea in the evening", tags=["taste"], agent="agent:other")
    await learned(plane, tenant, "tea as a document", context="doc")
    assert len(await found(plane, tenant, "tea")) == 3
    assert await found(plane, tenant, "tea", agent="agent:other") == ["tea in the evening"]
    assert await found(plane, tenant, "tea", context="doc") == ["tea as a document"]
    assert await found(plane, tenant, "tea", tags=["taste", "morning"]) == ["tea in the morning"]
    assert await found(plane, tenant, 'tea -"the evening" -document') == ["tea in the morning"]
    assert len(await found(plane, tenant, "tea", limit=2)) == 2


async def test_what_does_not_hold_any_more_is_not_found(plane: Plane, tenant: Tenant) -> None:
    now = datetime.now(UTC)
    await learned(plane, tenant, "the sale is on", valid_from=now - timedelta(days=2), valid_until=now - timedelta(days=1))
    assert await found(plane, tenant, "sale") == []


async def test_another_tenants_memories_are_not_there(plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    memory = await learned(plane, tenant, "our plan")
    assert await found(plane, other, "plan") == []
    with pytest.raises(NotFound):
        async with plane.transaction(other.tenant_id, actor=ACTOR) as tx:
            await tx.memories.get(memory.id)
    with pytest.raises(InvalidInput, match="belongs to another tenant"):
        await learned(plane, other, "theirs", supersedes=memory)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"content": ""}, "content: has 0 bytes"),
        ({"content": "x" * 65_537}, "content: has 65537 bytes"),
        ({"content": "a\x00b"}, "NUL"),
        ({"tags": ["t"] * 51}, "tags"),
        ({"tags": "text"}, "tags"),
        ({"tags": [""]}, "tags"),
        ({"context": "dream"}, "context"),
        ({"agent": ""}, "agent"),
        ({"agent": "a" * 201}, "agent|too long"),
        ({"importance": 1.5}, "importance"),
        ({"valid_from": datetime(2026, 1, 1)}, "valid_from: has no time zone"),  # noqa: DTZ001
        ({"valid_from": datetime(2026, 1, 2, tzinfo=UTC), "valid_until": datetime(2026, 1, 1, tzinfo=UTC)}, "valid"),
    ],
)
async def test_what_cannot_be_kept_is_refused_by_its_name(
    plane: Plane, tenant: Tenant, more: dict[str, object], problem: str
) -> None:
    with pytest.raises(InvalidInput, match=problem):
        await learned(plane, tenant, str(more.get("content", "tea")), **{key: more[key] for key in more if key != "content"})
    assert await found(plane, tenant, "tea") == []


async def test_a_text_is_held_to_its_digest_by_the_database(plane: Plane, tenant: Tenant) -> None:
    event = (
        f'[{{"id": "{new_id()}", "event_type": "MEMORY_REMEMBERED", "event_version": 1, "aggregate_type": "MEMORY", "aggregate_id": "{new_id()}",'
        f' "aggregate_version": 1, "correlation_id": "{new_id()}", "actor": "{ACTOR}", "source": "service", "attachment": "tea",'
        f' "event_data": {{"agent": "a", "context": "chat", "digest": "{"0" * 64}", "size_bytes": 3}}}}]'
    )
    async with plane.pool.acquire() as connection:
        with pytest.raises(asyncpg.PostgresError, match="does not have the digest"):
            await connection.execute(
                "SELECT * FROM persistence.append_events($1, persistence.service_user(), $2::text::jsonb)", tenant.tenant_id, event
            )


async def test_snapshots_hold_memories_and_hold_them_to_their_digests(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    await learned(plane, tenant, "Ada likes tea")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.memories.forget(tx.memories.remember("a number", agent="agent:desk", context="chat"), "personal")
    subject = Subject("agent", ACTOR)
    taken = await verify_snapshot(plane, await take(plane, tenant.tenant_id, subject, actor=ACTOR), actor=ACTOR)
    assert (taken.status, taken.findings["rows"]["memories"]) == ("VERIFIED", 2)
    admin.execute("UPDATE memories SET content = 'Ada likes beer' WHERE content IS NOT NULL")
    taken = await verify_snapshot(plane, await take(plane, tenant.tenant_id, subject, actor=ACTOR, full=True), actor=ACTOR)
    assert "the text of memory" in taken.error_details["message"]


async def test_what_does_not_hold_yet_or_was_left_aside_then_is_not_found(plane: Plane, tenant: Tenant) -> None:
    await learned(plane, tenant, "tea from next year on", valid_from=datetime.now(UTC) + timedelta(days=365))
    assert await found(plane, tenant, "tea") == []
    assert await found(plane, tenant, "tea", at=datetime.now(UTC) + timedelta(days=366)) == ["tea from next year on"]
    coffee = await learned(plane, tenant, "coffee now")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        pruned = tx.memories.prune(coffee, "for a while")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        between = (await tx.events.get(pruned.last_event_id)).created_at
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        tx.memories.restore(pruned, "it is wanted again")
    assert await found(plane, tenant, "coffee") == ["coffee now"]
    assert await found(plane, tenant, "coffee", at=between) == []


async def test_a_search_takes_so_many_words(plane: Plane, tenant: Tenant) -> None:
    await learned(plane, tenant, "a note")
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        with pytest.raises(InvalidInput, match="at most 100") as refused:
            await tx.memories.search("-a+" * 3000)
        assert refused.value.field == "words"
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert len(await tx.memories.matching("note " + "-a+" * 3000, loosely=True)) == 1


async def test_whose_vectors_are_not_wanted_is_in_no_index(plane: Plane, tenant: Tenant) -> None:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        kept = tx.memories.remember("for all", agent="a", context="doc")
        tx.memories.remember("not for models", agent="a", context="doc", embed=False)
        with pytest.raises(InvalidInput, match="all zeros"):
            tx.memories.remember("x", agent="a", context="doc", memory_id=UUID(int=0))
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert [item for item, _ in await tx.memories.with_texts()] == [kept.id]
