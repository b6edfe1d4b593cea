"""What goes on beside the posts: mending what was left behind, and telling the database."""

import asyncio
from contextlib import suppress
from typing import Final
from uuid import UUID

import structlog

from persistence.errors import PersistenceError
from persistence.ingest.check import Mended, reconcile
from persistence.ingest.recorder import Recorder
from persistence.ingest.store import Sender
from persistence.ingest.stores import Stores
from persistence.ingest.threads import in_thread
from persistence.telemetry import DATA_UNRECORDED

_POLL_SECONDS: Final = 5.0
_GATHER_SECONDS: Final = 0.05
_FIRST_REST: Final = 0.5
_LONGEST_REST: Final = 30.0
_MENDER: Final = "system:ingest"

_log = structlog.get_logger(__name__)


class Attendant:
    """Looks after the trees of all tenants. One tenant's trouble is not the others'."""

    def __init__(self, stores: Stores, recorder: Recorder | None) -> None:
        """recorder: none: there is no database to tell. What was found is put on the record by system:ingest."""
        self._stores = stores
        self._recorder = recorder
        self._mender = Sender(actor=_MENDER, user_id=None, source="ingest")
        self._news = asyncio.Event()
        self._posted: set[UUID] = set()
        self._resting: dict[UUID, tuple[float, float]] = {}
        self.told = asyncio.Event()
        """Set, and replaced by another, whenever the database has been told something."""

    def note(self, tenant_id: UUID) -> None:
        """There is something to tell of a tenant."""
        self._posted.add(tenant_id)
        self._news.set()

    async def record(self, tenant_id: UUID) -> int:
        """Tells the database what a tenant's journal holds. Returns how many entries that were. Raises PersistenceError while it is away."""
        if self._recorder is None:
            raise PersistenceError("nothing can be recorded without a plane", hint="use it as: Ingest(folder, plane)")
        try:
            async with self._stores.held(tenant_id) as (store, stack):
                if not await in_thread(stack.enter_context, store.recording()):
                    return 0  # another process does it
                return await self._recorder.record(tenant_id, store)
        finally:
            told, self.told = self.told, asyncio.Event()
            told.set()

    async def mend(self, tenant_id: UUID, *, thoroughly: bool = False) -> Mended:
        """See ``reconcile``."""
        mended = await self._stores.ask(tenant_id, lambda store: reconcile(store, self._mender, thoroughly=thoroughly))
        self.note(tenant_id)
        return mended

    async def attend(self) -> None:
        """Mends what was left behind, then keeps telling the database what is stored, until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._mend_all())
            tasks.create_task(self._record_all())

    async def _mend_all(self) -> None:
        for tenant_id in await in_thread(self._stores.tenants):
            try:
                await self._stores.ask(tenant_id, lambda store: store.journal.take_up())
                mended = await self.mend(tenant_id)
            except Exception as error:
                _log.exception("data_not_mended", tenant_id=str(tenant_id), error=str(error))
                continue
            if any(mended.model_dump().values()):
                _log.warning("data_mended", tenant_id=str(tenant_id), **mended.model_dump())

    async def _record_all(self) -> None:
        """Those who posted are recorded at once; all are looked at now and then: other processes post, too."""
        loop = asyncio.get_running_loop()
        look_again = 0.0
        while True:
            self._news.clear()
            now = loop.time()
            everybody = now >= look_again
            look_again = now + _POLL_SECONDS if everybody else look_again
            tenants = await in_thread(self._stores.tenants) if everybody else sorted(self._posted | self._resting.keys())
            self._posted.clear()
            waiting = sum([await self._tried(tenant_id, now) for tenant_id in tenants])
            if everybody:
                DATA_UNRECORDED.set(waiting)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _FIRST_REST if self._resting else max(0.0, look_again - loop.time()))
            await asyncio.sleep(_GATHER_SECONDS)

    async def _tried(self, tenant_id: UUID, now: float) -> int:
        """Records what waits, unless the tenant rests after a failure. Returns how many changes the database does not know of, as far as is known."""
        until, rest = self._resting.get(tenant_id, (0.0, 0.0))
        if now < until:
            return 1
        try:
            waiting = await self._recorded(tenant_id)
        except Exception as error:
            rest = min(_LONGEST_REST, max(_FIRST_REST, 2 * rest))
            self._resting[tenant_id] = asyncio.get_running_loop().time() + rest, rest
            _log.warning("data_not_recorded", tenant_id=str(tenant_id), error=str(error), again_in=rest)
            return 1
        self._resting.pop(tenant_id, None)
        return waiting

    async def _recorded(self, tenant_id: UUID) -> int:
        """Records what waits. Returns how many changes the database does not know of then."""
        if (await self._waiting(tenant_id))[0]:
            await self.record(tenant_id)
        return sum(await self._waiting(tenant_id))

    async def _waiting(self, tenant_id: UUID) -> tuple[int, int]:
        return await self._stores.ask(tenant_id, lambda store: store.journal.counts())
