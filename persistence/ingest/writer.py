"""Writing posts together: those that come while others are being written are the next group."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from uuid import UUID

from persistence.ingest.store import Post, TenantStore
from persistence.ingest.stores import Stores

_MOST_AT_ONCE: Final = 64
"""Posts of a group: each holds two descriptors."""

_SYNCERS: Final = 4


class Writer:
    """One group at a time: its files are written one after the other, made durable side by side, and indexed in one transaction of each tenant."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._waiting: list[tuple[UUID, Post, asyncio.Future[None]]] = []
        self._group: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "ingest-write")
        self._syncers = ThreadPoolExecutor(_SYNCERS, "ingest-sync")

    async def write(self, tenant_id: UUID, post: Post) -> None:
        """Waits until a post has its outcome."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((tenant_id, post, done))
        self._begin()
        await asyncio.shield(done)  # what is on its way cannot be called back

    async def close(self) -> None:
        """Waits for what is being written."""
        while self._group is not None:
            await asyncio.wait({self._group})
        self._thread.shutdown()
        self._syncers.shutdown()

    def _begin(self) -> None:
        if self._waiting and self._group is None:
            group, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            self._group = asyncio.create_task(self._commit(group))
            self._group.add_done_callback(self._ended)

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._group = None
        self._begin()

    async def _commit(self, group: Sequence[tuple[UUID, Post, asyncio.Future[None]]]) -> None:
        posts: dict[UUID, list[Post]] = {}
        for tenant_id, post, _ in group:
            posts.setdefault(tenant_id, []).append(post)
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._write, posts)
        except Exception as error:
            for _, post, _ in group:
                post.outcome = post.outcome or error
        for _, _, done in group:
            done.set_result(None)

    def _write(self, posts: Mapping[UUID, Sequence[Post]]) -> None:
        for tenant_id, some in posts.items():
            try:
                with self._stores.of(tenant_id) as store:
                    self._through(store, some)
            except Exception as error:
                for post in some:
                    post.outcome = error
                    if post.draft is not None:
                        post.draft.close()

    def _through(self, store: TenantStore, posts: Sequence[Post]) -> None:
        fresh = [post for post in posts if post.draft is None]
        store.write(fresh)
        shares = [fresh[begin::_SYNCERS] for begin in range(min(_SYNCERS, len(fresh)))]
        for _ in self._syncers.map(store.sync, shares):
            pass
        prepared = [post for post in posts if post.outcome is None]
        if prepared:
            store.publish(prepared, self._syncers.map)
