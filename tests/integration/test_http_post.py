"""HTTP_POST against a real receiver on this machine."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from persistence import Plane
from persistence.models import Effect, Tenant
from persistence.outbox import Backoff, Worker
from persistence.outbox.http_handler import HttpPost, SigningKey
from tests.helpers import ACTOR, get_effect, request_effect, start_run
from tests.receiver import Received, receiver


async def deliver(plane: Plane, post: HttpPost) -> None:
    worker = Worker(name="tester", listen=False)
    worker.handler("HTTP_POST", timeout=post.timeout + 1, max_attempts=5, backoff=Backoff(1000, 1000))(post)
    await worker.drain(plane)


async def sent(plane: Plane, tenant: Tenant, url: str, post: HttpPost | None = None, **spec: Any) -> Effect:
    effect = await request_effect(plane, tenant.tenant_id, "order-7", "HTTP_POST", url=url, **spec)
    await deliver(plane, post or HttpPost(allow_private=True, timeout=2))
    return await get_effect(plane, tenant.tenant_id, effect.id)


async def test_a_webhook_is_signed_and_carries_its_key(plane: Plane, tenant: Tenant) -> None:
    async with receiver() as (url, received):
        post = HttpPost({"default": "whsec_" + base64.b64encode(b"key").decode()}, allow_private=True)
        effect = await sent(
            plane, tenant, url, post, json={"größe": 1}, headers={"X-Mine": "1", "Host": "elsewhere", "webhook-id": "forged"}
        )
        [request] = received
        assert effect.status == "EXECUTED"
        assert effect.execution_result == {"status": 200, "answer": "thanks"}
        headers = request.headers
        assert headers["idempotency-key"] == "order-7"
        assert headers["webhook-id"] == str(effect.id)
        assert headers["x-mine"] == "1"
        assert headers["host"] in url
        assert headers["content-type"] == "application/json"
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
        assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.new(b"key", signed, hashlib.sha256).digest()).decode()


async def test_a_key_signs_for_its_tenant_and_its_hosts_alone(plane: Plane, tenant: Tenant) -> None:
    other = await plane.tenants.create("other", actor="system:test")
    async with receiver() as (url, received):
        key = SigningKey(secret="s3cret", tenants=(tenant.tenant_id,), hosts=("127.0.0.1",))
        post = HttpPost(
            {"acme": key, "far": SigningKey(secret="x", tenants=(tenant.tenant_id,), hosts=(".example",))}, allow_private=True
        )
        assert (await sent(plane, tenant, url, post, json={}, signing_key="acme")).status == "EXECUTED"
        assert "webhook-signature" in received[0].headers
        stolen = await sent(plane, other, url, post, json={}, signing_key="acme")
        assert (stolen.status, "no secret named 'acme'" in stolen.error_details["message"]) == ("DEAD_LETTER", True)
        assert len(received) == 1
    run = await start_run(plane, tenant.tenant_id)
    async with plane.transaction(tenant.tenant_id, actor=ACTOR) as tx:
        elsewhere = tx.effects.request(
            run,
            "HTTP_POST",
            spec={"url": "http://user:pass@127.0.0.1:9/p?token=abc", "json": {}, "signing_key": "far"},
            idempotency_key="far",
        )
        failing = tx.effects.request(
            run, "HTTP_POST", spec={"url": "http://user:pass@127.0.0.1:9/p?token=abc", "json": {}}, idempotency_key="f"
        )
    await deliver(plane, post)
    assert (await get_effect(plane, tenant.tenant_id, elsewhere.id)).status == "DEAD_LETTER"
    said = str((await get_effect(plane, tenant.tenant_id, failing.id)).error_details)
    assert ("127.0.0.1:9/p" in said, "pass" in said, "abc" in said) == (True, False, False)


@pytest.mark.parametrize(
    ("status", "headers", "outcome", "waits"),
    [
        (204, {}, "EXECUTED", None),
        (500, {}, "PENDING", None),
        (429, {"Retry-After": "120"}, "PENDING", 120),
        (503, {"Retry-After": "7"}, "PENDING", 7),
        (400, {}, "DEAD_LETTER", None),
        (410, {}, "DEAD_LETTER", None),
        (302, {"Location": "/elsewhere"}, "DEAD_LETTER", None),
    ],
)
async def test_the_answer_decides(
    plane: Plane, tenant: Tenant, status: int, headers: dict[str, str], outcome: str, waits: int | None
) -> None:
    async with receiver(lambda _: (status, headers, b"because")) as (url, received):
        effect = await sent(plane, tenant, url, json={})
        assert (effect.status, len(received)) == (outcome, 1)
        if outcome != "EXECUTED":
            assert effect.error_details["status"] == status
        if waits:
            assert effect.next_retry_at is not None
            assert effect.updated_at is not None
            assert (effect.next_retry_at - effect.updated_at).total_seconds() == pytest.approx(waits, abs=1)


async def test_redirects_are_followed_when_allowed(plane: Plane, tenant: Tenant) -> None:
    def answer(request: Received) -> tuple[int, dict[str, str], bytes]:
        return (307, {"Location": "/there"}, b"") if request.path == "/" else (200, {}, b"arrived")

    async with receiver(answer) as (url, received):
        effect = await sent(plane, tenant, url, HttpPost(allow_private=True, allow_redirects=True), text="plain")
        assert effect.execution_result["answer"] == "arrived"
        assert [request.body for request in received] == [b"plain", b"plain"]


async def test_private_targets_are_refused(plane: Plane, tenant: Tenant) -> None:
    async with receiver() as (url, received):
        effect = await sent(plane, tenant, url.replace("127.0.0.1", "localhost"), HttpPost(), json={})
        assert (effect.status, received) == ("DEAD_LETTER", [])
        assert "not public" in effect.error_details["message"]


@pytest.mark.parametrize(
    "spec", [{"url": "file:///etc/passwd"}, {"url": "https://x.example", "colour": 1}, {"url": "http://", "json": 1}]
)
async def test_a_spec_that_makes_no_request_is_a_dead_letter(plane: Plane, tenant: Tenant, spec: dict[str, Any]) -> None:
    effect = await sent(plane, tenant, **spec)
    assert effect.status == "DEAD_LETTER", effect.error_details


async def test_a_receiver_that_is_not_there_is_tried_again(plane: Plane, tenant: Tenant) -> None:
    async with receiver() as (url, _):
        pass
    effect = await sent(plane, tenant, url, json={})
    assert (effect.status, effect.retry_count) == ("PENDING", 1)
    assert "Connect" in effect.error_details["message"]


@asynccontextmanager
async def raw_server(behave: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> AsyncIterator[str]:
    server = await asyncio.start_server(behave, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", b"nonsense\r\n\r\n"])
async def test_half_an_answer_is_none(plane: Plane, tenant: Tenant, words: bytes) -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(words)
        writer.close()

    async with raw_server(behave) as url:
        effect = await sent(plane, tenant, url, json={})
        assert (effect.status, effect.retry_count) == ("PENDING", 1)


async def test_a_receiver_that_never_answers_is_given_up(plane: Plane, tenant: Tenant) -> None:
    waiting = asyncio.Event()

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await waiting.wait()
        writer.close()

    async with raw_server(behave) as url:
        effect = await sent(plane, tenant, url, HttpPost(allow_private=True, timeout=0.1), json={})
        assert "Timeout" in effect.error_details["message"]
        waiting.set()
