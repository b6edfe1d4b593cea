"""Writing groups of posts: in this process, or in one of its own, where each call of the system need not wait for the event loop to let go of the
interpreter.
"""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Final, TypeAlias
from uuid import UUID

from persistence.ingest.registry import IndexEntry
from persistence.ingest.store import Post, TenantStore
from persistence.ingest.stores import Stores

_SYNCERS: Final = 4

Posts: TypeAlias = Mapping[UUID, Sequence[Post]]
"""By tenant."""
Outcomes: TypeAlias = Mapping[UUID, Sequence[tuple[IndexEntry | BaseException | None, bool]]]
"""Of each post, and whether it is new."""


class Scribe:
    """Writes a group's files one after the other, makes them durable side by side, and indexes them in one transaction of each tenant. It blocks."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._syncers = ThreadPoolExecutor(_SYNCERS, "ingest-sync")

    def write(self, posts: Posts) -> None:
        """Gives each post its outcome."""
        for tenant_id, some in posts.items():
            try:
                with self._stores.of(tenant_id) as store:
                    self._through(store, some)
            except Exception as error:
                for post in some:
                    post.outcome = error
                    if post.draft is not None:
                        post.draft.close()

    def close(self) -> None:
        self._syncers.shutdown()

    def _through(self, store: TenantStore, posts: Sequence[Post]) -> None:
        fresh = [post for post in posts if post.draft is None]
        store.write(fresh)
        shares = [fresh[begin::_SYNCERS] for begin in range(min(_SYNCERS, len(fresh)))]
        for _ in self._syncers.map(store.sync, shares):
            pass
        prepared = [post for post in posts if post.outcome is None]
        if prepared:
            store.publish(prepared, self._syncers.map)


class ScribeProcess:
    """A process that writes below a folder. It ends with this one, however that ends."""

    def __init__(self, folder: Path) -> None:
        self._executor = ProcessPoolExecutor(1, get_context("spawn"), _begin, (folder,))
        self.pid = 0

    async def start(self) -> None:
        """Raises BrokenExecutor when it ends at once."""
        self.pid = await asyncio.wrap_future(self._executor.submit(os.getpid))

    def submit(self, posts: Posts) -> "asyncio.Future[Outcomes]":
        """The outcomes, in time. Raises BrokenExecutor when the process has ended: then nothing of these posts was written. Where it ends while it
        has them, or does not answer, nobody knows.
        """
        return asyncio.wrap_future(self._executor.submit(_write_there, posts))

    def kill(self) -> None:
        """Ends it at once, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
        self._executor.shutdown(wait=False)

    def close(self) -> None:
        self._executor.shutdown()


def _write_there(posts: Posts) -> Outcomes:
    _scribes[0].write(posts)
    return {tenant_id: [(post.outcome, post.is_new) for post in some] for tenant_id, some in posts.items()}


_scribes: list[Scribe] = []


def _begin(folder: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the service, which lets what is under way end
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _scribes.append(Scribe(Stores(folder)))


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
