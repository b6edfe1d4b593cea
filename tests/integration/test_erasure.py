"""Personal data that can be erased from a log that never changes."""

import asyncio
from uuid import UUID

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.errors import Erased, InvalidInput, NotFound, VaultDamaged
from persistence.gates.replay import verify
from persistence.models import NewSignal, Tenant
from persistence.secrets import RecordedVault
from persistence.secrets.checking import check_all, mend
from persistence.vault import Opener
from tests.helpers import ACTOR, start_run
from tests.integration.test_secrets import assert_lawful

KEY = bytes(range(32))


@pytest.fixture
async def vault(plane: Plane) -> RecordedVault:
    plane.vault.vault.create([Opener("environment", bytearray(KEY))])
    await plane.vault.changed("created")
    return plane.vault


async def sealed(plane: Plane, tenant: Tenant, subject: str, value: object) -> dict[str, str]:
    with await plane.subjects.key(tenant.tenant_id, subject, purpose="an order", actor=ACTOR) as key:
        return key.seal(value)


async def revealed(plane: Plane, tenant: Tenant, document: object) -> object:
    return await plane.subjects.reveal(tenant.tenant_id, document, purpose="a look", actor=ACTOR)


@pytest.mark.usefixtures("vault")
async def test_an_erased_person_is_nowhere_and_everything_still_holds(plane: Plane, tenant: Tenant, audit_dsn: str) -> None:
    ada, bob = [await sealed(plane, tenant, f"customer:{n}", {"name": n}) for n in ("Ada", "Bob")]
    run = await start_run(plane, tenant.tenant_id, input={"order": 1, "buyer": ada, "others": [bob]})
    opened = {"order": 1, "buyer": {"name": "Ada"}, "others": [{"name": "Bob"}]}
    assert await revealed(plane, tenant, run.input_data) == opened
    done = await plane.subjects.erase(tenant.tenant_id, "customer:Ada", "request 7", actor="user:officer")
    [gone] = done.keys
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        again = await tx.runs.get(run.id)
        proof = await tx.events.get(gone.last_event_id)
    assert again.input_data == run.input_data  # not a byte of it changed
    assert proof.event_type == "DATA_KEY_DESTROYED"
    assert (proof.actor, proof.event_data) == ("user:officer", {"reason": "request 7"})
    assert await revealed(plane, tenant, again.input_data) == {**opened, "buyer": {"erased": True}}
    connection = await asyncpg.connect(audit_dsn)
    assert (await verify(connection)).different == 0
    await connection.close()
    await assert_lawful(plane)
    assert (await plane.subjects.erase(tenant.tenant_id, "customer:Ada", "again", actor="user:officer")).keys == ()
    with pytest.raises(NotFound):
        await plane.subjects.erase(tenant.tenant_id, "customer:Nobody", "x", actor="user:officer")


@pytest.mark.usefixtures("vault")
async def test_the_same_data_sent_twice_are_the_same_twice(plane: Plane, tenant: Tenant) -> None:
    """A source that repeats itself is recognised, although what it sends is sealed."""
    for number in range(2):
        signal = NewSignal(
            source_channel="web", source_id="1", signal_type="t", payload={"who": await sealed(plane, tenant, "customer:1", "Ada")}
        )
        [received] = await plane.receive(tenant.tenant_id, [signal], actor=ACTOR)
        assert received.is_new == (number == 0)


@pytest.mark.usefixtures("vault")
async def test_the_name_of_a_subject_is_nowhere(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    await sealed(plane, tenant, "customer:ada@example.org", "x")
    await plane.subjects.erase(tenant.tenant_id, "customer:ada@example.org", "x", actor=ACTOR)
    for table in ("data_keys", "orchestration_events", "vault_accesses"):
        for (row,) in admin.execute(f"SELECT t::text FROM {table} AS t").fetchall():
            assert "ada@example.org" not in row


@pytest.mark.usefixtures("vault")
async def test_a_person_who_comes_back_has_a_new_key(plane: Plane, tenant: Tenant) -> None:
    before = await sealed(plane, tenant, "customer:1", "old")
    await plane.subjects.erase(tenant.tenant_id, "customer:1", "x", actor=ACTOR)
    after = await sealed(plane, tenant, "customer:1", "new")
    assert await revealed(plane, tenant, [before, after]) == [{"erased": True}, "new"]


async def test_a_backup_does_not_bring_back_who_was_erased(
    plane: Plane, tenant: Tenant, vault: RecordedVault, admin: psycopg.Connection
) -> None:
    """The key's row comes back, as a restored backup has it; the vault knows that it was destroyed."""
    document = await sealed(plane, tenant, "customer:1", "Ada")
    [row] = admin.execute("SELECT sealed, status, version, last_event_id, updated_at FROM data_keys").fetchall()
    [(sequence,)] = admin.execute("SELECT max(sequence_number) FROM orchestration_events").fetchall()
    await plane.subjects.erase(tenant.tenant_id, "customer:1", "x", actor=ACTOR)
    admin.execute("SET session_replication_role = replica")
    admin.execute("DELETE FROM orchestration_events WHERE sequence_number > %s AND aggregate_type = 'DATA_KEY'", (sequence,))
    admin.execute("UPDATE data_keys SET (sealed, status, version, last_event_id, updated_at) = (%s, %s, %s, %s, %s)", row)
    assert "was destroyed" in str(await revealed(plane, tenant, document))
    assert (await check_all(plane.server.audit_dsn, vault))["problems"]
    assert await mend(plane.server.audit_dsn, vault, plane.transaction, actor=ACTOR) == 1
    assert (await check_all(plane.server.audit_dsn, vault))["problems"] == []
    assert await revealed(plane, tenant, document) == {"erased": True}


@pytest.mark.usefixtures("vault")
async def test_what_was_sealed_elsewhere_is_not_opened(plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    document = await sealed(plane, tenant, "customer:1", "Ada")
    assert "no key" in str(await revealed(plane, other, document))
    planted = {
        "own": document,
        "forged": {"sealed_by": "x", "sealed": "QUJD"},
        "cut": {**document, "sealed": document["sealed"][:-4] + "AAAA"},
    }
    shown = await revealed(plane, tenant, planted)
    assert isinstance(shown, dict)
    assert shown["own"] == "Ada"  # what somebody planted beside it hides nothing
    assert set(shown["forged"]) == set(shown["cut"]) == {"unreadable"}
    deep: object = document
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(InvalidInput, match="nested"):
        await revealed(plane, tenant, deep)
    with await plane.subjects.key(tenant.tenant_id, "customer:1", purpose="p", actor=ACTOR) as key:
        with pytest.raises(VaultDamaged):
            key.open({**document, "sealed": document["sealed"][:-4] + "AAAA"})
        with pytest.raises(InvalidInput):
            key.open({"sealed_by": "other", "sealed": "QUJD"})
        with pytest.raises(InvalidInput):
            key.seal(float("nan"))


@pytest.mark.usefixtures("vault")
async def test_who_opens_a_persons_data_is_on_the_record(plane: Plane, tenant: Tenant) -> None:
    document = await sealed(plane, tenant, "customer:1", "Ada")
    await revealed(plane, tenant, {"a": document, "b": [document]})
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        accesses = await tx.vault_accesses.all()
    assert [(a.actor, a.purpose) for a in accesses] == [(ACTOR, "an order"), (ACTOR, "a look")]


@pytest.mark.usefixtures("vault")
async def test_one_key_a_subject_however_many_ask_at_once(plane: Plane, tenant: Tenant) -> None:
    keys = await asyncio.gather(*(plane.subjects.key(tenant.tenant_id, "customer:1", purpose="p", actor=ACTOR) for _ in range(6)))
    assert len({key.key_id for key in keys}) == 1
    await plane.subjects.erase(tenant.tenant_id, "customer:1", "x", actor=ACTOR)
    with pytest.raises(Erased):
        async with plane.pool.acquire() as connection:
            from persistence.database.failures import translated

            try:
                await connection.fetch(
                    "SELECT * FROM persistence.read_subject_key($1, $2, NULL, $3, $4::text::jsonb)",
                    tenant.tenant_id, plane.settings.service_user, keys[0].key_id,
                    '{"id": "0198c5f0-7a08-7000-8000-00000000a008", "event_type": "SUBJECT_READ", "event_version": 1, "aggregate_type": "VAULT_ACCESS",'
                    '"aggregate_id": "0198c5f0-7a08-7000-8000-00000000a009", "aggregate_version": 1, "event_data": {"purpose": "p"},'
                    '"correlation_id": "0198c5f0-7a08-7000-8000-00000000a009", "actor": "agent:x", "source": "s"}',
                )  # fmt: skip
            except asyncpg.PostgresError as error:
                raise translated(error) from error


@pytest.mark.usefixtures("vault")
async def test_no_tenant_erases_anothers_keys_by_forging_their_ids(plane: Plane, tenant: Tenant) -> None:
    """Whoever knows the id of another tenant's key (it stands in every sealed field) makes one of that id and erases it."""
    other = await plane.tenants.create("other", actor="system:test")
    document = await sealed(plane, tenant, "customer:1", "Ada")
    with await plane.subjects.key(other.tenant_id, "mine", purpose="p", actor=ACTOR) as own:
        assert own.key_id
    async with plane.transaction(other.tenant_id, actor=ACTOR) as tx:
        [known] = await tx.data_keys.all()
        tx.data_keys.create(
            UUID(document["sealed_by"]), "QUFB", subject=known.subject, term=2, vault_id=known.vault_id, vault_term=known.vault_term
        )
    await plane.subjects.erase(other.tenant_id, "mine", "an attack", actor=ACTOR)
    plane.vault.vault.lock()
    plane.vault.vault.unlock(Opener("environment", bytearray(KEY)))
    assert await revealed(plane, tenant, document) == "Ada"
    await assert_lawful(plane)


@pytest.mark.usefixtures("vault")
async def test_many_may_be_erased_at_once(plane: Plane, tenant: Tenant) -> None:
    documents = [await sealed(plane, tenant, f"customer:{n}", n) for n in range(8)]
    done = await asyncio.gather(*(plane.subjects.erase(tenant.tenant_id, f"customer:{n}", "x", actor=ACTOR) for n in range(8)))
    assert all(len(item.keys) == 1 for item in done)
    assert await revealed(plane, tenant, documents) == [{"erased": True}] * 8
    await assert_lawful(plane)
