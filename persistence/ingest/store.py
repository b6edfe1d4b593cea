"""A tenant's files, index and journal, changed together."""

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from persistence.errors import ConfigurationError, IdempotencyMismatch, NotFound, Unavailable
from persistence.ingest.disk import LOCAL_ERRORS, disk_errors
from persistence.ingest.hierarchy import Draft, HierarchyManager
from persistence.ingest.index import initialize_database
from persistence.ingest.journal import DELETED, STORED, Journal, JournalEntry, id_of_content, id_of_deletion, id_of_file
from persistence.ingest.paths import Stamps, relative_path
from persistence.ingest.registry import IndexEntry, Registry
from persistence.models import new_id
from persistence.models.base import Model
from persistence.workspaces.jail import FILE_MODE, make_folder

INDEX: Final = "index.db"
_RECORDER: Final = "recorder.lock"
_TRIES: Final = 100


class Sender(Model):
    """Who changes something, and why: what the journal and then the log say of it. user_id: none: the one that services work for."""

    actor: str
    user_id: UUID | None
    source: str
    correlation_id: UUID | None = None


@dataclass
class Post:
    """Something that was posted, on its way through the store. outcome: once it is through."""

    scope: str
    sender: Sender
    data: bytes = b""
    draft: Draft | None = None
    idempotency_key: str | None = None
    deduplicates: bool = False
    outcome: "IndexEntry | BaseException | None" = None
    is_new: bool = True

    @property
    def is_once(self) -> bool:
        """Whether content that is there already is not to be stored again."""
        return self.deduplicates or self.idempotency_key is not None


class TenantStore:
    """One tenant's tree. All of it blocks; threads may share it."""

    def __init__(self, folder: Path, store_id: str, stamps: Stamps) -> None:
        """folder: the tenant's; made if it is not there. store_id: tells it from the tenant's stores elsewhere."""
        self.store_id = store_id
        make_folder(folder)
        self.hierarchy = HierarchyManager(folder / "data", stamps)
        with ExitStack() as stack:
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, self._folder)
            fcntl.flock(self._folder, fcntl.LOCK_SH)  # nobody exchanges the index under us
            connections = [initialize_database(folder / INDEX) for _ in range(2)]
            self.registry, self.reader = map(Registry, connections)
            for registry in (self.registry, self.reader):
                stack.callback(registry.close)
            self._resources = stack.pop_all()
        self.journal = Journal(self.registry)

    def close(self) -> None:
        self._resources.close()

    def is_gone(self) -> bool:
        """Whether somebody removed the tenant's folder."""
        return os.fstat(self._folder).st_nlink == 0

    @contextmanager
    def recording(self) -> Iterator[bool]:
        """False while another process empties the journal."""
        file = os.open(_RECORDER, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE, dir_fd=self._folder)
        try:
            yield _locked(file)
        finally:
            os.close(file)

    def write(self, posts: Sequence[Post]) -> None:
        """Writes the drafts of posts. What goes wrong is a post's outcome."""
        by_scope: dict[str, list[Post]] = {}
        for post in posts:
            by_scope.setdefault(post.scope, []).append(post)
        for scope, some in by_scope.items():
            try:
                with disk_errors(scope):
                    self._draft(scope, some)
            except BaseException as error:
                self._fail(some, error)

    def _draft(self, scope: str, posts: Sequence[Post]) -> None:
        for _ in range(_TRIES):
            try:
                for post, draft in zip(posts, self.hierarchy.drafts(scope, len(posts)), strict=True):
                    post.draft = draft
                    draft.fill(post.data)
                return
            except FileNotFoundError:  # somebody removed the folder while it was empty
                for post in posts:
                    self._drop(post)
        raise Unavailable(f"{scope}: its folder is removed again and again", hint="look for what does that")

    def sync(self, posts: Sequence[Post]) -> None:
        """Makes written drafts durable. What goes wrong is a post's outcome."""
        for post in posts:
            if post.draft is not None and post.outcome is None:
                try:
                    with disk_errors(post.scope):
                        post.draft.sync()
                except BaseException as error:
                    self._fail([post], error)

    def publish(
        self, posts: Sequence[Post], each: Callable[[Callable[[Draft], None], Iterable[Draft]], Iterable[Any]] = map
    ) -> None:
        """Makes drafts visible, indexed and journalled: all of them or none, but for those that are known already. each: as map, perhaps at once."""
        published: list[Draft] = []
        try:
            with disk_errors("index"), self.registry.transaction(), self._withdrawing(published):
                for post in posts:
                    # Each has to see what the one before it brought.
                    if post.is_once and self._is_fresh(post):
                        self._show([post], published)
                self._show([post for post in posts if not post.is_once], published)
                for _ in each(Draft.sync_folder, {draft.scope: draft for draft in published}.values()):
                    pass
        except BaseException as error:
            if any(draft.is_published for draft in published):  # the commit failed
                with suppress(*LOCAL_ERRORS), self.registry.transaction():
                    _withdraw(published)
            self._fail(posts, error)
        else:
            for post in posts:
                self._drop(post)

    @contextmanager
    def _withdrawing(self, published: Sequence[Draft]) -> Iterator[None]:
        """Takes files back while nobody else can have seen them without their rows."""
        try:
            yield
        except BaseException:
            _withdraw(published)
            raise

    def _show(self, posts: Sequence[Post], published: list[Draft]) -> None:
        for post in posts:
            assert post.draft is not None
            post.draft.publish()
            published.append(post.draft)
        self._index(posts)

    def delete(self, scope: str, collected_at: str, sender: Sender) -> None:
        """Deletes a file, its row and its keys. Raises NotFound."""
        path = relative_path(scope, collected_at)
        with disk_errors(path), self.registry.transaction():
            entry = self.registry.find_by_path(path)
            if entry is None:
                raise no_data(scope, collected_at)
            self.forget(entry, sender)
            with suppress(FileNotFoundError):  # it is to be gone, and is
                self.hierarchy.delete_data_file(scope, collected_at)

    def forget(self, entry: IndexEntry, sender: Sender, *, was_found: bool = False) -> None:
        """Removes a file's row and journals that the file is gone; to be called in a transaction. was_found: it was gone, and nobody had said so."""
        told = self.journal.entries_of(entry.path)
        signal = {"signal_id": entry.file_id} if entry.file_id else {}
        correlation = sender.correlation_id or (told[0].correlation_id if told else None)
        sha256 = entry.sha256 or ""
        self.registry.delete_by_path(entry.path)
        name = id_of_deletion(entry.collected_at, sha256, self.store_id)
        self.journal.add(
            [_journalled(DELETED, entry, sender, name, correlation, {**signal, **({"found": True} if was_found else {})})]
        )

    def adopt(self, scope: str, collected_at: str, size_bytes: int, sha256: str, sender: Sender) -> None:
        """Adds the row of a file that is there, and journals it unless that waits to be told; to be called in a transaction."""
        entry = self.registry.insert(relative_path(scope, collected_at), scope, collected_at, size_bytes, sha256=sha256)
        told = self.journal.entries_of(entry.path)
        if not (told and told[-1].kind == STORED):
            self.journal.add([_journalled(STORED, entry, sender, None, None, {"found": True})])

    def _is_fresh(self, post: Post) -> bool:
        """Whether a post is to become a file; otherwise it gets its outcome here."""
        draft = post.draft
        assert draft is not None
        try:
            known = self._known(post, draft)
        except IdempotencyMismatch as error:
            post.outcome, post.is_new = error, False
            return False
        post.outcome, post.is_new = known, known is None
        return post.is_new

    def _index(self, posts: Sequence[Post]) -> None:
        drafts = [post.draft for post in posts if post.draft is not None]
        entries = self.registry.insert_many(
            [(draft.path, draft.scope, draft.collected_at, draft.size_bytes, draft.sha256) for draft in drafts]
        )
        for post, entry in zip(posts, entries, strict=True):
            post.outcome = entry
            if post.idempotency_key is not None:
                self.registry.keep_key(post.scope, post.idempotency_key, entry.path)
        self.journal.add([self._stored(post, entry) for post, entry in zip(posts, entries, strict=True)])

    def _stored(self, post: Post, entry: IndexEntry) -> JournalEntry:
        digest, key = entry.sha256 or "", post.idempotency_key
        name = id_of_content(digest) if post.is_once else id_of_file(entry.collected_at, digest, self.store_id)
        facts = {} if key is None else {"idempotency_key": key}
        correlation_id = post.sender.correlation_id or new_id()
        return _journalled(STORED, entry, post.sender, name, correlation_id, facts, deduplicates=post.is_once)

    def _known(self, post: Post, draft: Draft) -> IndexEntry | None:
        """The file that holds what a post brings, if posts like this are not to be kept twice."""
        key = post.idempotency_key
        if key is not None:
            known = self.registry.find_by_key(post.scope, key)
            if known is not None:
                if known.sha256 != draft.sha256:
                    raise IdempotencyMismatch(
                        f"the Idempotency-Key {key!r} came with other content in {post.scope} at {known.collected_at}",
                        hint="use a new key for new content",
                    )
                return known
        if not post.deduplicates:
            return None
        known = self.registry.find_by_content(post.scope, draft.sha256)
        if known is not None and key is not None:
            self.registry.keep_key(post.scope, key, known.path)
        return known

    def _fail(self, posts: Sequence[Post], error: BaseException) -> None:
        for post in posts:
            self._drop(post)
            post.outcome = error

    def _drop(self, post: Post) -> None:
        if post.draft is not None:
            self.hierarchy.discard(post.draft)
            post.draft = None


def no_data(scope: str, collected_at: str | None = None) -> NotFound:
    """The error for a file that is not there. collected_at: none: the scope has no file at all."""
    when = f" collected at {collected_at}" if collected_at else ""
    return NotFound(f"there is no data of {scope}{when}", hint=f"persistence data list {scope}")


def _withdraw(published: Sequence[Draft]) -> None:
    for draft in published:
        draft.withdraw()


def set_index_aside(folder: Path) -> Path | None:
    """Moves a tenant's index away, so that the next to open it makes a new one. None: there was none.

    Raises ConfigurationError while another process works with it.
    """
    holder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        aside = None
        for ending in ("-wal", "-shm", ""):
            if (folder / (INDEX + ending)).exists():
                aside = folder / f"{INDEX}.{datetime.now(UTC):%Y%m%dT%H%M%S}{ending}"
                os.rename(folder / (INDEX + ending), aside)
        return aside
    except BlockingIOError:
        raise ConfigurationError(f"{folder / INDEX} is in use", hint="stop the service first") from None
    finally:
        os.close(holder)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _journalled(
    kind: Any,
    entry: IndexEntry,
    sender: Sender,
    source_id: str | None,
    correlation_id: UUID | None,
    attributes: dict[str, Any],
    *,
    deduplicates: bool = False,
) -> JournalEntry:
    return JournalEntry.made(
        kind=kind,
        scope=entry.scope,
        collected_at=entry.collected_at,
        path=entry.path,
        size_bytes=entry.size_bytes,
        sha256=entry.sha256 or "",
        source_id=source_id,
        deduplicates=deduplicates,
        correlation_id=correlation_id,
        actor=sender.actor,
        user_id=sender.user_id,
        source=sender.source,
        occurred_at=datetime.now(UTC),
        attributes=attributes,
    )
