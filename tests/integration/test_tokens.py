"""Access over the network: who gets in, and for how long."""

from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest

from persistence import Plane
from persistence.errors import InvalidInput, NotAuthenticated, NotFound, PermissionDenied
from persistence.models import Role, Tenant, new_id
from persistence.tokens import tokens_of
from tests.helpers import ACTOR


async def issued(plane: Plane, tenant: Tenant, role: Role = Role.OPERATOR, lasts: timedelta | None = None) -> str:
    text, _ = await plane.tokens.issue(tenant.tenant_id, "ci", role=role, acts_as="user:ada", actor="user:boss", lasts=lasts)
    return text


async def test_a_token_names_its_tenant_role_and_actor(plane: Plane, tenant: Tenant) -> None:
    text, token = await plane.tokens.issue(tenant.tenant_id, "ci", role=Role.OPERATOR, acts_as="user:ada", actor="user:boss")
    bearer = await plane.tokens.authenticate(text)
    assert (bearer.tenant_id, bearer.token_id, bearer.role, bearer.acts_as) == (
        tenant.tenant_id,
        token.id,
        Role.OPERATOR,
        "user:ada",
    )


async def test_only_a_digest_is_kept(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    text = await issued(plane, tenant)
    [(dump,)] = admin.execute("SELECT string_agg(t::text, ' ') FROM api_tokens AS t").fetchall()
    [(log,)] = admin.execute("SELECT string_agg(e.event_data::text, ' ') FROM orchestration_events AS e").fetchall()
    assert text not in dump + log
    assert text[-30:] not in dump + log
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        with pytest.raises(PermissionDenied):
            await tx.fetch("SELECT digest FROM api_tokens")


async def test_issuing_and_revoking_are_events(plane: Plane, tenant: Tenant) -> None:
    text = await issued(plane, tenant)
    bearer = await plane.tokens.authenticate(text)
    assert await plane.tokens.revoke(tenant.tenant_id, bearer.token_id, actor="user:boss")
    assert not await plane.tokens.revoke(tenant.tenant_id, bearer.token_id, actor="user:boss")
    with pytest.raises(NotAuthenticated, match="unknown, expired or revoked"):
        await plane.tokens.authenticate(text)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        events = await tx.events.of_aggregate(tenant.tenant_id)
        [token] = await tokens_of(tx)
    assert [(event.event_type, event.actor) for event in events[-2:]] == [
        ("TENANT_TOKEN_ISSUED", "user:boss"),
        ("TENANT_TOKEN_REVOKED", "user:boss"),
    ]
    assert events[-2].event_data["acts_as"] == "user:ada"
    assert token.revoked_at is not None


async def test_an_expired_token_does_not_hold(plane: Plane, tenant: Tenant, admin: psycopg.Connection) -> None:
    text = await issued(plane, tenant, lasts=timedelta(hours=1))
    await plane.tokens.authenticate(text)
    admin.execute("UPDATE api_tokens SET expires_at = now()")
    with pytest.raises(NotAuthenticated):
        await plane.tokens.authenticate(text)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t[:-2],
        lambda t: t[:-2] + ("AA" if t[-2:] != "AA" else "BA"),
        lambda _: "",
        lambda _: "pp_",
        lambda t: t[3:],
        lambda t: t + "é",
    ],
)
async def test_what_is_not_the_token_does_not_hold(plane: Plane, tenant: Tenant, spoil) -> None:  # type: ignore[no-untyped-def]
    text = await issued(plane, tenant)
    with pytest.raises(NotAuthenticated):
        await plane.tokens.authenticate(spoil(text))


async def test_a_token_of_one_tenant_says_nothing_of_another(plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    await issued(plane, tenant)
    async with plane.transaction(other.tenant_id, actor=ACTOR) as tx:
        assert await tokens_of(tx) == []


async def test_wrong_wishes_are_refused_by_name(plane: Plane, tenant: Tenant) -> None:
    for wrong, field in (({"name": ""}, "name"), ({"acts_as": "ada"}, "acts_as"), ({"lasts": timedelta(0)}, "lasts")):
        wishes = {"name": "x", "role": Role.READER, "acts_as": "user:x", "actor": "user:x", **wrong}
        with pytest.raises(InvalidInput, match=field):
            await plane.tokens.issue(tenant.tenant_id, wishes.pop("name"), **wishes)  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="does not belong"):
        await plane.tokens.issue(tenant.tenant_id, "x", role=Role.READER, acts_as="user:x", actor="user:x", user_id=uuid4())
    with pytest.raises(NotFound):
        await plane.tokens.issue(new_id(), "x", role=Role.READER, acts_as="user:x", actor="user:x")
