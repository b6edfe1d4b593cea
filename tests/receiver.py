"""A receiver of webhooks: an HTTP/1.1 server that keeps what it was sent."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Received], tuple[int, dict[str, str], bytes]]


@asynccontextmanager
async def receiver(answer: Answer = lambda _: (200, {}, b"thanks")) -> AsyncIterator[tuple[str, list[Received]]]:
    """Serves on loopback; yields its URL and the requests it gets."""
    received: list[Received] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                request = Received(head[0].split(" ")[1], headers, body)
                received.append(request)
                status, extra, content = answer(request)
                lines = [
                    f"HTTP/1.1 {status} X",
                    f"Content-Length: {len(content)}",
                    *(f"{k}: {v}" for k, v in extra.items()),
                    "",
                    "",
                ]
                writer.write("\r\n".join(lines).encode() + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", received
    finally:
        server.close()
