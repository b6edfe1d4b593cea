"""Whose tokens hold, asked of the database as seldom as can be without trusting one that was revoked."""

import asyncio
from collections import OrderedDict
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from persistence.errors import NotAuthenticated, ServerError, Unavailable
from persistence.models import Bearer
from persistence.tokens import Tokens, check_token

_PATIENCE: Final = 1.0
_PATIENCE_WHILE_AWAY: Final = 0.02
_REMEMBERED_SECONDS: Final = 3600.0
_MOST_REMEMBERED: Final = 10_000


class Doorkeeper:
    """Requests that come with one token while the database is being asked about it wait for the next answer, which serves them all.

    So no answer is older than the request it serves: a token that is revoked ends at once.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._asking: dict[bytes, asyncio.Task[Bearer]] = {}
        self._next: dict[bytes, asyncio.Task[Bearer]] = {}
        self._remembered: OrderedDict[bytes, tuple[Bearer, float]] = OrderedDict()
        self.is_away = False

    async def bearer(self, text: str) -> Bearer:
        """Whose token this is. Raises NotAuthenticated, or Unavailable while the database is away."""
        return await asyncio.shield(self._answer(text))

    async def bearer_remembered(self, text: str) -> Bearer:
        """The same; while the database is away, a token that held within the last hour and has not expired still holds.

        For what has to go on without a database: whoever asks is told nothing of it and changes nothing in it.
        """
        try:
            async with asyncio.timeout(_PATIENCE_WHILE_AWAY if self.is_away else _PATIENCE):
                return await self.bearer(text)
        except (TimeoutError, Unavailable, ServerError) as error:
            self.is_away = True
            known, confirmed = self._remembered.get(_key(text), (None, 0.0))
            if known is None or asyncio.get_running_loop().time() - confirmed > _REMEMBERED_SECONDS:
                raise Unavailable(
                    "the database is away, and this token was not used of late", hint="try again once the database is back"
                ) from error
            if known.expires_at is not None and known.expires_at <= datetime.now(UTC):
                raise NotAuthenticated("the token is expired", hint="persistence token issue makes a new one") from None
            return known

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
        try:
            bearer = await self._tokens.authenticate(text)
        except NotAuthenticated:
            self.is_away = False
            self._remembered.pop(key, None)
            raise
        finally:
            del self._asking[key]
        self.is_away = False
        self._remembered[key] = bearer, asyncio.get_running_loop().time()
        self._remembered.move_to_end(key)
        if len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return bearer


def _key(text: str) -> bytes:
    return sha256(text.encode()).digest()
