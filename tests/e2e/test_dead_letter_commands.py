"""persistence dlq and limits, as an operator types them, against a database with dead letters of several kinds."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from persistence import Plane
from persistence.errors import InvalidInput
from persistence.models import Effect, Tenant, new_id
from persistence.outbox import Delivery, PermanentFailure, Worker
from tests.e2e.test_command_line import environment
from tests.helpers import ACTOR, get_effect, request_effect

KINDS = (("MAIL", "a.example", 3), ("MAIL", "b.example", 2), ("CALL", "a.example", 1))


class NoSuchMailbox(PermanentFailure):
    pass


@pytest.fixture
async def dead(plane: Plane, tenant: Tenant) -> list[Effect]:
    """Six dead letters in three groups."""
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        effects = [
            tx.effects.request(run, name, spec={"n": n}, idempotency_key=f"{name}-{where}-{n}", destination=where)
            for name, where, count in KINDS
            for n in range(count)
        ]
    worker = Worker(name="tester", listen=False)

    @worker.handler("MAIL")
    async def refuse(_: Delivery) -> None:
        raise NoSuchMailbox("nobody there")

    @worker.handler("CALL")
    async def unreadable(_: Delivery) -> None:
        raise PermanentFailure("engaged")

    await worker.drain(plane)
    return effects


async def typed(dsn: str, *words: str, expect: int = 0) -> Any:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "persistence.cli", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment(PERSISTENCE_DSN=dsn),
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == expect, (out + err).decode()
    text = (out if expect == 0 else out + err).decode()
    return json.loads(text) if "json" in words and expect == 0 else text


async def test_groups_and_each(dead: list[Effect], dsn: str) -> None:
    groups = await typed(dsn, "dlq", "list", "--format", "json")
    assert [(g["effect_type"], g["error_type"], g["destination"], g["entries"]) for g in groups] == [
        ("MAIL", "NoSuchMailbox", "a.example", 3),
        ("MAIL", "NoSuchMailbox", "b.example", 2),
        ("CALL", "PermanentFailure", "a.example", 1),
    ]
    assert all(g["first_at"] <= g["last_at"] for g in groups)
    assert "NoSuchMailbox" in await typed(dsn, "dlq", "list")
    each = await typed(dsn, "dlq", "list", "--each", "--type", "CALL", "--format", "json")
    assert [letter["id"] for letter in each] == [str(dead[-1].id)]
    assert "PermanentFailure: engaged" in await typed(dsn, "dlq", "list", "--each")
    assert await typed(dsn, "dlq", "list", "--since", "2099-01-01", "--format", "json") == []


async def test_show_has_payload_attempts_and_trace(dead: list[Effect], dsn: str) -> None:
    shown = await typed(dsn, "dlq", "show", str(dead[0].id), "--format", "json")
    assert shown["entry"]["payload"]["n"] == 0
    assert [attempt["event_type"] for attempt in shown["attempts"]] == ["EFFECT_DEAD_LETTERED"]
    assert shown["trace"]["roots"][0]["kind"] == "run"
    assert "nobody there" in await typed(dsn, "dlq", "show", str(dead[0].id))


async def test_requeue_by_filter_dry_run_and_rate(dead: list[Effect], dsn: str, plane: Plane, tenant: Tenant) -> None:
    chosen = await typed(
        dsn, "dlq", "requeue", "--destination", "a.example", "--error", "NoSuchMailbox", "--dry-run", "--format", "json"
    )
    assert sorted(chosen["would be requeued"]) == sorted(str(effect.id) for effect in dead[:3])
    assert (await get_effect(plane, tenant.tenant_id, dead[0].id)).status == "DEAD_LETTER"
    assert "3 requeued" in await typed(
        dsn, "dlq", "requeue", "--destination", "a.example", "--type", "MAIL", "--rate", "30", "--reason", "fixed"
    )
    assert (await get_effect(plane, tenant.tenant_id, dead[0].id)).status == "PENDING"
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        last = (await tx.events.of_aggregate(dead[0].id))[-1]
    assert (last.event_type, last.event_data["reason"]) == ("EFFECT_REQUEUED", "fixed")
    assert last.actor.startswith("user:")


async def test_discard_needs_a_reason_and_records_it(dead: list[Effect], dsn: str, plane: Plane, tenant: Tenant) -> None:
    assert "--reason" in await typed(dsn, "dlq", "discard", "--all", expect=2)
    assert "1 discarded" in await typed(dsn, "dlq", "discard", str(dead[-1].id), "--reason", "not wanted")
    assert "5 discarded" in await typed(dsn, "dlq", "discard", "--all", "--reason", "clearing up")
    assert await typed(dsn, "dlq", "list", "--format", "json") == []
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        assert [effect.status for effect in (await tx.effects.list(status="DISCARDED")).items] == ["DISCARDED"] * 6


@pytest.mark.parametrize("words", [(), ("--all", "--type", "MAIL"), ("01a1fd04-a6df-748b-93fa-524aacb29c42", "--all")])
async def test_requeue_wants_one_choice(plane: Plane, tenant: Tenant, dsn: str, words: tuple[str, ...]) -> None:
    assert "which dead letters?" in await typed(dsn, "dlq", "requeue", *words, expect=2)


async def test_limits(plane: Plane, tenant: Tenant, dsn: str, tmp_path: Path) -> None:
    assert "set" in await typed(dsn, "limits", "set", "MAIL", "--rate", "5", "--concurrency", "2")
    assert await typed(dsn, "limits", "set", "*", "--tenant", "acme", "--weight", "3", "--format", "json") == {"changed": True}
    assert "it was so already" in await typed(dsn, "limits", "set", "MAIL", "--rate", "5", "--concurrency", "2")
    assert [(x["tenant_id"], x["effect_type"], x["weight"]) for x in await typed(dsn, "limits", "list", "--format", "json")] == [
        (None, "MAIL", 1),
        (str(tenant.tenant_id), "*", 3),
    ]
    assert "(all)" in await typed(dsn, "limits", "list")
    assert "name the tenant" in await typed(dsn, "limits", "set", "MAIL", "--weight", "3", expect=1)
    assert isinstance(tenant.tenant_id, UUID)


async def test_what_nobody_handles_ends_here_with_its_attempts(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    from persistence.outbox.queue import OutboxQueue
    from persistence.outbox.unknown import UnknownTypes

    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        run = tx.runs.start(run_type="test")
        effect = tx.effects.request(run, "NOBODYS", spec={}, idempotency_key="k")
    worker = Worker(name="tester", listen=False)
    worker.handler("KNOWN")(refuse_nothing)
    unknown = UnknownTypes(OutboxQueue(plane.pool, plane.settings, "w"), worker.handlers, after=60, lease=60)
    assert await unknown.round() == 0, "it is not due for long"
    admin.execute("UPDATE persistence.outbox_queue SET due_at = now() - interval '2 minutes'")
    assert await unknown.round() == 0, "a worker that handles it was there a moment ago"
    admin.execute("UPDATE persistence.outbox_streams SET handled_at = now() - interval '2 minutes'")
    for attempt in range(1, 11):
        admin.execute("UPDATE persistence.outbox_queue SET due_at = now() - interval '2 minutes'")
        admin.execute("UPDATE persistence.outbox_marks SET swept_to = now()")  # whoever handled the type had looked here
        assert await unknown.round() == 1
        stored = await get_effect(plane, tenant.tenant_id, effect.id)
        assert stored.retry_count == attempt
    assert stored.status == "DEAD_LETTER"
    assert stored.error_details["type"] == "UnknownEffectType"


async def refuse_nothing(_: Delivery) -> None:
    return None


async def test_a_payload_that_cannot_be_read_is_a_dead_letter(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    """jsonb nests deeper than readers do. It is refused at the write; what came past it hides nothing and is delivered to nobody."""
    deep = "[" * 1100 + "]" * 1100
    with pytest.raises(InvalidInput, match="nested deeper than 200"):
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            await tx.fetch(
                "SELECT persistence.receive_signals($1, $2, $3::text::jsonb)", tenant.tenant_id, plane.settings.user_id,
                f'[{{"id": "{new_id()}", "event_id": "{new_id()}", "source_channel": "c", "source_id": "s", "signal_type": "t", "payload": {deep}, '
                f'"correlation_id": "{new_id()}", "actor": "agent:x", "source": "other"}}]',
            )  # fmt: skip
    effect_id = (await request_effect(plane, tenant.tenant_id, "k", "HUGE")).id
    admin.execute("SET session_replication_role = replica")
    for table, column in (("outbox_events", "payload"), ("effects", "effect_spec")):
        admin.execute(f"UPDATE {table} SET {column} = jsonb_set({column}, '{{n}}', %s::jsonb)", (deep,))
    worker = Worker(name="tester", listen=False)

    @worker.handler("HUGE")
    async def read(delivery: Delivery) -> int:
        return len(delivery.payload)

    await worker.drain(plane)
    status, message = admin.execute(
        "SELECT status, error_details ->> 'message' FROM effects WHERE id = %s", (effect_id,)
    ).fetchone() or ("", "")
    assert status == "DEAD_LETTER"
    assert "cannot be read" in message
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        [effect] = await tx.effects.all()
    assert "unreadable" in effect.effect_spec
