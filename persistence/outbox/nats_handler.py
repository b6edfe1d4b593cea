"""The built-in effect type NATS_PUBLISH: a message to a JetStream of NATS, kept there once however often it is sent (https://docs.nats.io/nats-concepts/jetstream).

NATS is where messages go, never where the truth is: what was sent stays in the log, and can be sent again.
"""

import asyncio
import re
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from persistence.encoding import encode_bytes
from persistence.errors import ConfigurationError, Unavailable
from persistence.outbox.delivery import Delivery, PermanentFailure, RetryLater
from persistence.outbox.worker import Worker

T = TypeVar("T")

EFFECT_TYPE: Final = "NATS_PUBLISH"
MESSAGE_ID: Final = "Nats-Msg-Id"
"""The header by which JetStream knows a message that it has."""

_SUBJECT: Final = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
_TOO_LARGE: Final = "maximum payload"


class NatsSettings(BaseSettings):
    """PERSISTENCE_NATS_URL: nats://host:4222, or several with commas. PERSISTENCE_NATS_CREDENTIALS: a file of credentials; …_TOKEN: a token instead.
    PERSISTENCE_NATS_PREFIX: before every subject; ``{tenant}`` is the tenant's id, so that none reaches another's. PERSISTENCE_NATS_TIMEOUT:
    seconds that a message may take.
    """

    model_config = SettingsConfigDict(env_prefix="PERSISTENCE_NATS_", frozen=True)

    url: str | None = None
    credentials: Path | None = None
    token: SecretStr | None = None
    prefix: str = Field(default="persistence.{tenant}", pattern=r"^[^\s*>]*$")
    timeout: float = Field(default=5.0, gt=0, le=60)


class NatsPublishSpec(BaseModel):
    """The spec of a NATS_PUBLISH effect. subject: behind the worker's prefix. json: any JSON; or text. headers: besides those of this handler."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: str = Field(min_length=1, max_length=500)
    json_body: Any = Field(None, alias="json")
    text_body: str | None = Field(None, alias="text")
    headers: dict[str, str] = {}
    idempotency_key: str

    @property
    def body(self) -> bytes:
        return encode_bytes(self.json_body) if self.text_body is None else self.text_body.encode()


class NatsConnection:
    """One connection to NATS, made when it is first used and again when it was lost. Use it as ``async with``."""

    def __init__(self, settings: NatsSettings) -> None:
        """Raises ConfigurationError where there is no URL, or the package nats-py is missing."""
        if settings.url is None:
            raise ConfigurationError("there is no URL of NATS", hint="set PERSISTENCE_NATS_URL, or pass --url", field="url")
        try:
            import nats  # noqa: PLC0415  an extra
        except ImportError as error:
            raise ConfigurationError("the package nats-py is missing", hint="pip install persistence-plane[nats]") from error
        self.settings = settings
        self._connect = nats.connect
        self._nats: Any = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._nats is not None:
            with suppress(Exception):
                await self._nats.close()
            self._nats = None

    async def jetstream(self) -> Any:
        """Raises Unavailable while NATS cannot be reached."""
        async with self._connecting:
            if self._nats is None or self._nats.is_closed:
                self._nats = await self._open()
        if not self._nats.is_connected:
            raise Unavailable("NATS cannot be reached", hint="it is tried again")
        return self._nats.jetstream(timeout=self.settings.timeout)

    async def _open(self) -> Any:
        given, timeout = self.settings, self.settings.timeout
        assert given.url is not None
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(
                    given.url.split(","),
                    user_credentials=None if given.credentials is None else str(given.credentials),
                    token=None if given.token is None else given.token.get_secret_value(),
                    connect_timeout=timeout,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.2,
                    error_cb=_quiet,
                    pending_size=0,
                )
        except Exception as error:
            raise Unavailable(f"NATS cannot be reached: {str(error) or type(error).__name__}", hint="it is tried again") from error

    async def publish(self, subject: str, body: bytes, message_id: str, headers: dict[str, str]) -> bool:
        """Returns once JetStream keeps it: True if it did before. Raises Unavailable, and ConfigurationError where no stream takes the subject."""
        from nats.js import errors  # noqa: PLC0415  an extra

        stream = await self.jetstream()
        try:
            done = await apart(stream.publish(subject, body, headers={**headers, MESSAGE_ID: message_id}))
        except errors.NoStreamResponseError as error:
            raise ConfigurationError(
                f"no stream of NATS takes {subject}", hint="make one for it: persistence streams nats stream NAME SUBJECT"
            ) from error
        except Exception as error:
            if _TOO_LARGE in str(error):
                raise
            raise Unavailable(f"NATS did not take it: {str(error) or type(error).__name__}", hint="it is tried again") from error
        return bool(done.duplicate)


async def apart(work: Coroutine[Any, Any, T]) -> T:
    """Awaits something of nats-py, which takes being cancelled for a time-out: here who is cancelled is."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be there to hear of it
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        raise


def subject_of(settings: NatsSettings, tenant_id: UUID, subject: str) -> str:
    """A tenant's subject. Raises ValueError for one that NATS does not take, or that is a pattern."""
    prefix = settings.prefix.replace("{tenant}", str(tenant_id)).strip(".")
    whole = f"{prefix}.{subject}" if prefix else subject
    if not _SUBJECT.fullmatch(whole):
        raise ValueError(f"subject: {subject!r} is none: words with dots between, without blanks, * and >")
    return whole


def add_nats_handler(worker: Worker, connection: NatsConnection) -> Worker:
    """Makes a worker publish NATS_PUBLISH effects. The message's id is that of the effect, so that JetStream keeps it once within its window for
    duplicates, however often it is sent.
    """

    @worker.handler(EFFECT_TYPE)
    async def publish(delivery: Delivery) -> dict[str, Any]:
        try:
            spec = NatsPublishSpec.model_validate(delivery.payload)
            subject = subject_of(connection.settings, delivery.tenant_id, spec.subject)
        except ValidationError as error:
            raise PermanentFailure(f"the spec is none: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from error
        except ValueError as error:
            raise PermanentFailure(str(error)) from error
        wrong = next((name for name in spec.headers if not _HEADER.fullmatch(name)), None)
        if wrong is not None:
            raise PermanentFailure(f"headers: {wrong[:50]!r} is no name of one")
        headers = {
            **{name: value for name, value in spec.headers.items() if not name.lower().startswith("nats-")},
            "Persistence-Correlation": str(delivery.correlation_id),
            "Persistence-Causation": str(delivery.causation_id),
            **({"traceparent": delivery.traceparent} if delivery.traceparent else {}),
        }
        try:
            is_known = await connection.publish(subject, spec.body, str(delivery.effect_id), headers)
        except Unavailable as error:
            raise RetryLater(error.message, after=1.0) from error
        except ConfigurationError as error:
            raise RetryLater(f"{error.message}: {error.hint}", after=60.0) from error
        except Exception as error:
            raise PermanentFailure(f"NATS refuses it: {error}") from error
        return {"subject": subject, "message_id": str(delivery.effect_id), "was_known": is_known}

    return worker


async def _quiet(_: Exception) -> None:
    """Connections that are lost are made again; who publishes meanwhile is told."""
