"""The HTTP protocol of the server, with limits on what somebody may send or keep open before it is known who that is."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto.events import Request

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's line and headers."""

HEAD_SECONDS: Final = 10.0
"""From the connection, or the answer before, until the headers have come."""

DIRECT: Final = "persistence.direct"
"""The extension of a WebSocket's scope that has its ``SocketProtocol``."""

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class LimitedProtocol(HttpToolsProtocol):
    """Closes connections whose headers are too long in coming, or too long."""

    _head_bytes = 0
    _in_head = True
    _is_whole = False
    _is_answered = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD and self._head_end(data) > MAX_HEAD:
                self.transport.write(_TOO_LARGE)
                self.transport.close()
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._in_head = self._is_whole = self._is_answered = False
        self._head_bytes = 0
        self._cancel_deadline()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_whole = True
        super().on_message_complete()
        if self._is_answered:
            self._expect_head()

    def on_response_complete(self) -> None:
        self._is_answered = True
        super().on_response_complete()
        if self._is_whole:  # otherwise the rest of a body that was refused is still to come
            self._expect_head()

    def _head_end(self, data: bytes) -> int:
        """How many bytes of the head have come with this chunk, which may hold a part of the body, too."""
        end = data.find(b"\r\n\r\n")
        return self._head_bytes if end < 0 else self._head_bytes - len(data) + end

    def _expect_head(self) -> None:
        self._cancel_deadline()
        if self.transport.is_closing():
            return
        self._in_head = True
        self._head_bytes = 0
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class SocketProtocol(WSProtocol):
    """A WebSocket to which whole frames can be written at once: one that many are sent is made once, and nobody is woken for it."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[DIRECT] = self

    def write_frame(self, frame: bytes) -> bool:
        """Writes a frame, unless what was written before waits for the client, or the socket is closing. Whether it did."""
        if self.close_sent or self.disconnected or not self.writable.is_set() or self.transport.is_closing():
            return False
        self.transport.write(frame)
        return True


def text_frame(text: str) -> bytes:
    """A text as the frame that a server sends (RFC 6455 section 5.2): whole, and not masked."""
    body = text.encode()
    size = len(body)
    if size < 126:
        return bytes((0x81, size)) + body
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2) + body
    return b"\x81\x7f" + size.to_bytes(8) + body
