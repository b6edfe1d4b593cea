"""Secrets of tenants: sealed by the vault, each reading on the record, of no use without the one or the other."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import signal
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from persistence import Plane
from persistence.cli.vault import read_value
from persistence.cli.worker import lock_on_signal
from persistence.errors import (
    ConfigurationError,
    Conflict,
    InvalidInput,
    InvalidTransition,
    NotFound,
    NoVault,
    SecretUnavailable,
    TenantDenied,
    UnlockRefused,
    VaultDamaged,
    VaultLocked,
)
from persistence.gates.checks import shipped_suites
from persistence.gates.fit import Options, Runner
from persistence.logs.redaction import SHARED, Redactions
from persistence.models import Role, Tenant, new_id
from persistence.outbox import Delivery, RetryLater
from persistence.outbox.housekeeping import Housekeeping
from persistence.outbox.http_handler import HttpPost
from persistence.secrets import RecordedVault
from persistence.secrets.checking import check_all, check_no_other, give_up, rewrap_all
from persistence.vault import Opener, Vault
from persistence.vault.derivation import Pbkdf2
from tests.helpers import ACTOR, get_effect, let_time_pass, request_effect, worker_with
from tests.receiver import receiver
from tests.serving import serving

KEY = bytes(range(32))
ADA = "user:ada"


def opener() -> Opener:
    return Opener("environment", bytearray(KEY))


@pytest.fixture
async def vault(plane: Plane) -> RecordedVault:
    plane.vault.vault.create([opener()])
    await plane.vault.changed("created")
    return plane.vault


async def value_of(plane: Plane, tenant: Tenant, name: str = "stripe", **more: int) -> str:
    with await plane.secrets.read(tenant.tenant_id, name, purpose="a test", actor=ACTOR, **more) as value:
        return value.text


async def system_events(audit_dsn: str, event_type: str) -> list[str]:
    connection = await asyncpg.connect(audit_dsn)
    try:
        rows = await connection.fetch(
            "SELECT coalesce(event_data ->> 'use', event_data ->> 'change') FROM persistence.orchestration_events"
            " WHERE event_type = $1 ORDER BY sequence_number",
            event_type,
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()


async def assert_lawful(plane: Plane) -> None:
    outcomes = await Runner(plane.server.audit_dsn, plane.server.dsn, plane.settings, Options()).run(shipped_suites())
    assert [(o.check.name, [v.object for v in o.violations]) for o in outcomes if o.violations] == []


@pytest.mark.usefixtures("vault")
async def test_a_secret_is_read_as_it_was_set_and_each_reading_is_on_the_record(plane: Plane, tenant: Tenant) -> None:
    await plane.secrets.set(tenant.tenant_id, "stripe", "sk_live_1", actor=ADA)
    await plane.secrets.set(tenant.tenant_id, "stripe", "sk_live_2", actor=ADA)
    assert await value_of(plane, tenant) == "sk_live_2"
    assert await value_of(plane, tenant, number=1) == "sk_live_1"
    accesses = await plane.secrets.accesses(tenant.tenant_id, "stripe", actor=ADA)
    assert [(a.actor, a.purpose) for a in accesses] == [(ACTOR, "a test")] * 2
    async with plane.transaction(tenant.tenant_id, actor=ADA) as tx:
        events, _ = await tx.events.read()
    assert [e.event_type for e in events if e.aggregate_type in {"SECRET", "VAULT_ACCESS"}] == [
        "SECRET_SET", "SECRET_SET", "SECRET_READ", "SECRET_READ",
    ]  # fmt: skip
    assert not any("sk_live" in str(e.event_data) for e in events)
    await assert_lawful(plane)


@pytest.mark.usefixtures("vault")
async def test_neither_log_nor_database_hold_a_value(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    await plane.secrets.set(tenant.tenant_id, "stripe", "sk_live_needle", actor=ADA)
    for table in ("secrets", "data_keys", "orchestration_events", "vault_accesses"):
        for (row,) in admin.execute(f"SELECT t::text FROM {table} AS t").fetchall():
            assert "needle" not in row
            assert base64.b64encode(b"sk_live_needle").decode() not in row


@pytest.mark.usefixtures("vault")
async def test_a_service_has_no_way_to_what_is_sealed_but_on_the_record(plane: Plane, tenant: Tenant) -> None:
    await plane.secrets.set(tenant.tenant_id, "stripe", "x", actor=ADA)
    async with plane.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT persistence.enter_tenant($1, $2)", tenant.tenant_id, plane.settings.user_id)
        for table in ("secrets", "data_keys"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.fetch(f"SELECT sealed FROM persistence.{table}")


@pytest.mark.usefixtures("vault")
async def test_what_another_tenant_has_is_not_there(plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    await plane.secrets.set(tenant.tenant_id, "stripe", "mine", actor=ADA)
    with pytest.raises(NotFound):
        await value_of(plane, other)
    await plane.secrets.set(other.tenant_id, "stripe", "theirs", actor=ADA)
    assert await value_of(plane, tenant) == "mine"
    assert await value_of(plane, other) == "theirs"
    await plane.tenants.remove_user(other.tenant_id, plane.settings.service_user, actor="system:test")
    with pytest.raises(TenantDenied):
        await value_of(plane, other)


@pytest.mark.parametrize(
    "move",
    [
        "UPDATE secrets AS a SET sealed = b.sealed FROM secrets AS b WHERE b.id <> a.id AND b.name <> a.name AND b.tenant_id = a.tenant_id",
        "UPDATE secrets AS a SET sealed = b.sealed FROM secrets AS b WHERE b.name = a.name AND b.number <> a.number AND b.tenant_id = a.tenant_id",
        "UPDATE secrets AS a SET sealed = b.sealed FROM secrets AS b WHERE b.tenant_id <> a.tenant_id",
        "UPDATE data_keys AS a SET sealed = b.sealed FROM data_keys AS b WHERE b.id <> a.id",
        "UPDATE secrets SET sealed = overlay(sealed placing CASE left(sealed, 1) WHEN 'A' THEN 'B' ELSE 'A' END from 1 for 1)",
        "UPDATE secrets SET name = 'renamed' WHERE name = 'stripe'",
    ],
)
@pytest.mark.usefixtures("vault")
async def test_what_was_moved_or_changed_does_not_open(plane: Plane, tenant: Tenant, admin: psycopg.Connection, move: str) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    for whose, name in ((tenant, "stripe"), (tenant, "stripe"), (tenant, "github"), (other, "stripe")):
        await plane.secrets.set(whose.tenant_id, name, f"{name} of {whose.name}", actor=ADA)
    admin.execute("SET session_replication_role = replica")
    admin.execute(move)
    plane.vault.vault.lock()
    plane.vault.vault.unlock(opener())
    with pytest.raises((VaultDamaged, Exception)) as refused:
        await value_of(plane, tenant, "renamed" if "renamed" in move else "stripe")
    assert isinstance(refused.value, VaultDamaged)
    assert (await check_all(plane.server.audit_dsn, plane.vault))["problems"]


async def test_a_locked_vault_gives_nothing_and_says_so_first(
    plane: Plane, tenant: Tenant, vault: RecordedVault, audit_dsn: str
) -> None:
    await plane.secrets.set(tenant.tenant_id, "stripe", "x", actor=ADA)
    vault.vault.lock()
    with pytest.raises(VaultLocked):
        await value_of(plane, tenant)
    assert await plane.secrets.accesses(tenant.tenant_id, "stripe", actor=ADA) == []  # nothing was given, nothing is recorded
    with pytest.raises(UnlockRefused):
        await vault.unlock(Opener("environment", bytearray(32)))
    await vault.unlock(opener())
    assert await value_of(plane, tenant) == "x"
    assert await system_events(audit_dsn, "VAULT_USED") == ["unlocked", "locked", "refused", "unlocked"]


async def test_an_older_file_is_refused_until_somebody_takes_it(plane: Plane, tenant: Tenant, vault: RecordedVault) -> None:
    await plane.secrets.set(tenant.tenant_id, "stripe", "x", actor=ADA)
    old = vault.vault.file.path.read_bytes()
    await vault.changed("rotated", step=lambda keys: keys.rotated())
    vault.vault.lock()
    vault.vault.file.path.write_bytes(old)
    with pytest.raises(VaultDamaged, match="generation 1; the log knows of 2"):
        await vault.unlock(opener())
    assert not vault.vault.is_unlocked
    vault.accepts_older = True
    await vault.unlock(opener())
    await vault.changed("restored")
    vault.accepts_older = False
    vault.vault.lock()
    await vault.unlock(opener())
    assert await value_of(plane, tenant) == "x"
    await assert_lawful(plane)


async def test_another_vaults_file_is_said_to_be_that(plane: Plane, tenant: Tenant, vault: RecordedVault) -> None:
    await plane.secrets.set(tenant.tenant_id, "stripe", "x", actor=ADA)
    vault.vault.lock()
    vault.vault.file.path.unlink()
    vault.vault.create([opener()])
    with pytest.raises(VaultDamaged, match="not the vault that is open"):
        await value_of(plane, tenant)


@pytest.mark.usefixtures("vault")
async def test_a_secret_for_one_reading_is_read_once_whoever_comes(plane: Plane, tenant: Tenant) -> None:
    await plane.secrets.set(tenant.tenant_id, "stripe", "old", actor=ADA)
    await plane.secrets.set(tenant.tenant_id, "stripe", "once", actor=ADA, max_reads=1)
    answers = await asyncio.gather(*(value_of(plane, tenant) for _ in range(8)), return_exceptions=True)
    assert [a for a in answers if not isinstance(a, BaseException)] == ["once"]  # and nobody was given the old one instead
    assert {type(a) for a in answers if isinstance(a, BaseException)} == {SecretUnavailable}
    [newest, _] = await plane.secrets.list(tenant.tenant_id, actor=ADA, name="stripe")
    assert newest.status == "DESTROYED"
    await assert_lawful(plane)


@pytest.mark.usefixtures("vault")
async def test_a_secret_is_over_at_its_time_and_housekeeping_destroys_it(
    plane: Plane, tenant: Tenant, admin: psycopg.Connection
) -> None:
    with pytest.raises(InvalidInput, match="is over"):
        await plane.secrets.set(tenant.tenant_id, "stripe", "x", actor=ADA, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    later = datetime.now(UTC) + timedelta(seconds=1.5)
    await plane.secrets.set(tenant.tenant_id, "stripe", "x", actor=ADA, expires_at=later)
    assert await value_of(plane, tenant) == "x"
    while admin.execute("SELECT now() <= %s", (later,)).fetchone() == (True,):
        await asyncio.sleep(0.05)
    with pytest.raises(SecretUnavailable, match="is over since"):
        await value_of(plane, tenant)
    await Housekeeping().round(plane)
    [secret] = await plane.secrets.list(tenant.tenant_id, actor=ADA)
    assert secret.status == "DESTROYED"
    assert admin.execute("SELECT count(*) FROM secrets WHERE sealed IS NOT NULL").fetchone() == (0,)
    await assert_lawful(plane)


@pytest.mark.usefixtures("vault")
async def test_destroyed_is_gone_and_so_are_versions_beyond_those_kept(plane: Plane, tenant: Tenant) -> None:
    for number in range(1, 5):
        await plane.secrets.set(tenant.tenant_id, "stripe", f"v{number}", actor=ADA, keep=2)
    assert [s.status for s in await plane.secrets.list(tenant.tenant_id, actor=ADA)] == ["HELD", "HELD", "DESTROYED", "DESTROYED"]
    assert len(await plane.secrets.destroy(tenant.tenant_id, "stripe", "leaked", actor=ADA)) == 2
    with pytest.raises(SecretUnavailable):
        await value_of(plane, tenant)
    await plane.secrets.set(tenant.tenant_id, "stripe", "again", actor=ADA)
    assert await value_of(plane, tenant) == "again"
    with pytest.raises(NotFound):
        await plane.secrets.destroy(tenant.tenant_id, "nothing", "x", actor=ADA)


@pytest.mark.usefixtures("vault")
async def test_many_may_set_one_secret_at_once(plane: Plane, tenant: Tenant) -> None:
    answers = await asyncio.gather(
        *(plane.secrets.set(tenant.tenant_id, "stripe", f"v{n}", actor=ADA) for n in range(5)), return_exceptions=True
    )
    numbers = sorted(a.number for a in answers if not isinstance(a, BaseException))
    assert numbers == list(range(1, len(numbers) + 1))
    assert {type(a) for a in answers if isinstance(a, BaseException)} <= {Conflict}
    await assert_lawful(plane)


async def test_terms_go_on_and_what_is_older_comes_along(
    plane: Plane, tenant: Tenant, vault: RecordedVault, admin: psycopg.Connection
) -> None:
    await plane.secrets.set(tenant.tenant_id, "stripe", "x", actor=ADA)
    key = await plane.subjects.key(tenant.tenant_id, "customer:1", purpose="p", actor=ACTOR)
    sealed = key.seal({"name": "Ada"})
    await plane.secrets.rotate(tenant.tenant_id, actor=ADA)
    await vault.changed("rotated", step=lambda keys: keys.rotated())
    async with plane.transaction(tenant.tenant_id, actor=ADA) as tx:
        first = (await tx.data_keys.all(subject=""))[0]
    with pytest.raises(InvalidTransition, match="still seals"):
        async with plane.transaction(tenant.tenant_id, actor=ADA) as tx:
            tx.data_keys.destroy(first, "too early")
    done = await rewrap_all(plane.server.audit_dsn, plane.settings, vault, plane.transaction, actor=ADA)
    assert done == {"keys": 3, "secrets": 1, "destroyed": 1, "problems": 0}
    await vault.changed("terms_ended", step=lambda keys: keys.without_terms_before(2))
    assert await rewrap_all(plane.server.audit_dsn, plane.settings, vault, plane.transaction, actor=ADA) == {
        "keys": 0, "secrets": 0, "destroyed": 0, "problems": 0,
    }  # fmt: skip
    vault.vault.lock()
    await vault.unlock(opener())
    assert await value_of(plane, tenant) == "x"
    assert await plane.subjects.reveal(tenant.tenant_id, sealed, purpose="p", actor=ACTOR) == {"name": "Ada"}
    assert (await check_all(plane.server.audit_dsn, vault))["problems"] == []
    assert admin.execute("SELECT DISTINCT vault_term FROM data_keys WHERE status = 'ACTIVE'").fetchall() == [(2,)]
    await assert_lawful(plane)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [("", "x", "name"), ("a\nb", "x", "name"), ("n" * 201, "x", "name"), ("n", "", "value"), ("n", "x" * 65537, "value")],
)
@pytest.mark.usefixtures("vault")
async def test_what_cannot_be_kept_is_refused_by_its_name(
    plane: Plane, tenant: Tenant, name: str, value: str, problem: str
) -> None:
    with pytest.raises(InvalidInput, match=problem):
        await plane.secrets.set(tenant.tenant_id, name, value, actor=ADA)


# Those who use them


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.usefixtures("vault")
async def test_a_handler_reads_a_secret_in_the_story_of_its_effect(plane: Plane, tenant: Tenant, kind: str) -> None:
    await plane.secrets.set(tenant.tenant_id, "stripe", "sk_live_1", actor=ADA)
    seen: list[str] = []

    async def with_await(delivery: Delivery) -> None:
        seen.append(await delivery.secret("stripe"))

    def plainly(delivery: Delivery) -> None:
        seen.append(delivery.secret_in_thread("stripe"))

    effect = await request_effect(plane, tenant.tenant_id)
    await worker_with(with_await if kind == "async" else plainly).drain(plane)
    assert seen == ["sk_live_1"]
    [access] = await plane.secrets.accesses(tenant.tenant_id, "stripe", actor=ADA)
    assert access.correlation_id == effect.correlation_id
    assert access.causation_id == effect.last_event_id
    assert str(effect.id) in access.purpose
    assert access.actor == "system:handlers/tester"
    await assert_lawful(plane)


async def test_a_handler_without_its_secret_fails_and_is_tried_again(plane: Plane, tenant: Tenant, vault: RecordedVault) -> None:
    async def handler(delivery: Delivery) -> None:
        await delivery.secret("stripe")

    effect = await request_effect(plane, tenant.tenant_id)
    await worker_with(handler).drain(plane)
    failed = await get_effect(plane, tenant.tenant_id, effect.id)
    assert failed.status == "PENDING"
    assert "there is no secret 'stripe'" in failed.error_details["message"]


@pytest.mark.usefixtures("vault")
async def test_a_webhook_is_signed_with_the_tenants_own_secret(plane: Plane, tenant: Tenant) -> None:
    await plane.secrets.set(tenant.tenant_id, "hooks", "whsec_" + base64.b64encode(b"key").decode(), actor=ADA)
    async with receiver() as (url, received):
        effect = await request_effect(plane, tenant.tenant_id, "k", "HTTP_POST", url=url, json={}, signing_key="vault:hooks")
        missing = await request_effect(plane, tenant.tenant_id, "k2", "HTTP_POST", url=url, json={}, signing_key="vault:nothing")
        await worker_with(HttpPost(allow_private=True), "HTTP_POST").drain(plane)
    [request] = received
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    assert (
        request.headers["webhook-signature"] == "v1," + base64.b64encode(hmac.new(b"key", signed, hashlib.sha256).digest()).decode()
    )
    assert (await get_effect(plane, tenant.tenant_id, effect.id)).status == "EXECUTED"
    assert (await get_effect(plane, tenant.tenant_id, missing.id)).status == "DEAD_LETTER"


@pytest.mark.usefixtures("vault")
async def test_over_http_values_take_a_role_of_their_own(plane: Plane, tenant: Tenant) -> None:
    async with serving(plane) as service:
        async with service.client(tenant, Role.KEEPER) as keeper:
            assert (await keeper.post("/v1/secrets/stripe", json={"value": "sk_live_1"})).status_code == 201
            answer = await keeper.post("/v1/secrets/stripe/read", json={"purpose": "looking"})
            assert answer.json() == {"name": "stripe", "version": 1, "value": "sk_live_1", "encoding": "utf-8"}
            assert answer.headers["cache-control"] == "no-store"
            assert (await keeper.post("/v1/secrets/nothing/read", json={"purpose": "x"})).status_code == 404
            assert "sk_live" not in (await keeper.get("/v1/secrets")).text
            assert [a["purpose"] for a in (await keeper.get("/v1/secrets/stripe/accesses")).json()] == ["looking"]
            assert (await keeper.get("/v1/runs")).status_code == 200
            assert (await keeper.post("/v1/signals", json={})).status_code == 403
            assert (await keeper.post("/v1/subjects/erase", json={"subject": "s", "reason": "r"})).status_code == 403
        for role in (Role.READER, Role.OPERATOR, Role.ADMIN):
            async with service.client(tenant, role) as other:
                assert (await other.post("/v1/secrets/stripe/read", json={"purpose": "x"})).status_code == 403
                assert (await other.post("/v1/secrets/stripe", json={"value": "x"})).status_code == 403
                assert (await other.get("/v1/secrets")).status_code == (200 if role is Role.ADMIN else 403)
        async with service.client(tenant, Role.ADMIN) as boss:
            assert len((await boss.post("/v1/secrets/stripe/destroy", json={"reason": "leaked"})).json()) == 1
            assert (await boss.post("/v1/secrets/stripe/destroy", json={"reason": "x", "version": 7})).status_code == 404
        async with service.client(tenant, Role.KEEPER) as keeper:
            assert (await keeper.post("/v1/secrets/stripe/read", json={"purpose": "x"})).status_code == 410
            plane.vault.vault.lock()
            answer = await keeper.post("/v1/secrets/stripe", json={"value": "x"})
            assert answer.status_code == 503
            assert "vault is locked" in answer.json()["detail"]


async def test_a_vault_file_from_the_settings_opens_by_itself(tmp_path: Path, dsn: str, admin_dsn: str) -> None:
    key = base64.b64encode(os.urandom(32)).decode()
    async with Plane(dsn=dsn, admin_dsn=admin_dsn, data_dir=tmp_path, vault_key=key) as plane:
        tenant = await plane.tenants.create("acme", actor="system:test")
        with pytest.raises(NoVault, match="vault init"):
            await plane.secrets.set(tenant.tenant_id, "a", "b", actor=ADA)
        plane.vault.vault.create([Opener("environment", bytearray(base64.b64decode(key)))])
        await plane.vault.changed("created")
    async with Plane(dsn=dsn, admin_dsn=admin_dsn, data_dir=tmp_path, vault_key=key) as plane:
        await plane.secrets.set(tenant.tenant_id, "a", "b", actor=ADA)
        assert await value_of(plane, tenant, "a") == "b"


async def test_rewrapping_may_be_killed_anywhere_and_called_again(plane: Plane, tenant: Tenant, vault: RecordedVault) -> None:
    for number in range(4):
        await plane.secrets.set(tenant.tenant_id, f"s{number}", f"v{number}", actor=ADA)
    await plane.secrets.rotate(tenant.tenant_id, actor=ADA)
    await vault.changed("rotated", step=lambda keys: keys.rotated())
    left = 0

    def begin(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise InterruptedError
        return plane.transaction(*arguments, **named)

    for allowed in range(1, 12):
        left = allowed
        with suppress(InterruptedError):
            await rewrap_all(plane.server.audit_dsn, plane.settings, vault, begin, actor=ADA)
            break
    else:
        pytest.fail("it never came to its end")
    assert (await check_all(plane.server.audit_dsn, vault))["problems"] == []
    for number in range(4):
        assert await value_of(plane, tenant, f"s{number}") == f"v{number}"
    await assert_lawful(plane)


@pytest.mark.usefixtures("vault")
async def test_a_reading_that_is_on_the_record_gives_nothing_again(plane: Plane, tenant: Tenant) -> None:
    await plane.secrets.set(tenant.tenant_id, "stripe", "x", actor=ADA, max_reads=5)
    await value_of(plane, tenant)
    async with plane.transaction(tenant.tenant_id, actor=ADA) as tx:
        events, _ = await tx.events.read()
    [event] = [event for event in events if event.event_type == "SECRET_READ"]
    again = event.model_dump(mode="json", exclude={"tenant_id", "sequence_number", "transaction_id", "created_at", "updated_at"})
    async with plane.pool.acquire() as connection:
        with pytest.raises(asyncpg.PostgresError, match="on the record already") as refused:
            await connection.fetch(
                "SELECT * FROM persistence.read_secret($1, $2, 'stripe', NULL, $3, '{1}', $4::text::jsonb)",
                tenant.tenant_id, plane.settings.service_user, plane.vault.vault.document().vault_id, json.dumps(again),
            )  # fmt: skip
    assert refused.value.sqlstate == "PE004"
    assert len(await plane.secrets.accesses(tenant.tenant_id, "stripe", actor=ADA)) == 1


async def test_a_secret_for_one_reading_is_not_spent_on_a_vault_that_cannot_open_it(
    plane: Plane, tenant: Tenant, vault: RecordedVault
) -> None:
    await plane.secrets.set(tenant.tenant_id, "stripe", "x", actor=ADA, max_reads=1)
    kept = vault.vault.file.path.read_bytes()
    vault.vault.lock()
    vault.vault.file.path.unlink()
    vault.vault.create([opener()])
    with pytest.raises(VaultDamaged, match="not the vault that is open"):
        await value_of(plane, tenant)
    vault.vault.lock()
    vault.vault.file.path.write_bytes(kept)
    vault.vault.unlock(opener())
    assert await value_of(plane, tenant) == "x"


async def test_a_running_process_goes_on_with_a_term_that_another_began(plane: Plane, tenant: Tenant, vault: RecordedVault) -> None:
    elsewhere = Vault(vault.vault.file.folder, openers=[opener()])
    elsewhere.change(lambda keys: keys.rotated())
    await plane.secrets.set(tenant.tenant_id, "stripe", "x", actor=ADA)
    async with plane.transaction(tenant.tenant_id, actor=ADA) as tx:
        [key] = await tx.data_keys.all()
    assert key.vault_term == 2
    assert await value_of(plane, tenant) == "x"
    elsewhere.lock()


async def test_one_row_that_does_not_open_holds_up_no_other_tenant(plane: Plane, tenant: Tenant, vault: RecordedVault) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    await plane.secrets.set(other.tenant_id, "stripe", "theirs", actor=ADA)
    async with plane.transaction(tenant.tenant_id, actor=ADA) as tx:
        tx.data_keys.create(new_id(), "QUFB", subject="", term=1, vault_id=vault.vault.document().vault_id, vault_term=1)
    await vault.changed("rotated", step=lambda keys: keys.rotated())
    done = await rewrap_all(plane.server.audit_dsn, plane.settings, vault, plane.transaction, actor=ADA)
    assert (done["keys"], done["problems"]) == (1, 1)
    assert await value_of(plane, other) == "theirs"


async def test_a_value_that_is_no_text_comes_as_it_is(plane: Plane, tenant: Tenant, vault: RecordedVault) -> None:
    await plane.secrets.set(tenant.tenant_id, "blob", b"\xff\x00", actor=ADA)
    with await plane.secrets.read(tenant.tenant_id, "blob", purpose="p", actor=ADA) as value:
        assert bytes(value.view) == b"\xff\x00"
        with pytest.raises(InvalidInput, match="no text"):
            _ = value.text
    with pytest.raises(VaultLocked, match="wiped"):
        _ = value.view
    async with serving(plane) as service, service.client(tenant, Role.KEEPER) as keeper:
        answer = (await keeper.post("/v1/secrets/blob/read", json={"purpose": "x"})).json()
        assert (answer["value"], answer["encoding"]) == ("/wA=", "base64")
        for body in ({"value": "x\ud800"}, {"value": "x", "expires_at": "9999-12-31T23:59:59-23:59"}):
            refused = await keeper.post("/v1/secrets/x", content=json.dumps(body), headers={"content-type": "application/json"})
            assert refused.status_code in {400, 422}, refused.text


@pytest.mark.usefixtures("vault")
async def test_a_handlers_secret_gets_into_no_event(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    """Neither by what it raises, nor by what it returns, nor by the details it gives."""
    await plane.secrets.set(tenant.tenant_id, "stripe", 'hx"81-Kq$7', actor=ADA)

    async def handler(delivery: Delivery) -> dict[str, str]:
        key = await delivery.secret("stripe")
        match delivery.idempotency_key:
            case "raised":
                raise RuntimeError(f"401 from https://api.example/?key={key}")
            case "details":
                raise RetryLater("no", details={"request": [key]})
            case _:
                return {"leaked": f"<{key}>"}

    for name in ("raised", "details", "returned"):
        await request_effect(plane, tenant.tenant_id, name)
    await worker_with(handler).drain(plane)
    found = admin.execute("SELECT event_data::text FROM orchestration_events WHERE event_type LIKE 'EFFECT_%'").fetchall()
    said = "\n".join(row[0] for row in found)
    assert "hx" not in said
    assert said.count("[redacted]") >= 3


async def test_a_locked_vault_uses_up_no_attempts(
    plane: Plane, tenant: Tenant, vault: RecordedVault, admin: psycopg.Connection
) -> None:
    await plane.secrets.set(tenant.tenant_id, "stripe", "sk_live_1", actor=ADA)
    await plane.secrets.set(tenant.tenant_id, "hooks", "whsec_" + base64.b64encode(b"key").decode(), actor=ADA)

    async def handler(delivery: Delivery) -> str:
        return str(len(await delivery.secret("stripe")))

    effect = await request_effect(plane, tenant.tenant_id)
    vault.vault.lock()
    for _ in range(3):
        await worker_with(handler, max_attempts=1).drain(plane)
        let_time_pass(admin)
    waiting = await get_effect(plane, tenant.tenant_id, effect.id)
    assert (waiting.status, waiting.version) == ("PENDING", 1)
    async with receiver() as (url, received):
        hook = await request_effect(plane, tenant.tenant_id, "k", "HTTP_POST", url=url, json={}, signing_key="vault:hooks")
        await worker_with(HttpPost(allow_private=True), "HTTP_POST", max_attempts=1).drain(plane)
        assert (await get_effect(plane, tenant.tenant_id, hook.id)).status == "PENDING"
        assert received == []
    vault.vault.unlock(opener())
    let_time_pass(admin)
    await worker_with(handler, max_attempts=1).drain(plane)
    assert (await get_effect(plane, tenant.tenant_id, effect.id)).execution_result == "9"


@pytest.mark.usefixtures("vault")
async def test_a_handler_opens_personal_data_in_the_story_of_its_effect(plane: Plane, tenant: Tenant) -> None:
    with await plane.subjects.key(tenant.tenant_id, "customer:1", purpose="a test", actor=ACTOR) as key:
        sealed = key.seal({"mail": "ada@example.org"})

    async def handler(delivery: Delivery) -> str:
        return str((await delivery.reveal(delivery.payload["to"]))["mail"].count("@"))

    effect = await request_effect(plane, tenant.tenant_id, "k", to=sealed)
    await worker_with(handler).drain(plane)
    assert (await get_effect(plane, tenant.tenant_id, effect.id)).execution_result == "1"


async def test_a_process_with_the_wrong_secret_does_not_shut_out_others(plane: Plane, vault: RecordedVault) -> None:
    wrong = Vault(vault.vault.file.folder, vault.vault.config, [Opener("passphrase", bytearray(b"some other words"))])
    with pytest.raises(UnlockRefused, match="does not open the vault"):
        wrong.use(lambda keys: None)
    for _ in range(3):
        with pytest.raises(UnlockRefused, match="was started with"):
            wrong.use(lambda keys: None)
    assert json.loads((vault.vault.file.folder / "attempts.json").read_text())["failures"] == 1


async def test_a_signal_locks_until_somebody_unlocks(plane: Plane, vault: RecordedVault) -> None:
    other = Vault(vault.vault.file.folder, vault.vault.config, [opener()])
    lock_on_signal(plane)
    os.kill(os.getpid(), signal.SIGUSR1)
    async with asyncio.timeout(20):
        while vault.vault.is_unlocked:
            await asyncio.sleep(0.01)
    for item in (vault.vault, other):
        with pytest.raises(VaultLocked, match="by command"):
            item.use(lambda keys: None)
    vault.vault.unlock(opener())
    other.use(lambda keys: None)


async def test_where_the_vault_is_lost_one_can_begin_anew(plane: Plane, tenant: Tenant, vault: RecordedVault) -> None:
    await plane.secrets.set(tenant.tenant_id, "stripe", "sk_live_1", actor=ADA)
    with await plane.subjects.key(tenant.tenant_id, "customer:1", purpose="a test", actor=ACTOR):
        pass
    vault.vault.lock()
    vault.vault.file.path.unlink()
    with pytest.raises(ConfigurationError, match="its file is not here"):
        await check_no_other(plane.server.audit_dsn)
    document = vault.vault.create([opener()])
    await vault.changed("created")
    assert await give_up(plane.server.audit_dsn, document.vault_id, plane.transaction, actor=ADA) == {"secrets": 1, "keys": 2}
    await plane.secrets.set(tenant.tenant_id, "stripe", "sk_live_2", actor=ADA)
    assert await value_of(plane, tenant) == "sk_live_2"
    await assert_lawful(plane)


@pytest.mark.parametrize(
    ("raw", "value"),
    [(b"sk\n", b"sk"), (b"sk\r\n", b"sk"), (b"sk", b"sk"), (b"a\nb\n", b"a\nb\n")],
    ids=["one", "dos", "none", "many"],
)
def test_what_editors_add_to_a_line_is_no_part_of_a_secret(tmp_path: Path, raw: bytes, value: bytes) -> None:
    (tmp_path / "f").write_bytes(raw)
    assert read_value(tmp_path / "f") == value


@pytest.mark.usefixtures("vault")
async def test_what_is_taken_out_of_a_result_leaves_the_rest_as_it_is(plane: Plane, tenant: Tenant) -> None:
    """Keys, numbers and what another tenant's secret happens to be stay; a secret goes however it is written."""
    other = await plane.tenants.create("other", actor="system:test")
    for name, value in (("a", ":true,"), ("b", "123456"), ("c", "amount")):
        await plane.secrets.set(other.tenant_id, name, value, actor=ADA)
    await plane.secrets.set(tenant.tenant_id, "odd", 'pa"ss\\word1\nsecond line', actor=ADA)
    results: dict[str, Any] = {
        "theirs": {"ok": True, "charge": 1234567, "amount": 5, "text": "line one\n4242"},
        "quoted": None,
    }

    async def handler(delivery: Delivery) -> Any:
        if delivery.tenant_id == other.tenant_id:
            for name in "abc":
                await delivery.secret(name)
            return None
        if delivery.idempotency_key == "quoted":
            value = await delivery.secret("odd")
            raise RuntimeError(f"bad header {value!r}, and {value.splitlines()[1]}")
        return results[delivery.idempotency_key]

    await request_effect(plane, other.tenant_id, "k")
    theirs = await request_effect(plane, tenant.tenant_id, "theirs")
    quoted = await request_effect(plane, tenant.tenant_id, "quoted")
    await worker_with(handler, max_attempts=1).drain(plane)
    assert (await get_effect(plane, tenant.tenant_id, theirs.id)).execution_result == results["theirs"]
    message = (await get_effect(plane, tenant.tenant_id, quoted.id)).error_details["message"]
    assert message == "bad header '[redacted]', and [redacted]"


async def test_a_secret_stays_out_of_the_log_however_late_the_handler_fails(
    plane: Plane, tenant: Tenant, vault: RecordedVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistence.logs.redaction._LINGER", 0.01)
    await plane.secrets.set(tenant.tenant_id, "stripe", "hx81Kq7zz", actor=ADA)
    locked = asyncio.Event()

    async def handler(delivery: Delivery) -> None:
        value = await delivery.secret("stripe")
        vault.vault.lock()
        async with asyncio.timeout(20):
            while value in SHARED._values:
                await asyncio.sleep(0.01)
        locked.set()
        raise RuntimeError(f"401: {value}")

    effect = await request_effect(plane, tenant.tenant_id)
    await worker_with(handler, max_attempts=1).drain(plane)
    assert locked.is_set()
    assert "hx81" not in str((await get_effect(plane, tenant.tenant_id, effect.id)).error_details)


def test_what_is_registered_again_outlasts_an_earlier_end(monkeypatch: pytest.MonkeyPatch) -> None:
    redactions = Redactions()
    redactions.register("hx81Kq7zz")
    gone = dict(redactions._stamps)
    redactions.register("hx81Kq7zz")
    redactions._forget(gone)
    assert redactions.text_cleaned("a hx81Kq7zz b") == "a [redacted] b"


async def test_a_second_factor_is_not_asked_for_in_vain_again_and_again(plane: Plane, vault: RecordedVault) -> None:
    phrase = b"correct horse battery"
    vault.vault.change(lambda keys: keys.with_unlocker(Opener("passphrase", bytearray(phrase)), Pbkdf2, 100_000))
    vault.vault.change(lambda keys: keys.with_second_factor(bytearray(20)))
    process = Vault(vault.vault.file.folder, vault.vault.config, [Opener("passphrase", bytearray(phrase))])
    uses: list[str] = []
    process.on_use = lambda use, **_: uses.append(use)
    for _ in range(3):
        with pytest.raises(UnlockRefused):
            process.use(lambda keys: None)
    assert uses == ["refused"]
