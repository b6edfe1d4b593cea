"""Bringing what was read into the log: in batches, a few at a time, and telling how it goes."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol
from uuid import UUID

from persistence.errors import ImportFailed, PersistenceError
from persistence.importing.cases import CaseBuilder
from persistence.importing.signals import BrokenSignal, SignalLines, WebhookFolder
from persistence.importing.xes import BrokenTrace, XesFile
from persistence.models import NewEvent, NewSignal
from persistence.plane import Plane
from persistence.transaction import Transaction

_BATCH_EVENTS = 2500
_BATCH_SIGNALS = 200
_UNDER_WAY = 3
_SOURCE = "import"
_ACTOR = "system:importer"


class Measured(Protocol):
    """Something whose reading can be watched: bytes in all, and bytes read."""

    @property
    def size(self) -> int: ...

    @property
    def position(self) -> int: ...


@dataclass
class ImportReport:
    """items: cases or signals read. added: those that were new. log_events: events of the file. events: events added to the log."""

    path: Path
    items: int = 0
    added: int = 0
    known: int = 0
    log_events: int = 0
    events: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class Importer:
    """Reads files into a tenant's log.

    on_error: ``skip`` goes on after a broken case and reports it; ``stop`` raises ImportFailed there. Either way nothing of the broken case is
    kept, and all before it is.
    """

    def __init__(self, plane: Plane, tenant_id: UUID, *, on_error: Literal["skip", "stop"] = "stop") -> None:
        self._plane = plane
        self._tenant_id = tenant_id
        self._skips = on_error == "skip"

    async def read(self, path: Path, progress: Callable[[Measured, ImportReport], None] | None = None) -> ImportReport:
        """Imports one file or folder; what it is follows from its name. Raises ImportFailed."""
        report = ImportReport(path)
        begun = time.monotonic()
        watch = progress or (lambda _, __: None)
        try:
            if path.is_dir():  # noqa: ASYNC240  before anything else is under way
                await self._read_signals(WebhookFolder(path), report, watch)
            elif not path.exists():  # noqa: ASYNC240
                raise ImportFailed(f"{path}: there is no such file")
            elif path.name.endswith((".xes", ".xes.gz")):
                await self._read_cases(XesFile(path), report, watch)
            elif path.name.endswith((".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")):
                await self._read_signals(SignalLines(path), report, watch)
            else:
                raise ImportFailed(
                    f"{path}: unknown kind of file", hint="known are .xes, .xes.gz, .jsonl, .ndjson, and folders of webhooks"
                )
        finally:
            report.seconds = time.monotonic() - begun
        return report

    async def _read_cases(self, file: XesFile, report: ImportReport, watch: Callable[[Measured, ImportReport], None]) -> None:
        async with _Lane() as lane:
            for batch in self._case_batches(file, report):
                await lane.start(self._append(batch, report))
                watch(file, report)
        watch(file, report)

    def _case_batches(self, file: XesFile, report: ImportReport) -> Iterator[list["_Case"]]:
        """Whole cases, together about as many events as a batch takes."""
        batch: list[_Case] = []
        size = 0
        fallback = file.path.name.removesuffix(".gz").removesuffix(".xes")
        for trace in file.traces():
            if isinstance(trace, BrokenTrace):
                if not self._skips and batch:
                    yield batch
                    batch, size = [], 0
                self._problem(report, f"{file.path}: {trace}")
                continue
            builder = CaseBuilder(file.log_name or fallback, trace)
            case = _Case(f"{file.path}: line {trace.line}: case {trace.name}", list(builder.events()), builder.log_events)
            if size + len(case.events) > _BATCH_EVENTS and batch:
                yield batch
                batch, size = [], 0
            batch.append(case)
            size += len(case.events)
        if batch:
            yield batch

    async def _append(self, cases: list["_Case"], report: ImportReport) -> None:
        """Appends cases together; where that does not go, each on its own, so that one bad case costs no other."""
        try:
            async with self._transaction() as tx:
                for case in cases:
                    await case.record(tx)
        except PersistenceError as error:
            if len(cases) > 1:
                for case in cases:
                    await self._append([case], report)
                return
            self._problem(report, f"{cases[0].place}: {error}")
            return
        new = sum(result.is_new for result in tx.results)
        report.items += len(cases)
        report.log_events += sum(case.log_events for case in cases)
        report.events += new
        if new:
            report.added += len(cases)
        else:
            report.known += len(cases)

    async def _read_signals(
        self, source: WebhookFolder | SignalLines, report: ImportReport, watch: Callable[[Measured, ImportReport], None]
    ) -> None:
        batch: list[tuple[str, NewSignal]] = []
        for place, signal in source.signals():
            if isinstance(signal, BrokenSignal):
                if not self._skips:
                    await self._receive(batch, report)
                    batch = []
                self._problem(report, str(signal))
                continue
            batch.append((place, signal))
            if len(batch) >= _BATCH_SIGNALS:
                await self._receive(batch, report)
                batch = []
                watch(source, report)
        await self._receive(batch, report)
        watch(source, report)

    async def _receive(self, batch: list[tuple[str, NewSignal]], report: ImportReport) -> None:
        if not batch:
            return
        try:
            async with self._transaction() as tx:
                received = await tx.signals.receive_many([signal for _, signal in batch])
        except PersistenceError as error:
            if len(batch) > 1:
                for item in batch:
                    await self._receive([item], report)
                return
            self._problem(report, f"{batch[0][0]}: {error}")
            return
        new = sum(bool(signal.is_new) for signal in received)
        report.items += len(batch)
        report.log_events += len(batch)
        report.added += new
        report.events += new
        report.known += len(batch) - new

    def _transaction(self) -> Transaction:
        return self._plane.transaction(self._tenant_id, actor=_ACTOR, source=_SOURCE)

    def _problem(self, report: ImportReport, text: str) -> None:
        report.problems.append(text)
        if not self._skips:
            raise ImportFailed(text, hint="go on past broken cases with --on-error skip")


@dataclass(frozen=True, slots=True)
class _Case:
    place: str
    events: list[NewEvent]
    log_events: int

    async def record(self, tx: Transaction) -> None:
        """A case of any length, in batches of one transaction."""
        for number, event in enumerate(self.events, 1):
            tx.record(event)
            if number % _BATCH_EVENTS == 0:
                await tx.flush()


class _Lane:
    """A few batches under way at the same time: the next is read while the last are written."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_UNDER_WAY)
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> "_Lane":
        await self._group.__aenter__()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            # An error while reading is no reason to drop what is being written.
            await self._group.__aexit__(None, None, None)
        except BaseExceptionGroup as group:
            if error is None:
                raise group.exceptions[0] from None

    async def start(self, work: Coroutine[Any, Any, None]) -> None:
        await self._places.acquire()
        task = self._group.create_task(work)
        task.add_done_callback(lambda _: self._places.release())
        await asyncio.sleep(0)
