"""Bodies that are too large are refused before they are read whole."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from persistence.service.problems import problem


class BodyLimit:
    """Answers 413 to a request whose body exceeds ``limit`` bytes, be its length announced or not."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self._limit:
            await self._refuse(scope, receive, send)
            return
        read: list[Message] = []
        size = 0
        while not read or (read[-1]["type"] == "http.request" and read[-1].get("more_body", False)):
            read.append(await receive())
            size += len(read[-1].get("body", b""))
            if size > self._limit:
                await self._refuse(scope, receive, send)
                return

        async def again() -> Message:
            return read.pop(0) if read else await receive()

        await self._app(scope, again, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = problem(
            413, f"the body exceeds {self._limit} bytes", "send less, or keep large things elsewhere and record where"
        )
        await response(scope, receive, send)
