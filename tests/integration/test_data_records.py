"""From data files to signals and runs: each exactly once, whatever comes between."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from persistence import Plane
from persistence.errors import ConfigurationError, PersistenceError
from persistence.ingest import Ingest
from persistence.ingest.check import Trouble, check
from persistence.ingest.paths import Stamps
from persistence.ingest.store import set_index_aside
from persistence.models import Event, Position, Run, Signal, Tenant
from tests.helpers import ACTOR, with_rules
from tests.proxy import way_to

SCOPE = "github.issues"
CHANNEL = "data:github.issues"
WHO = {"actor": "user:ada", "source": "test"}
RULES = {
    "data:github.issues": {
        "run": "triage",
        "effects": [
            {"type": "LOG", "spec": {"title": {"$from": "/data/title"}}, "priority": 5, "ordering_key": "issues"},
            {"type": "LOG", "spec": {"n": 2}},
        ],
    },
    "data:github.*": {"run": "archive", "completes": False},
}


@pytest.fixture
async def ingest(plane: Plane, tmp_path: Path) -> AsyncIterator[Ingest]:
    async with Ingest(with_rules(tmp_path, RULES), plane) as ingest:
        yield ingest


async def signals(plane: Plane, tenant: Tenant, **filters: Any) -> list[Signal]:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        return list((await tx.signals.list(limit=1000, **filters)).items)


async def runs(plane: Plane, tenant: Tenant) -> list[Run]:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        return list((await tx.runs.list(limit=1000)).items)


async def log(plane: Plane, tenant: Tenant) -> list[Event]:
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        return [event for event, _ in await tx.events.read_each(Position(), 1000) if event.aggregate_type != "TENANT"]


async def test_a_file_becomes_a_signal(ingest: Ingest, plane: Plane, tenant: Tenant) -> None:
    correlation_id = uuid4()
    receipt = await ingest.put(tenant.tenant_id, "web.form", {"n": 1}, correlation_id=correlation_id, **WHO)
    assert not receipt.recorded
    assert await ingest.record(tenant.tenant_id) == 1
    [signal] = await signals(plane, tenant)
    assert (signal.source_channel, signal.signal_type, signal.status) == ("data:web.form", "data.stored", "RECEIVED")
    assert (signal.actor, signal.correlation_id) == ("user:ada", correlation_id)
    assert signal.payload == {
        "scope": "web.form",
        "collected_at": receipt.collected_at,
        "path": receipt.path,
        "size_bytes": receipt.size_bytes,
        "sha256": receipt.sha256,
    }
    [event] = await log(plane, tenant)
    assert (event.event_type, event.actor, event.source) == ("SIGNAL_RECEIVED", "user:ada", "test")
    entry = await ingest.find(tenant.tenant_id, "web.form", "latest")
    assert entry.signal_id == signal.id
    assert await ingest.find_by_signal(tenant.tenant_id, signal.id) == entry
    assert await ingest.record(tenant.tenant_id) == 0


async def test_a_rule_starts_a_run_with_its_effects(ingest: Ingest, plane: Plane, tenant: Tenant) -> None:
    await ingest.put(tenant.tenant_id, SCOPE, {"title": "It is broken"}, **WHO)
    await ingest.record(tenant.tenant_id)
    [signal], [run] = await signals(plane, tenant), await runs(plane, tenant)
    assert (signal.status, run.run_type, run.status, run.signal_id, run.actor) == (
        "PROCESSED",
        "triage",
        "COMPLETED",
        signal.id,
        "user:ada",
    )
    assert run.input_data == signal.payload
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        effects = sorted(await tx.effects.all(run_id=run.id), key=lambda effect: effect.id)
        queued = {entry.id: entry for entry in (await tx.outbox.list(limit=10)).items}
    assert [effect.effect_spec for effect in effects] == [
        {"title": "It is broken", "idempotency_key": f"data/{signal.id}/0"},
        {"n": 2, "idempotency_key": f"data/{signal.id}/1"},
    ]
    assert len(queued) == 2
    assert [event.event_type for event in await log(plane, tenant)][:2] == ["SIGNAL_RECEIVED", "RUN_STARTED"]


async def test_a_run_that_does_not_complete_is_left_to_a_service(ingest: Ingest, plane: Plane, tenant: Tenant) -> None:
    await ingest.put(tenant.tenant_id, "github.push", {}, **WHO)
    await ingest.record(tenant.tenant_id)
    [run] = await runs(plane, tenant)
    assert (run.run_type, run.status) == ("archive", "RUNNING")


async def test_data_that_a_rule_cannot_use_are_refused_on_the_record(ingest: Ingest, plane: Plane, tenant: Tenant) -> None:
    receipts = [
        await ingest.put(tenant.tenant_id, SCOPE, data, **WHO)
        for data in ({"no title": 1}, {"title": "fine"}, {"title": "nul \x00"}, {"title": "x" * 600_000}, b'{"title":1e999}')
    ]
    deleted = await ingest.put(tenant.tenant_id, SCOPE, {"title": "gone"}, **WHO)
    await ingest.delete(tenant.tenant_id, SCOPE, deleted.collected_at, **WHO)
    assert await ingest.record(tenant.tenant_id) == 7
    by_time = {(signal.payload["collected_at"], signal.signal_type): signal for signal in await signals(plane, tenant)}
    found = [by_time[receipt.collected_at, "data.stored"] for receipt in (*receipts, deleted)]
    assert [signal.status for signal in found] == ["REJECTED", "PROCESSED", "REJECTED", "REJECTED", "REJECTED", "REJECTED"]
    messages = [signal.error_details["message"] for signal in found if signal.error_details]
    for message, said in zip(
        messages,
        ["nothing at '/data/title'", "NUL character", "carry more than", "inf has no JSON form", "was deleted before"],
        strict=True,
    ):
        assert said in message
    assert len(await runs(plane, tenant)) == 1
    assert by_time[deleted.collected_at, "data.deleted"].status == "PROCESSED"


async def test_a_deletion_is_on_the_record_with_who_did_it(ingest: Ingest, plane: Plane, tenant: Tenant) -> None:
    receipt = await ingest.put(tenant.tenant_id, "web.form", {"n": 1}, **WHO)
    await ingest.record(tenant.tenant_id)
    await ingest.delete(tenant.tenant_id, "web.form", receipt.collected_at, actor="user:bob")
    await ingest.record(tenant.tenant_id)
    stored, deleted = sorted(await signals(plane, tenant), key=lambda signal: signal.id)
    assert (deleted.signal_type, deleted.actor, deleted.status) == ("data.deleted", "user:bob", "PROCESSED")
    assert deleted.correlation_id == stored.correlation_id
    assert deleted.payload["sha256"] == receipt.sha256


async def test_a_content_with_a_key_is_one_signal_even_from_two_stores(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    async with (
        Ingest(with_rules(tmp_path / "one", RULES), plane) as one,
        Ingest(with_rules(tmp_path / "other", RULES), plane) as other,
    ):
        for place in (one, other):
            await place.put(tenant.tenant_id, SCOPE, {"title": "a"}, idempotency_key="k", **WHO)
            await place.put(tenant.tenant_id, "web.form", {"n": 1}, **WHO)
        await asyncio.gather(one.record(tenant.tenant_id), other.record(tenant.tenant_id))
        for place in (one, other):
            while (await place.waiting(tenant.tenant_id))[0]:
                await place.record(tenant.tenant_id)
            assert await place.waiting(tenant.tenant_id) == (0, 0)
            assert (await place.find(tenant.tenant_id, SCOPE, "latest")).signal_id is not None
    assert len(await signals(plane, tenant, source_channel=CHANNEL)) == 1
    assert len(await runs(plane, tenant)) == 1
    assert len(await signals(plane, tenant, source_channel="data:web.form")) == 2


async def test_while_the_database_is_away_data_still_come_in(
    postgresql: psycopg.Connection, dsn: str, plane: Plane, tenant: Tenant, tmp_path: Path
) -> None:
    host = postgresql.info.host
    async with (
        way_to(host) as way,
        Plane(dsn=dsn.replace(host, way.host), retry_for=0.2) as distant,
        Ingest(with_rules(tmp_path, RULES), distant) as ingest,
    ):
        await way.close()
        receipts = [await ingest.put(tenant.tenant_id, SCOPE, {"title": str(number)}, **WHO) for number in range(20)]
        with pytest.raises(PersistenceError):
            await ingest.record(tenant.tenant_id)
        assert (await ingest.read(tenant.tenant_id, SCOPE, "latest")).data == {"title": "19"}
        assert await ingest.waiting(tenant.tenant_id) == (20, 0)
        attending = asyncio.create_task(ingest.attend())
        await way.reopen()
        for receipt in receipts:
            assert (await ingest.wait_until_recorded(tenant.tenant_id, receipt, 30)).recorded
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)
    assert len(await signals(plane, tenant)) == len(await runs(plane, tenant)) == 20


async def test_what_was_recorded_but_not_noted_is_not_recorded_again(
    ingest: Ingest, plane: Plane, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends between the commit in the database and the note in the journal."""
    for number in range(3):
        await ingest.put(tenant.tenant_id, SCOPE, {"title": str(number)}, **WHO)
        await ingest.put(tenant.tenant_id, SCOPE, {"title": str(number)}, idempotency_key=f"k{number}", **WHO)
    with ingest.stores.of(tenant.tenant_id) as store, monkeypatch.context() as patched:

        def fail(_: object) -> None:
            raise OSError("the power is gone")

        patched.setattr(store.journal, "told", fail)
        with pytest.raises(OSError, match="power"):
            await ingest.record(tenant.tenant_id)
    assert await ingest.record(tenant.tenant_id) == 6
    assert len(await signals(plane, tenant)) == len(await runs(plane, tenant)) == 6


async def test_an_index_that_was_lost_is_built_without_recording_anything_again(
    ingest: Ingest, plane: Plane, tenant: Tenant
) -> None:
    for number in range(5):
        await ingest.put(
            tenant.tenant_id, SCOPE, {"title": str(number)}, idempotency_key=f"k{number}" if number % 2 else None, **WHO
        )
    await ingest.record(tenant.tenant_id)
    before = {entry.path: entry.file_id for entry in await ingest.list(tenant.tenant_id, SCOPE)}
    ingest.stores.close()
    for file in (tmp := ingest.stores.folder / str(tenant.tenant_id)).glob("index.db*"):
        file.unlink()
    assert tmp.is_dir()
    assert (await ingest.mend(tenant.tenant_id)).added == 5
    assert await ingest.record(tenant.tenant_id) == 5
    assert {entry.path: entry.file_id for entry in await ingest.list(tenant.tenant_id, SCOPE)} == before
    assert len(await signals(plane, tenant)) == len(await runs(plane, tenant)) == 5


async def test_what_was_changed_by_hand_is_put_on_the_record(ingest: Ingest, plane: Plane, tenant: Tenant) -> None:
    receipts = [await ingest.put(tenant.tenant_id, "web.form", {"n": number}, **WHO) for number in range(2)]
    await ingest.record(tenant.tenant_id)
    (ingest.stores.folder / str(tenant.tenant_id) / "data" / receipts[0].path).unlink()
    await ingest.mend(tenant.tenant_id)
    await ingest.record(tenant.tenant_id)
    [gone] = await signals(plane, tenant, signal_type="data.deleted")
    assert (gone.actor, gone.payload["path"]) == ("system:ingest", receipts[0].path)


async def test_one_that_the_database_refuses_does_not_hold_up_the_others(ingest: Ingest, plane: Plane, tenant: Tenant) -> None:
    for number in range(5):
        await ingest.put(tenant.tenant_id, "web.form", {"n": number}, **WHO)
    with ingest.stores.of(tenant.tenant_id) as store:
        number, entry = store.journal.next(10)[2]
        store.registry.run("UPDATE journal SET entry = replace(entry, 'data.stored', ?) WHERE id = ?", ["data.deleted", number])
        async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
            await tx.signals.receive(entry.channel, entry.source_id or "", "something.else")
        assert await ingest.record(tenant.tenant_id) == 4
        assert await ingest.waiting(tenant.tenant_id) == (0, 1)
        [finding] = list(check(store))
        assert (finding.trouble, finding.path) == (Trouble.REFUSED, entry.path)
        store.journal.take_up()
    assert await ingest.record(tenant.tenant_id) == 0
    assert await ingest.waiting(tenant.tenant_id) == (0, 1)


async def test_a_tenant_that_does_not_exist_is_refused(ingest: Ingest) -> None:
    stranger = UUID(int=7)
    await ingest.put(stranger, "web.form", {}, **WHO)
    assert await ingest.record(stranger) == 0
    assert await ingest.waiting(stranger) == (0, 1)


async def test_two_processes_that_share_a_tree_record_everything_once(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    same = Stamps(lambda: 1_768_989_600_000_000_000)
    async with Ingest(with_rules(tmp_path, RULES), plane, stamps=same) as one, Ingest(with_rules(tmp_path, RULES), plane) as other:
        attending = [asyncio.create_task(place.attend()) for place in (one, other)]
        receipts = await asyncio.gather(
            *(place.put(tenant.tenant_id, SCOPE, {"title": "a"}, **WHO) for _ in range(50) for place in (one, other))
        )
        for receipt in receipts:
            while not (await one.wait_until_recorded(tenant.tenant_id, receipt, 1)).recorded:
                pass
        for task in attending:
            task.cancel()
        await asyncio.gather(*attending, return_exceptions=True)
    assert len(await signals(plane, tenant)) == len(await runs(plane, tenant)) == 100


async def test_who_waits_is_told_what_another_process_recorded(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    async with Ingest(tmp_path) as posting, Ingest(tmp_path, plane) as recording:
        receipt = await posting.put(tenant.tenant_id, "web.form", {}, **WHO)
        waiting = asyncio.create_task(posting.wait_until_recorded(tenant.tenant_id, receipt, 30))
        await recording.record(tenant.tenant_id)
        assert (await waiting).recorded


async def test_a_tenant_whose_index_is_broken_does_not_hold_up_the_others(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    place = tmp_path / str(UUID(int=1))  # comes before all others
    place.mkdir()
    (place / "index.db").write_bytes(b"no database" * 1000)
    async with Ingest(tmp_path, plane) as ingest:
        attending = asyncio.create_task(ingest.attend())
        receipt = await ingest.put(tenant.tenant_id, "web.form", {}, **WHO)
        assert (await ingest.wait_until_recorded(tenant.tenant_id, receipt, 30)).recorded
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)


async def test_a_file_that_comes_back_after_its_deletion_is_recorded_again(ingest: Ingest, plane: Plane, tenant: Tenant) -> None:
    receipt = await ingest.put(tenant.tenant_id, "web.form", {"n": 1}, **WHO)
    place = ingest.stores.folder / str(tenant.tenant_id) / "data" / receipt.path
    kept = place.read_bytes()
    await ingest.delete(tenant.tenant_id, "web.form", receipt.collected_at, **WHO)
    place.write_bytes(kept)
    place.chmod(0o600)
    assert (await ingest.mend(tenant.tenant_id)).added == 1
    await ingest.record(tenant.tenant_id)
    assert (await ingest.find(tenant.tenant_id, "web.form", "latest")).signal_id is not None


async def test_each_change_is_recorded_with_its_own_source(ingest: Ingest, plane: Plane, tenant: Tenant) -> None:
    for source in ("cli", "http", "cli"):
        await ingest.put(tenant.tenant_id, "web.form", {}, actor="user:ada", source=source)
    await ingest.record(tenant.tenant_id)
    assert sorted(event.source or "" for event in await log(plane, tenant)) == ["cli", "cli", "http"]


async def test_the_page_on_data_shows_how(
    plane: Plane, tenant: Tenant, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "data.md").read_text()
    [block] = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.setenv("PERSISTENCE_DSN", dsn)
    monkeypatch.setenv("PERSISTENCE_INGEST_DIR", str(tmp_path))
    names: dict[str, Any] = {}
    exec(block, names)
    times = {await names["keep"](tenant.tenant_id, "delivery-1", b'{"title": "It is broken"}') for _ in range(2)}
    assert len(times) == 1
    [signal] = await signals(plane, tenant)
    assert (signal.source_channel, signal.actor) == (CHANNEL, "external:github")


async def test_rules_belong_to_the_folder_whoever_records(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    """Also a process that was told nothing of them."""
    with_rules(tmp_path, RULES)
    async with Ingest(tmp_path, plane) as unaware:
        await unaware.put(tenant.tenant_id, SCOPE, {"title": "a"}, **WHO)
        await unaware.record(tenant.tenant_id)
        assert [run.run_type for run in await runs(plane, tenant)] == ["triage"]
        with_rules(tmp_path, {"data:github.*": {"run": "changed"}})
        await unaware.put(tenant.tenant_id, SCOPE, {"title": "b"}, **WHO)
        await unaware.record(tenant.tenant_id)
        assert sorted(run.run_type for run in await runs(plane, tenant)) == ["changed", "triage"]


async def test_while_rules_cannot_be_read_data_are_stored_and_wait(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("data:*: {run: [")
    async with Ingest(tmp_path, plane) as ingest:
        receipt = await ingest.put(tenant.tenant_id, SCOPE, {"title": "a"}, **WHO)
        with pytest.raises(ConfigurationError, match="no YAML"):
            await ingest.record(tenant.tenant_id)
        assert await ingest.waiting(tenant.tenant_id) == (1, 0)
        assert (await ingest.read(tenant.tenant_id, SCOPE, receipt.collected_at)).data == {"title": "a"}
        with_rules(tmp_path, RULES)
        assert await ingest.record(tenant.tenant_id) == 1
        assert [run.run_type for run in await runs(plane, tenant)] == ["triage"]


async def test_the_same_content_with_two_keys_is_two_signals(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    """Two orders of the same goods are two orders: in one batch, one after the other, told twice, and after the index was lost."""
    with_rules(tmp_path, {"data:github.*": {"run": "order"}})
    async with Ingest(tmp_path, plane) as ingest:
        for keys in (("a", "b"), ("c",), ("a", "c")):
            for key in keys:
                await ingest.put(tenant.tenant_id, SCOPE, {"amount": 99}, idempotency_key=key, **WHO)
            await ingest.record(tenant.tenant_id)
        await ingest.put(tenant.tenant_id, SCOPE, {"amount": 99}, **WHO)
        await ingest.record(tenant.tenant_id)
        assert len(await signals(plane, tenant)) == len(await runs(plane, tenant)) == 4
        assert len({entry.signal_id for entry in await ingest.list(tenant.tenant_id, SCOPE)}) == 4
    set_index_aside(tmp_path / str(tenant.tenant_id))
    async with Ingest(tmp_path, plane) as again:
        await again.mend(tenant.tenant_id)
        await again.record(tenant.tenant_id)
        assert len(await signals(plane, tenant)) == 4
        assert len({entry.signal_id for entry in await again.list(tenant.tenant_id, SCOPE)}) == 4
