"""The worker that comes with the package: the built-in effect types, set up from the environment.

``persistence worker`` adds them to the worker of ``--app``, too; a program that runs a worker itself does so with ``add_builtin_handlers``.
"""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from persistence.outbox.embed_handler import add_embed_handler
from persistence.outbox.http_handler import EFFECT_TYPE as HTTP_POST
from persistence.outbox.http_handler import HttpPost, SigningKey, add_http_handler
from persistence.outbox.log_handler import EFFECT_TYPE as LOG
from persistence.outbox.log_handler import add_log_handler
from persistence.outbox.nats_handler import EFFECT_TYPE as NATS_PUBLISH
from persistence.outbox.nats_handler import NatsConnection, add_nats_handler
from persistence.outbox.worker import Worker
from persistence.repositories.memories import EMBED
from persistence.stores.memory import Backends


class WebhookSettings(BaseSettings):
    """PERSISTENCE_WEBHOOK_SECRET signs; PERSISTENCE_WEBHOOK_ALLOW_PRIVATE and …_ALLOW_REDIRECTS lift what is refused by default."""

    model_config = SettingsConfigDict(env_prefix="PERSISTENCE_WEBHOOK_", frozen=True)

    secret: SecretStr | None = None
    secrets: dict[str, SigningKey] = Field(default_factory=dict)
    allow_private: bool = False
    allow_redirects: bool = False
    timeout: float = 20.0


def add_builtin_handlers(
    worker: Worker, settings: WebhookSettings | None = None, *, backends: Backends | None = None, nats: NatsConnection | None = None
) -> Worker:
    """Gives a worker the handlers for HTTP_POST and LOG, with ``backends`` that for EMBED, and with ``nats`` that for NATS_PUBLISH, as far as it has
    none of its own for them.
    """
    settings = settings or WebhookSettings()
    named: dict[str, str | SigningKey] = dict(settings.secrets)
    if settings.secret is not None and settings.secret.get_secret_value():
        named["default"] = settings.secret.get_secret_value()
    post = HttpPost(named, settings.allow_private, settings.allow_redirects, settings.timeout)
    if HTTP_POST not in worker.handlers:
        add_http_handler(worker, post)
    if LOG not in worker.handlers:
        add_log_handler(worker)
    if backends is not None and EMBED not in worker.handlers:
        add_embed_handler(worker, backends)
    if nats is not None and NATS_PUBLISH not in worker.handlers:
        add_nats_handler(worker, nats)
    return worker
