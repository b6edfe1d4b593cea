"""Taking data in: posts of many tenants, written together; and what there is to ask of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import UUID

from persistence.context import Context
from persistence.errors import InvalidInput, NotFound, PersistenceError, TooLarge, first_problem
from persistence.ingest.attending import Attendant
from persistence.ingest.check import Mended
from persistence.ingest.disk import disk_errors
from persistence.ingest.envelope import DataFileEnvelope
from persistence.ingest.hierarchy import Draft
from persistence.ingest.paths import Stamps, check_collected_at, relative_path
from persistence.ingest.recorder import Recorder
from persistence.ingest.registry import IndexEntry, ScopeSummary
from persistence.ingest.rules import RuleFile
from persistence.ingest.scopes import parse_scope
from persistence.ingest.store import Post, Sender, no_data
from persistence.ingest.stores import Stores
from persistence.ingest.text import check_object, written
from persistence.ingest.threads import in_thread
from persistence.ingest.writer import Writer
from persistence.models.base import Json, Model
from persistence.plane import Plane
from persistence.settings import MEBIBYTE, Settings
from persistence.telemetry import DATA_POSTS

DATA_INGEST_MAX_SIZE: Final = 50 * MEBIBYTE
LATEST: Final = "latest"
"""Instead of a time: the newest."""

_IN_MEMORY: Final = 256 * 1024
_WRITE_AT_ONCE: Final = MEBIBYTE
_LOOK_SECONDS: Final = 0.25
_KEY_LENGTH: Final = 500

T = TypeVar("T")


class Receipt(Model):
    """What became of a post.

    is_new: false where this content or key came before; the rest then tells of that file. signal_id: None until it is recorded.
    """

    scope: str
    collected_at: str
    path: str
    size_bytes: int
    sha256: str
    is_new: bool
    signal_id: UUID | None

    @property
    def recorded(self) -> bool:
        """Whether the database knows of it."""
        return self.signal_id is not None


class Ingest:
    """Data files of all tenants below one folder. Use it as ``async with Ingest(folder, plane) as ingest``.

    What is posted is durable and readable when ``put`` returns. The database is told by ``attend``, which a service keeps running, or by
    ``record``; neither has to be there for posting. Several processes may share a folder.
    """

    def __init__(
        self,
        folder: Path,
        plane: Plane | None = None,
        *,
        max_bytes: int = DATA_INGEST_MAX_SIZE,
        stamps: Stamps | None = None,
        writes_apart: bool = False,
    ) -> None:
        """plane: none: nothing is recorded by this object. max_bytes: of a post's data. stamps: the clock, for tests.

        writes_apart: files are written by a process of their own, which does not compete with this one for the interpreter: for a service that
        takes in many at a time. The module that starts it has to be importable (``if __name__ == "__main__"``).
        """
        self.stores = Stores(folder, stamps)
        self.max_bytes = max_bytes
        self.rules = RuleFile(folder)
        self._attendant = Attendant(self.stores, Recorder(plane, self.rules) if plane else None)
        self._writer = Writer(self.stores, is_apart=writes_apart)

    async def __aenter__(self) -> Self:
        await self._writer.begin()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Waits for what is being written, and closes files and indexes."""
        await self._writer.close()
        self.stores.close()

    async def put(
        self,
        tenant_id: UUID,
        scope: str,
        data: bytes | Mapping[str, Json] | AsyncIterable[bytes],
        *,
        actor: str,
        user_id: UUID | None = None,
        source: str = "service",
        correlation_id: UUID | None = None,
        idempotency_key: str | None = None,
        deduplicate: bool = False,
    ) -> Receipt:
        """Stores one JSON object as a data file, durably and as the bytes it came in.

        data: the object, or its text, or a stream of it. The circumstances are those of Context, and become those of its signal.
        idempotency_key: up to 500 characters; a key that came before is answered with its file. deduplicate: so is content that the scope has
        already.

        Raises MalformedData for a bad scope or JSON, TooLarge, IdempotencyMismatch for a key that came with other content, StorageFull.
        """
        parse_scope(scope)
        if idempotency_key is not None and not 0 < len(idempotency_key) <= _KEY_LENGTH:
            raise InvalidInput(f"idempotency_key: must have 1 to {_KEY_LENGTH} characters", field="idempotency_key")
        post = Post(
            scope,
            self._sender(tenant_id, actor, user_id, source, correlation_id),
            idempotency_key=idempotency_key,
            deduplicates=deduplicate,
        )
        try:
            await self._read(tenant_id, post, data)
            await self._writer.write(tenant_id, post)
            if isinstance(post.outcome, BaseException):
                raise post.outcome
        except PersistenceError:
            DATA_POSTS.labels("refused").inc()
            raise
        entry = post.outcome
        assert isinstance(entry, IndexEntry)
        DATA_POSTS.labels("stored" if post.is_new else "known").inc()
        self._attendant.note(tenant_id)
        return _receipt(entry, is_new=post.is_new)

    async def wait_until_recorded(self, tenant_id: UUID, receipt: Receipt, seconds: float) -> Receipt:
        """The receipt once the database knows of the file, or as it is after so many seconds."""
        with contextlib.suppress(TimeoutError, NotFound):
            async with asyncio.timeout(seconds):
                while not receipt.recorded:
                    told = self._attendant.told
                    entry = await self.find(tenant_id, receipt.scope, receipt.collected_at)
                    receipt = _receipt(entry, is_new=receipt.is_new)
                    if not receipt.recorded:
                        with contextlib.suppress(TimeoutError):  # another process may record it
                            await asyncio.wait_for(told.wait(), _LOOK_SECONDS)
        return receipt

    async def find(self, tenant_id: UUID, scope: str, collected_at: str) -> IndexEntry:
        """A data file's row. collected_at: or ``latest``. Raises NotFound, MalformedData."""
        parse_scope(scope)
        if collected_at == LATEST:
            entry = await self.stores.ask(tenant_id, lambda store: store.reader.find_latest_by_scope(scope))
        else:
            path = relative_path(scope, check_collected_at(collected_at))
            entry = await self.stores.ask(tenant_id, lambda store: store.reader.find_by_path(path))
        if entry is None:
            raise no_data(scope, None if collected_at == LATEST else collected_at)
        return entry

    async def find_by_signal(self, tenant_id: UUID, signal_id: UUID) -> IndexEntry | None:
        """The data file that a signal tells of, while it is there."""
        return await self.stores.ask(tenant_id, lambda store: store.reader.find_by_file_id(str(signal_id)))

    async def read(self, tenant_id: UUID, scope: str, collected_at: str) -> DataFileEnvelope:
        """A data file. collected_at: or ``latest``. Raises NotFound, MalformedData."""
        entry = await self.find(tenant_id, scope, collected_at)
        try:
            return await self.stores.ask(tenant_id, lambda store: store.hierarchy.read_data_file(scope, entry.collected_at))
        except FileNotFoundError:
            raise _gone(entry) from None

    @asynccontextmanager
    async def opened(self, tenant_id: UUID, entry: IndexEntry) -> AsyncIterator[int]:
        """The descriptor of a data file, to read. Raises NotFound."""
        with ExitStack() as stack:
            try:
                yield await self.stores.ask(
                    tenant_id, lambda store: stack.enter_context(store.hierarchy.opened(entry.scope, entry.collected_at))
                )
            except FileNotFoundError:
                raise _gone(entry) from None

    async def list(
        self, tenant_id: UUID, scope: str | None = None, *, limit: int = 50, offset: int = 0, before: str | None = None
    ) -> Sequence[IndexEntry]:
        """Files of a scope, or of all, the newest first.

        offset: so many are left out, at a cost that grows with them. before: only those of the scope that were collected before that time, at a
        cost that does not.
        """
        if scope is not None:
            parse_scope(scope)
        if scope is None or before is None:
            return await self.stores.ask(tenant_id, lambda store: store.reader.find_by_scope(scope, limit=limit, offset=offset))
        check_collected_at(before)
        return await self.stores.ask(tenant_id, lambda store: store.reader.find_older(scope, before, limit=limit))

    async def scopes(self, tenant_id: UUID) -> Sequence[ScopeSummary]:
        """Every scope that has files."""
        return await self.stores.ask(tenant_id, lambda store: store.reader.scopes())

    async def waiting(self, tenant_id: UUID) -> tuple[int, int]:
        """How many changes the database is to be told, and how many it refused."""
        return await self.stores.ask(tenant_id, lambda store: store.journal.counts())

    async def delete(
        self,
        tenant_id: UUID,
        scope: str,
        collected_at: str,
        *,
        actor: str,
        user_id: UUID | None = None,
        source: str = "service",
        correlation_id: UUID | None = None,
    ) -> None:
        """Deletes a data file; a signal of type ``data.deleted`` tells of it. Raises NotFound, MalformedData."""
        sender = self._sender(tenant_id, actor, user_id, source, correlation_id)
        check_collected_at(collected_at)
        await self.stores.ask(tenant_id, lambda store: store.delete(scope, collected_at, sender))
        self._attendant.note(tenant_id)

    async def mend(self, tenant_id: UUID, *, thoroughly: bool = False) -> Mended:
        """Gives files without row theirs, forgets rows without file, removes dead drafts; see ``check``. thoroughly: reads every file."""
        return await self._attendant.mend(tenant_id, thoroughly=thoroughly)

    async def record(self, tenant_id: UUID) -> int:
        """Tells the database what a tenant's journal holds. Returns how many entries that were. Raises PersistenceError while it is away."""
        return await self._attendant.record(tenant_id)

    async def attend(self) -> None:
        """Mends what was left behind, then keeps telling the database what is stored, until it is cancelled."""
        await self._attendant.attend()

    async def _read(self, tenant_id: UUID, post: Post, data: bytes | Mapping[str, Json] | AsyncIterable[bytes]) -> None:
        """Takes a post's data into memory, or into a draft where they are large, and checks them."""
        if isinstance(data, AsyncIterable):
            chunks, size, stream = [], 0, aiter(data)
            async for chunk in stream:
                chunks.append(chunk)
                size += len(chunk)
                if size > _IN_MEMORY:
                    post.draft = await self._spooled(tenant_id, post.scope, b"".join(chunks), stream)
                    return
            data = b"".join(chunks)
        elif isinstance(data, Mapping):
            data = await in_thread(written, data)
        self._check_size(len(data))
        if len(data) > _IN_MEMORY:
            await in_thread(check_object, data)
        else:
            check_object(data)
        post.data = data

    async def _spooled(self, tenant_id: UUID, scope: str, begun: bytes, rest: AsyncIterator[bytes]) -> Draft:
        """A draft with all of a stream in it, durable and checked."""
        async with self.stores.held(tenant_id) as (store, unfinished):

            def begin() -> Draft:
                draft = store.hierarchy.draft(scope)
                unfinished.callback(store.hierarchy.discard, draft)
                return draft

            draft = await _on_disk(begin)
            size, held = len(begun), bytearray(begun)
            async for chunk in rest:
                size += len(chunk)
                self._check_size(size)
                held += chunk
                if len(held) >= _WRITE_AT_ONCE:
                    await _on_disk(draft.write, bytes(held))
                    held.clear()
            await _on_disk(draft.write, bytes(held))
            await in_thread(draft.check)
            await _on_disk(draft.end)
            await _on_disk(draft.sync)
            unfinished.pop_all()
        return draft

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise TooLarge(f"body: exceeds {self.max_bytes} bytes", hint="send it in parts", field="body")

    def _sender(self, tenant_id: UUID, actor: str, user_id: UUID | None, source: str, correlation_id: UUID | None) -> Sender:
        try:  # (none given: the service user, whom the database names when it is told)
            Context(tenant_id=tenant_id, user_id=user_id or tenant_id, actor=actor, source=source)
        except ValueError as error:
            field, problem = first_problem(error)
            raise InvalidInput(f"{field}: {problem}", field=field) from error
        return Sender.made(actor=actor, user_id=user_id, source=source, correlation_id=correlation_id)


def open_ingest(
    settings: Settings, plane: Plane | None, *, max_bytes: int = DATA_INGEST_MAX_SIZE, writes_apart: bool = False
) -> Ingest:
    """The data files of an installation. Arguments as of ``Ingest``."""
    folder = (settings.ingest_dir or settings.data_dir / "ingest").expanduser().resolve()
    return Ingest(folder, plane, max_bytes=max_bytes, writes_apart=writes_apart)


async def _on_disk(work: Callable[..., T], *arguments: Any) -> T:
    with disk_errors("body"):
        return await in_thread(work, *arguments)


def _receipt(entry: IndexEntry, *, is_new: bool) -> Receipt:
    return Receipt.made(
        scope=entry.scope,
        collected_at=entry.collected_at,
        path=entry.path,
        size_bytes=entry.size_bytes,
        sha256=entry.sha256 or "",
        is_new=is_new,
        signal_id=entry.signal_id,
    )


def _gone(entry: IndexEntry) -> NotFound:
    return NotFound(f"{entry.path} is not in the tree any more", hint="persistence data check says what else is missing")
