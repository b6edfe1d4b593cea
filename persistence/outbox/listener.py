"""Hearing the bell: LISTEN on a connection of its own, probed and made anew when it is dead."""

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import structlog

from persistence.database.failures import DATABASE_ERRORS
from persistence.database.pool import connect
from persistence.errors import PersistenceError
from persistence.models import new_id
from persistence.settings import Settings
from persistence.telemetry import LISTENING

_log = structlog.get_logger(__name__)

_PAST_THE_POOLER: Final = "LISTEN needs a session: set PERSISTENCE_DIRECT_DSN to a DSN past the pooler, or work with --poll-only"

# Comes back on the connection that sent it, if that can hear at all.
_PROBE = "SELECT pg_notify($1, $2)"


class Listener:
    """Calls ``heard`` with what a channel says, and ``connected`` whenever it begins to listen: something may have been missed before.

    A connection may be dead without an error, so it is asked to hear itself at intervals.
    """

    def __init__(
        self,
        dsn: str,
        settings: Settings,
        channel: str,
        *,
        heard: Callable[[str], None],
        connected: Callable[[], None],
        probe_interval: float = 10.0,
        patience: float = 5.0,
    ) -> None:
        self._dsn = dsn
        self._settings = settings.model_copy(update={"transaction_pooler": False})
        self._is_pooled = settings.transaction_pooler
        self._channel = channel
        self._heard_of = heard
        self._connected = connected
        self._probe_interval = probe_interval
        self._patience = patience
        self._probe_channel = f"persistence_probe_{new_id().hex}"
        self._heard = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self.is_listening = False

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep_listening())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._keeper is not None
        self._keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeper
        LISTENING.labels(self._channel).set(0)

    async def _keep_listening(self) -> None:
        while True:
            try:
                await self._listen()
            except (PersistenceError, *DATABASE_ERRORS) as error:
                said = "does not hear itself" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
                hint = {"hint": _PAST_THE_POOLER} if self._is_pooled else {}
                _log.warning("listener_lost", error=said, fallback="polling", **hint)
            pause = 0.05 if self.is_listening else 1.0
            self.is_listening = False
            LISTENING.labels(self._channel).set(0)
            await asyncio.sleep(pause)

    async def _listen(self) -> None:
        connection = await connect(self._dsn, self._settings)
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            await connection.add_listener(self._channel, self._on_bell)
            await connection.add_listener(self._probe_channel, self._on_probe)
            self._connected()
            while True:
                self._heard.clear()
                async with asyncio.timeout(self._patience):
                    await connection.execute(_PROBE, self._probe_channel, "")
                    await self._heard.wait()
                self.is_listening = True
                LISTENING.labels(self._channel).set(1)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._probe_interval):
                        await lost.wait()
                    raise ConnectionError("the connection was lost")
        finally:
            connection.terminate()

    def _on_bell(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        self._heard_of(str(payload))

    def _on_probe(self, *_: Any) -> None:
        self._heard.set()
