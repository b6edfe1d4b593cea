"""Whose tokens hold, asked of the database as seldom as can be without trusting one that was revoked."""

import asyncio
import time
from collections import OrderedDict
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from hashlib import sha256
from types import TracebackType
from typing import Final, Self
from uuid import UUID

from persistence.database.failures import DATABASE_ERRORS
from persistence.database.pool import connect, open_pool
from persistence.errors import NotAuthenticated, PersistenceError, ServerError, Unavailable
from persistence.models import Bearer
from persistence.outbox.listener import Listener
from persistence.plane import Plane
from persistence.tokens import CHANNEL, Tokens, check_token

_PATIENCE: Final = 1.0
_PATIENCE_WHILE_AWAY: Final = 0.02
_PATIENCE_WHILE_SLOW: Final = 10.0
_REMEMBERED_SECONDS: Final = 3600.0
_MOST_REMEMBERED: Final = 10_000
_CONNECTIONS: Final = 3


class TokenCache:
    """Requests that come with one token while the database is being asked about it wait for the next answer, which serves them all.

    So no answer is older than the request it serves: a token that is revoked ends at once. It asks on connections of its own, so that a pool that is
    busy with other work holds up nobody at the door.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._settings = plane.settings.model_copy(update={"pool_min": 0, "pool_max": _CONNECTIONS, "retry_for": 0.2})
        self._resources = AsyncExitStack()
        self._tokens: Tokens | None = None
        self._asking: dict[bytes, asyncio.Task[Bearer]] = {}
        self._next: dict[bytes, asyncio.Task[Bearer]] = {}
        self._remembered: OrderedDict[bytes, tuple[Bearer, float]] = OrderedDict()
        self._revoked: OrderedDict[UUID, None] = OrderedDict()
        self._away_until = 0.0

    async def __aenter__(self) -> Self:
        server = self._plane.server
        pool = await open_pool(server.dsn, self._settings)
        self._resources.callback(pool.terminate)
        self._tokens = Tokens(pool, self._settings)
        if not self._settings.transaction_pooler or server.direct_dsn != server.dsn:
            listener = Listener(server.direct_dsn, self._settings, CHANNEL, heard=self._hear, connected=self._forget_all)
            await self._resources.enter_async_context(listener)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._resources.aclose()

    async def bearer(self, text: str) -> Bearer:
        """Whose token this is. Raises NotAuthenticated, or Unavailable while the database is away."""
        return await asyncio.shield(self._answer(text))

    async def bearer_remembered(self, text: str) -> Bearer:
        """The same; while the database is away, a token that held within the last hour and has not expired still holds.

        For what has to go on without a database: whoever asks is told nothing of it and changes nothing in it. A database that is only slow is not
        away: then it is Unavailable.
        """
        was_away = time.monotonic() < self._away_until
        answer = self._answer(text)
        try:
            async with asyncio.timeout(_PATIENCE_WHILE_AWAY if was_away else _PATIENCE):
                return await asyncio.shield(answer)
        except (TimeoutError, Unavailable, ServerError) as error:
            if not was_away and not await self._is_away(error):
                try:
                    async with asyncio.timeout(_PATIENCE_WHILE_SLOW):
                        return await asyncio.shield(answer)
                except (TimeoutError, Unavailable, ServerError):
                    raise Unavailable("the database is slow", hint="try again in a moment") from error
            known, confirmed = self._remembered.get(_key(text), (None, 0.0))
            if known is None or time.monotonic() - confirmed > _REMEMBERED_SECONDS:
                raise Unavailable(
                    "the database is away, and this token was not used of late", hint="try again once the database is back"
                ) from error
            if known.expires_at is not None and known.expires_at <= datetime.now(UTC):
                raise NotAuthenticated("the token is expired", hint="persistence token issue makes a new one") from None
            return known

    def knows(self, text: str) -> bool:
        """Whether this token held of late."""
        return _key(text) in self._remembered

    def forget(self, token_id: UUID) -> None:
        """The token was revoked: no answer that is under way counts any more."""
        self._revoked[token_id] = None
        if len(self._revoked) > _MOST_REMEMBERED:
            self._revoked.popitem(last=False)
        for key in [key for key, (bearer, _) in self._remembered.items() if bearer.token_id == token_id]:
            del self._remembered[key]

    def is_revoked(self, token_id: UUID) -> bool:
        """Whether this process has heard that a token was revoked."""
        return token_id in self._revoked

    def _hear(self, payload: str) -> None:
        try:
            self.forget(UUID(payload))
        except ValueError:
            self._forget_all()

    def _forget_all(self) -> None:
        """A revocation may have been missed."""
        self._remembered.clear()

    async def _is_away(self, error: BaseException) -> bool:
        """Whether the server cannot be reached, as opposed to being slow or full. Notes it for a second."""
        if isinstance(error, PersistenceError) and error.sqlstate is not None and not error.sqlstate.startswith("57P"):
            return False
        try:
            async with asyncio.timeout(_PATIENCE):
                connection = await connect(self._plane.server.dsn, self._settings)
            connection.terminate()
        except (PersistenceError, TimeoutError, *DATABASE_ERRORS) as refused:
            state = getattr(refused.__cause__, "sqlstate", None)
            if state is not None and not state.startswith("57P"):
                return False  # it answered
            self._away_until = time.monotonic() + _PATIENCE
            return True
        return False

    def _answer(self, text: str) -> asyncio.Task[Bearer]:
        """The first answer to a question that is asked from now on."""
        check_token(text)
        key = _key(text)
        following = self._next.get(key)
        if following is not None:
            return following  # it has not asked yet
        asking = self._asking.get(key)
        task = asyncio.create_task(self._ask(key, text, asking))
        (self._asking if asking is None else self._next)[key] = task
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _ask(self, key: bytes, text: str, after: asyncio.Task[Bearer] | None) -> Bearer:
        if after is not None:
            await asyncio.wait({after})
            self._asking[key] = self._next.pop(key)
        assert self._tokens is not None
        try:
            bearer = await self._tokens.authenticate(text)
            if bearer.token_id in self._revoked:
                raise NotAuthenticated("the token was revoked", hint="persistence token issue makes a new one")
        except NotAuthenticated:
            self._away_until = 0.0
            self._remembered.pop(key, None)
            raise
        finally:
            del self._asking[key]
        self._away_until = 0.0
        self._remembered[key] = bearer, time.monotonic()
        self._remembered.move_to_end(key)
        if len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return bearer


def _key(text: str) -> bytes:
    return sha256(text.encode()).digest()
