"""The built-in effect type HTTP_POST: a webhook, signed as Standard Webhooks has it (https://www.standardwebhooks.com)."""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import httpx2
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from persistence.encoding import encode_bytes
from persistence.errors import ConfigurationError, NotFound, SecretUnavailable
from persistence.outbox.delivery import Delivery, PermanentFailure, RetryLater
from persistence.outbox.public_network import PrivateTarget, public_transport
from persistence.outbox.worker import Worker

EFFECT_TYPE = "HTTP_POST"
_SECRET_PREFIX = "whsec_"  # noqa: S105
_VAULT = "vault:"
_KEPT_BODY = 8192
_LONGEST_RETRY_AFTER = 86_400.0
_TRY_AGAIN = frozenset({408, 423, 425, 429})
_OWN_HEADERS = frozenset(
    {"content-length", "host", "idempotency-key", "transfer-encoding", "webhook-id", "webhook-signature", "webhook-timestamp"}
)


class HttpPostSpec(BaseModel):
    """The spec of an HTTP_POST effect.

    url: http or https. json_body: any JSON; or text_body. headers: besides those of this handler. signing_key: the name of the secret that
    the worker signs with; ``vault:NAME``: a secret of the tenant's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https?://", max_length=4000)
    json_body: Any = Field(None, alias="json")
    text_body: str | None = Field(None, alias="text")
    headers: dict[str, str] = {}
    signing_key: str = "default"
    idempotency_key: str

    @property
    def body(self) -> bytes:
        return encode_bytes(self.json_body) if self.text_body is None else self.text_body.encode()

    @property
    def content_type(self) -> str:
        return "application/json" if self.text_body is None else "text/plain; charset=utf-8"


class SigningKey(BaseModel):
    """A secret to sign with, and whose it is.

    secret: as ``whsec_…`` or plain text. tenants: those that may have something signed with it; none: all.
    hosts: where that may go, each by its name, or by ``.name`` for all below it; none: anywhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    secret: SecretStr
    tenants: tuple[UUID, ...] = ()
    hosts: tuple[str, ...] = ()

    def serves(self, tenant_id: UUID, url: str) -> bool:
        """Whether it may sign what this tenant sends there."""
        if self.tenants and tenant_id not in self.tenants:
            return False
        host = (urlsplit(url).hostname or "").lower()
        return not self.hosts or any(host == name or (name.startswith(".") and host.endswith(name)) for name in self.hosts)


@dataclass
class HttpPost:
    """Delivers HTTP_POST effects.

    secrets: signing keys by name; a plain secret is for all tenants, and only ``default`` may be one: who receives what it signs knows that it
    comes from this plane, not from which tenant. Without a key the request goes unsigned.
    allow_private: whether hosts on private networks may be called; allow_redirects: whether redirects are followed.
    """

    secrets: Mapping[str, str | SigningKey] = field(default_factory=dict)
    allow_private: bool = False
    allow_redirects: bool = False
    timeout: float = 20.0

    def __post_init__(self) -> None:
        self._signers = {name: _signer(name, given) for name, given in self.secrets.items()}
        self._keys = {name: _key(name, signer.secret.get_secret_value()) for name, signer in self._signers.items()}
        self._client: httpx2.AsyncClient | None = None

    async def __call__(self, delivery: Delivery) -> dict[str, Any]:
        """Posts once. Returns status and the beginning of the answer; raises what the worker makes a retry or a dead letter of."""
        try:
            spec = HttpPostSpec.model_validate(delivery.payload)
        except ValidationError as error:
            first = error.errors()[0]
            raise PermanentFailure(f"spec.{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
        body = spec.body
        headers = await self._headers(spec, delivery, body)
        try:
            async with self._open_client().stream("POST", spec.url, content=body, headers=headers) as response:
                answer = await _beginning(response)
        except PrivateTarget as error:
            raise PermanentFailure(str(error), details={"url": _shown(spec.url)}) from error
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.TooManyRedirects) as error:
            raise PermanentFailure(f"{type(error).__name__}: {error}", details={"url": _shown(spec.url)}) from error
        except httpx2.TransportError as error:
            raise RetryLater(f"{type(error).__name__}: {error}".rstrip(": "), details={"url": _shown(spec.url)}) from error
        return _verdict(response, answer, _shown(spec.url))

    def _open_client(self) -> httpx2.AsyncClient:
        if self._client is None:
            # fit: allow outside_call because this is the handler of HTTP_POST itself
            self._client = httpx2.AsyncClient(
                transport=httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_connections=100))
                if self.allow_private
                else public_transport(),
                follow_redirects=self.allow_redirects,
                timeout=self.timeout,
                trust_env=False,
            )
        return self._client

    async def _headers(self, spec: HttpPostSpec, delivery: Delivery, body: bytes) -> dict[str, str]:
        moment = str(int(time.time()))
        message_id = str(delivery.effect_id)
        headers = {name: value for name, value in spec.headers.items() if name.lower() not in _OWN_HEADERS}
        headers |= {
            "content-type": headers.pop("Content-Type", headers.pop("content-type", spec.content_type)),
            "idempotency-key": delivery.idempotency_key,
            "user-agent": "persistence-plane",
            "webhook-id": message_id,
            "webhook-timestamp": moment,
        }
        if spec.signing_key.startswith(_VAULT):
            own = await _vault_key(delivery, spec.signing_key.removeprefix(_VAULT))
            headers["webhook-signature"] = signature(own, message_id, moment, body)
            return headers
        signer = self._signers.get(spec.signing_key)
        key = self._keys[spec.signing_key] if signer and signer.serves(delivery.tenant_id, spec.url) else None
        if key is None and (signer is not None or spec.signing_key != "default"):
            raise PermanentFailure(
                f"spec.signing_key: this worker has no secret named {spec.signing_key!r} for this tenant and host"
            )
        if key is not None:
            headers["webhook-signature"] = signature(key, message_id, moment, body)
        return headers


def signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """The ``webhook-signature`` of a message: v1, HMAC-SHA256 over id, timestamp and body."""
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110 section 10.2.3), at most a day; None when it says nothing that can be read."""
    if not value:
        return None
    try:
        seconds = float(value) if value.strip().isdigit() else (parsedate_to_datetime(value) - now).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER)


def add_http_handler(worker: Worker, post: HttpPost, *, concurrency: int = 50, max_attempts: int = 12) -> None:
    worker.handler(EFFECT_TYPE, timeout=post.timeout + 10, concurrency=concurrency, max_attempts=max_attempts)(post)


def _verdict(response: httpx2.Response, answer: str, url: str) -> dict[str, Any]:
    status = response.status_code
    facts = {"status": status, "url": url, "answer": answer}
    if 200 <= status < 300:
        return {"status": status, "answer": answer}
    if status in _TRY_AGAIN or status >= 500:
        raise RetryLater(f"HTTP {status}", after=retry_after(response.headers.get("retry-after"), datetime.now(UTC)), details=facts)
    if 300 <= status < 400:
        raise PermanentFailure(
            f"HTTP {status}: redirects are not followed",
            details={**facts, "location": _shown(response.headers.get("location", ""))},
        )
    raise PermanentFailure(f"HTTP {status}", details=facts)


async def _beginning(response: httpx2.Response) -> str:
    """The first part of the body as text; the rest is not read."""
    found = b""
    async for chunk in response.aiter_bytes():
        found += chunk
        if len(found) >= _KEPT_BODY:
            break
    return found[:_KEPT_BODY].decode("utf-8", "replace").replace("\x00", "\\0")


async def _vault_key(delivery: Delivery, name: str) -> bytes:
    """What a secret of the tenant's signs with. One that is not there, or over, is a PermanentFailure: no attempt brings it back."""
    try:
        return _key(name, await delivery.secret(name))
    except (NotFound, SecretUnavailable, ConfigurationError) as error:
        raise PermanentFailure(f"spec.signing_key: {error.message}") from error


def _signer(name: str, given: str | SigningKey) -> SigningKey:
    signer = SigningKey(secret=SecretStr(given)) if isinstance(given, str) else given
    if name != "default" and not signer.tenants:
        raise ConfigurationError(
            f"webhook secret {name!r}: says of no tenant that it is theirs",
            hint='PERSISTENCE_WEBHOOK_SECRETS=\'{"NAME": {"secret": "…", "tenants": ["…"], "hosts": ["…"]}}\'',
        )
    return signer


def _shown(url: str) -> str:
    """A URL without what may be secret in it: user, password, query, fragment."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "…" if parts.query else "", ""))
    except ValueError:
        return "(unreadable)"


def _key(name: str, secret: str) -> bytes:
    if not secret.removeprefix(_SECRET_PREFIX):
        raise ConfigurationError(f"webhook secret {name!r}: is empty", hint="leave it out, then nothing is signed")
    if not secret.startswith(_SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise ConfigurationError(f"webhook secret {name!r}: what follows whsec_ is not base64") from error
