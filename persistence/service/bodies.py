"""Bodies that are too large are refused as soon as that is known, and never kept."""

import asyncio
from collections.abc import Callable
from typing import Final

from fastapi.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from persistence.service.problems import too_large

CHUNK_SECONDS: Final = 30.0
"""Between two parts of a body."""


class BodyTooLarge(HTTPException):
    """Raised where the body is read, in the middle of it."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, _said(limit))


class BodyLimit:
    """Answers 413 to a request whose body exceeds its limit, be its length announced or counted as it comes in."""

    def __init__(self, app: ASGIApp, limit_of: Callable[[str], int]) -> None:
        """limit_of: bytes, by the path of the request."""
        self._app = app
        self._limit_of = limit_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"])
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > limit:
            await too_large(_said(limit))(scope, receive, send)
            return
        size = 0
        is_whole = False

        async def counted() -> Message:
            nonlocal size, is_whole
            if is_whole:
                return await receive()  # it waits for the end of the connection
            try:
                async with asyncio.timeout(CHUNK_SECONDS):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"no more of the body came within {CHUNK_SECONDS:g} seconds") from None
            is_whole = not message.get("more_body", False)
            size += len(message.get("body", b""))
            if size > limit:
                raise BodyTooLarge(limit)
            return message

        await self._app(scope, counted, send)


def _said(limit: int) -> str:
    return f"the body exceeds {limit} bytes"
