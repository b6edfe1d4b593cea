"""A way to the server that can be closed: for what happens while the database is away."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_SOCKET = ".s.PGSQL.5432"


class Way:
    """host: what a DSN names instead of the server's folder."""

    def __init__(self, target: str, folder: Path) -> None:
        self.host = str(folder)
        self._target = f"{target}/{_SOCKET}"
        self._socket = folder / _SOCKET
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def reopen(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._socket)

    async def close(self) -> None:
        """Nobody gets through any more, and who was through is cut off."""
        if self._server is not None:
            self._server.close()
            self._socket.unlink(missing_ok=True)
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        self._open |= {writer, server_writer}
        await asyncio.gather(self._pump(reader, server_writer), self._pump(server_reader, writer))
        self._open -= {writer, server_writer}

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, OSError):
            while chunk := await source.read(65536):
                sink.write(chunk)
                await sink.drain()
        with suppress(ConnectionError, OSError):
            sink.close()


@asynccontextmanager
async def way_to(target: str) -> AsyncIterator[Way]:
    """target: the folder of the server's socket."""
    folder = Path(tempfile.mkdtemp(prefix="way-"))
    way = Way(target, folder)
    await way.reopen()
    try:
        yield way
    finally:
        await way.close()
        shutil.rmtree(folder, ignore_errors=True)
