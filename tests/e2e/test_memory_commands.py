"""persistence memory, as an operator types it."""

import psycopg

from persistence import Plane
from persistence.models import Tenant
from persistence.outbox import Worker
from persistence.outbox.embed_handler import add_embed_handler
from persistence.stores.memory import Backends
from tests.e2e.test_dead_letter_commands import typed


async def embed(plane: Plane) -> None:
    async with Backends(plane) as backends:
        await add_embed_handler(Worker(name="tester", listen=False), backends).drain(plane, until="settled", timeout=60)


async def test_from_remembering_to_forgetting(plane: Plane, tenant: Tenant, dsn: str, admin: psycopg.Connection) -> None:
    tea = (
        await typed(dsn, "memory", "remember", "Ada likes tea", "--agent", "agent:desk", "--context", "chat", "--tag", "ada")
    ).strip()
    coffee = (await typed(dsn, "memory", "remember", "Ada likes coffee", "--agent", "agent:desk", "--supersedes", tea)).strip()
    assert "by words only: no index" in await typed(dsn, "memory", "search", "coffee")
    assert "there is no index of memories yet" in await typed(dsn, "memory", "verify", expect=1)
    await embed(plane)
    found = await typed(dsn, "memory", "search", "what does Ada like", "--format", "json")
    assert [one["memory"]["content"] for one in found["found"]] == ["Ada likes coffee"]
    assert found["without"] is None
    shown = await typed(dsn, "memory", "show", tea)
    for text in ("SUPERSEDED", "Ada likes tea", coffee, "MEMORY_REMEMBERED", "hashing-256"):
        assert text in shown
    assert "context: 'dream' is none" in await typed(dsn, "memory", "search", "x", "--context", "dream", expect=1)
    assert "mode: 'guess' is none" in await typed(dsn, "memory", "search", "x", "--mode", "guess", expect=1)
    admin.execute("UPDATE persistence.memories SET created_at = created_at - interval '300 days'")
    decay = ("memory", "decay", "--half-life", "30d", "--below", "0.1")
    assert coffee in await typed(dsn, *decay, "--dry-run")
    assert "left 1 memories aside" in await typed(dsn, *decay, "--reason", "old")
    assert "left 0 memories aside" in await typed(dsn, *decay)
    assert "--half-life" in await typed(dsn, "memory", "decay", "--half-life", "long", expect=2)
    assert "ACTIVE" in await typed(dsn, "memory", "restore", coffee, "--reason", "needed")
    assert "PRUNED" in await typed(dsn, "memory", "prune", coffee, "--reason", "not needed")
    assert "FORGOTTEN" in await typed(dsn, "memory", "forget", coffee, "--reason", "personal")
    listed = await typed(dsn, "memory", "list", "--format", "json")
    assert [(one["content"], one["status"]) for one in listed] == [(None, "FORGOTTEN"), ("Ada likes tea", "SUPERSEDED")]


async def test_indexes_are_built_verified_and_switched(plane: Plane, tenant: Tenant, dsn: str) -> None:
    for text in ("one", "two", "three"):
        await typed(dsn, "memory", "remember", text, "--agent", "agent:desk")
    await embed(plane)
    [first] = await typed(dsn, "memory", "index", "list", "--format", "json")
    said = await typed(dsn, "memory", "index", "build")
    assert "vectors of 3 memories are asked for" in said
    second = said.split()[1]
    assert "whole" in await typed(dsn, "memory", "verify", "--index", first["id"])
    assert "lacks the vectors of 3" in await typed(dsn, "memory", "index", "activate", second, "--reason", "new", expect=1)
    await embed(plane)
    await typed(dsn, "memory", "index", "activate", second, "--reason", "new")
    compared = await typed(dsn, "memory", "verify", "--format", "json")
    assert {(one["memories"], one["missing"], one["surplus"], one["whole"]) for one in compared} == {(3, 0, 0, True)}
    assert "is what is searched" in await typed(dsn, "memory", "index", "retire", second, "--reason", "x", expect=1)
    await typed(dsn, "memory", "index", "retire", first["id"], "--reason", "old")
    assert "RETIRED" in await typed(dsn, "memory", "index", "list")
    await typed(dsn, "memory", "rebuild")
