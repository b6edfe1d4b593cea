"""Writing posts together: those that come while others are being written are the next group."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeAlias
from uuid import UUID

import structlog

from persistence.errors import ConfigurationError, PersistenceError, Unavailable
from persistence.ingest.scribe import Posts, Scribe, ScribeProcess
from persistence.ingest.store import Post
from persistence.ingest.stores import Stores

_log = structlog.get_logger(__name__)

_MOST_AT_ONCE: Final = 64
"""Posts of a group: each holds two descriptors."""

_FEW: Final = 8
"""What is written here all the same: handing it over would take as long."""

_PATIENCE: Final = 30.0
"""Seconds for a group. A disk that takes longer is one that does not answer."""

_REST: Final = 5.0
"""Seconds before a process that did not start is tried again."""

Waiting: TypeAlias = tuple[UUID, Post, "asyncio.Future[None]"]


class Writer:
    """One group at a time."""

    def __init__(self, stores: Stores, *, is_apart: bool) -> None:
        """is_apart: what is in memory is written by a process of its own."""
        self._stores = stores
        self._is_apart = is_apart
        self._waiting: list[Waiting] = []
        self._group: asyncio.Task[None] | None = None
        self._scribe = Scribe(stores)
        self._thread = ThreadPoolExecutor(1, "ingest-write")
        self._process: ScribeProcess | None = None
        self._starting: asyncio.Task[None] | None = None
        self._is_closed = False

    async def begin(self) -> None:
        """Starts the process, if there is to be one. Raises ConfigurationError when it cannot be started."""
        if self._is_apart:
            try:
                self._process = await _started(self._stores.folder)
            except BrokenExecutor as error:
                raise ConfigurationError(
                    "the process that writes data files did not start",
                    hint='a script that starts it needs: if __name__ == "__main__"; or leave out writes_apart',
                ) from error

    async def write(self, tenant_id: UUID, post: Post) -> None:
        """Waits until a post has its outcome."""
        if self._is_closed:
            raise PersistenceError("nothing is taken in any more: this Ingest was closed")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((tenant_id, post, done))
        self._begin_group()
        await asyncio.shield(done)  # what is on its way cannot be called back

    async def close(self) -> None:
        """Waits for what is being written."""
        self._is_closed = True
        if self._starting is not None:
            self._starting.cancel()
        while self._group is not None:
            await asyncio.wait({self._group})
        self._thread.shutdown()
        self._scribe.close()
        if self._process is not None:
            self._process.close()

    def _begin_group(self) -> None:
        if self._waiting and self._group is None:
            group, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            self._group = asyncio.create_task(self._commit(group))
            self._group.add_done_callback(self._ended)

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._group = None
        self._begin_group()

    async def _commit(self, group: Sequence[Waiting]) -> None:
        try:
            goes_apart = self._process is not None and len(group) > _FEW
            here: dict[UUID, list[Post]] = {}
            apart: dict[UUID, list[Post]] = {}
            for tenant_id, post, _ in group:
                (apart if goes_apart and post.draft is None else here).setdefault(tenant_id, []).append(post)
            if here:
                await self._write_here(here)
            if apart:
                await self._write_apart(apart)
        except Exception as error:
            for _, post, _ in group:
                post.outcome = post.outcome or error
        for _, _, done in group:
            done.set_result(None)

    async def _write_here(self, posts: Posts) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._scribe.write, posts)

    async def _write_apart(self, posts: Posts) -> None:
        process = self._process
        assert process is not None
        try:
            writing = process.submit(posts)
        except BrokenExecutor:  # it has ended since, with nothing of these in its hands
            self._replace(process)
            await self._write_here(posts)
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                outcomes = await writing
        except (BrokenExecutor, TimeoutError) as error:
            self._replace(process)
            raise Unavailable("the process that writes data files ended, or did not answer", hint="send it again") from error
        for tenant_id, some in posts.items():
            for post, outcome in zip(some, outcomes[tenant_id], strict=True):
                post.outcome, post.is_new = outcome

    def _replace(self, process: ScribeProcess) -> None:
        """Ends a process that is of no use, and starts another; until that is there, all is written here."""
        process.kill()
        self._process = None
        if not self._is_closed:
            self._starting = asyncio.create_task(self._start_another())

    async def _start_another(self) -> None:
        while True:
            try:
                self._process = await _started(self._stores.folder)
            except BrokenExecutor as error:
                _log.warning("data_writer_not_started", error=str(error), again_in=_REST)
                await asyncio.sleep(_REST)
            else:
                return


async def _started(folder: Path) -> ScribeProcess:
    process = ScribeProcess(folder)
    try:
        await process.start()
    except BaseException:
        process.kill()
        raise
    return process
