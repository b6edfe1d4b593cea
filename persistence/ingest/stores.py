"""The stores of all tenants below one folder."""

import os
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final, TypeVar
from uuid import UUID, uuid4

from persistence.ingest.disk import disk_errors
from persistence.ingest.paths import Stamps
from persistence.ingest.store import TenantStore
from persistence.ingest.threads import in_thread
from persistence.workspaces.jail import make_folder, sync_folder

T = TypeVar("T")

_MOST_OPEN: Final = 100
_IDENTITY: Final = "store.id"


class Stores:
    """Opens tenants' stores when they are needed, and closes those that were not needed for longest."""

    def __init__(self, folder: Path, stamps: Stamps | None = None) -> None:
        """folder: made, for its owner only, when something is stored in it."""
        self.folder = folder
        self._stamps = stamps or Stamps()
        self._lock = threading.Lock()
        self._open: OrderedDict[UUID, TenantStore] = OrderedDict()
        self._users: dict[UUID, int] = {}

    @contextmanager
    def of(self, tenant_id: UUID) -> Iterator[TenantStore]:
        """A tenant's store, open for as long as the block lasts. Raises StorageFull, Unavailable, or one of LOCAL_ERRORS when it cannot be opened."""
        with self._lock, disk_errors("the data folder"):
            store = self._open.get(tenant_id)
            if store is not None and store.is_gone() and not self._users[tenant_id]:
                self._open.pop(tenant_id).close()
                store = None
            if store is None:
                store = self._open[tenant_id] = TenantStore(self.folder / str(tenant_id), self._identity(), self._stamps)
            self._open.move_to_end(tenant_id)
            self._users[tenant_id] = self._users.get(tenant_id, 0) + 1
        try:
            yield store
        finally:
            with self._lock:
                self._users[tenant_id] -= 1
                self._close_idle()

    async def ask(self, tenant_id: UUID, question: Callable[[TenantStore], T]) -> T:
        """What a question to a tenant's store comes to, asked in a thread."""

        def answer() -> T:
            with self.of(tenant_id) as store:
                return question(store)

        return await in_thread(answer)

    @asynccontextmanager
    async def held(self, tenant_id: UUID) -> AsyncIterator[tuple[TenantStore, ExitStack]]:
        """A tenant's store, and a stack for what is let go of before it; both in threads."""
        with_store, more = ExitStack(), ExitStack()
        try:
            yield await in_thread(with_store.enter_context, self.of(tenant_id)), more
        finally:
            try:
                await in_thread(more.close)
            finally:
                await in_thread(with_store.close)

    def tenants(self) -> list[UUID]:
        """Tenants that have a tree."""
        found = []
        with_tree = self.folder.iterdir() if self.folder.is_dir() else iter(())
        for entry in with_tree:
            try:
                tenant_id = UUID(entry.name)
            except ValueError:
                continue
            if str(tenant_id) == entry.name:
                found.append(tenant_id)
        return sorted(found)

    def close(self) -> None:
        with self._lock:
            for store in self._open.values():
                store.close()
            self._open.clear()

    def _identity(self) -> str:
        """What tells this store from others: made once, and kept beside the trees, so that it outlives every index."""
        make_folder(self.folder)
        place = self.folder / _IDENTITY
        while not place.exists():
            with NamedTemporaryFile("w", dir=self.folder, prefix=f".{_IDENTITY}.") as file, suppress(FileExistsError):
                file.write(uuid4().hex[:16])
                file.flush()
                os.fsync(file.fileno())
                os.link(file.name, place)
                sync_folder(self.folder)
        return place.read_text()

    def _close_idle(self) -> None:
        idle = [tenant_id for tenant_id in self._open if not self._users[tenant_id]]
        for tenant_id in idle[: max(0, len(self._open) - _MOST_OPEN)]:
            self._open.pop(tenant_id).close()
