"""Writing posts together: those that come while others are being written are the next group."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Final, TypeAlias
from uuid import UUID

from persistence.errors import Unavailable
from persistence.ingest.scribe import Posts, Scribe, own_process, write_there
from persistence.ingest.store import Post
from persistence.ingest.stores import Stores

_MOST_AT_ONCE: Final = 64
"""Posts of a group: each holds two descriptors."""

_FEW: Final = 8
"""What is written here all the same: handing it over would take as long."""

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
        self._process: ProcessPoolExecutor | None = None

    async def begin(self) -> None:
        """Starts the process, if there is to be one."""
        if self._is_apart:
            self._process = own_process(self._stores.folder)
            await asyncio.get_running_loop().run_in_executor(self._process, write_there, {})

    async def write(self, tenant_id: UUID, post: Post) -> None:
        """Waits until a post has its outcome."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((tenant_id, post, done))
        self._begin_group()
        await asyncio.shield(done)  # what is on its way cannot be called back

    async def close(self) -> None:
        """Waits for what is being written."""
        while self._group is not None:
            await asyncio.wait({self._group})
        self._thread.shutdown()
        self._scribe.close()
        if self._process is not None:
            self._process.shutdown()

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
            apart = _by_tenant(group, lambda post: goes_apart and post.draft is None)
            here = _by_tenant(group, lambda post: not goes_apart or post.draft is not None)
            if here:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._scribe.write, here)
            if apart:
                await self._write_apart(apart)
        except Exception as error:
            for _, post, _ in group:
                post.outcome = post.outcome or error
        for _, _, done in group:
            done.set_result(None)

    async def _write_apart(self, posts: Posts) -> None:
        assert self._process is not None
        try:
            outcomes = await asyncio.get_running_loop().run_in_executor(self._process, write_there, posts)
        except BrokenExecutor as error:
            self._process.shutdown(wait=False)
            await self.begin()
            raise Unavailable("the process that writes data files ended", hint="send it again") from error
        for tenant_id, some in posts.items():
            for post, outcome in zip(some, outcomes[tenant_id], strict=True):
                post.outcome, post.is_new = outcome


def _by_tenant(group: Sequence[Waiting], is_meant: Callable[[Post], bool]) -> dict[UUID, list[Post]]:
    posts: dict[UUID, list[Post]] = {}
    for tenant_id, post, _ in group:
        if is_meant(post):
            posts.setdefault(tenant_id, []).append(post)
    return posts
