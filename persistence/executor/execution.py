"""One run in an executor's hands: its flow is driven until it ends or has to wait, and what it does is recorded.

What a step gave is in the log before anything is done that comes after it. Until the flow asks for something that has to be done, what it did is
collected, so that the end of one step, the beginning of a wait and the end of the run go in one transaction.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Final
from uuid import UUID, uuid5

import structlog

from persistence.context import Context
from persistence.errors import (
    ChildFailed,
    Conflict,
    EffectFailed,
    FlowError,
    InvalidInput,
    InvalidTransition,
    LeaseLost,
    PersistenceError,
    StepFailed,
    TimedOut,
    TookAnotherWay,
    Unavailable,
)
from persistence.executor.branches import NOTHING, Branch, Gathering, ThreadOfFlow
from persistence.executor.history import Came, Facts, Historian, Seen, Told
from persistence.executor.turns import Outcome, TurnAppender, TurnBuffer
from persistence.flows.attempt import CURRENT, Attempt
from persistence.flows.cancelling import CANCEL, cancellation
from persistence.flows.codec import from_json, to_json
from persistence.flows.definitions import Definition, Flows, definition_of
from persistence.flows.flow import Await, Awaited, Child, Flow, Gather, Operation, Patch, Request, Sleep, Value, Work, result_type
from persistence.models import Effect, FlowTerms, Run, Signal, Step, ToolCall
from persistence.outbox.threads import is_plain
from persistence.settings import Settings

_log = structlog.get_logger(__name__)

_NOTED_AFTER: Final = 0.25
"""Seconds after which a step that is at work is in the log."""
_SHORT: Final = 1.0
"""Seconds that a run waits in its executor's hands rather than let go."""
_PROGRESS_EVERY: Final = 1.0
_FOREIGN_EVERY: Final = 5.0
"""Seconds between looks at an effect that another run asked for."""
_BATCH: Final = 400
_MOST_CLAIMS: Final = 20
"""Executors that may be lost over one run, one after the other, before it fails."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that was claimed, as it was then. token: of the lease. wakes: how many reasons to go on were counted."""

    tenant_id: UUID
    id: UUID
    token: UUID
    run_type: str
    flow_version: int
    status: str
    version: int
    correlation_id: UUID
    last_event_id: UUID
    parent_run_id: UUID | None
    flow_key: str | None
    input: Any
    retry_count: int
    deadline: datetime | None
    created_at: datetime
    attempts: int
    wakes: int
    has_steps: bool
    lost_by: str | None

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has been done in it, and nobody has told it anything."""
        return self.status == "PENDING" and self.version == 1 and self.wakes == 0 and not self.has_steps


@dataclass(frozen=True)
class Bench:
    """What executions share: who works, with what."""

    name: str
    flows: Flows
    settings: Settings
    appender: TurnAppender
    historian: Historian
    now: Callable[[], datetime]
    ring_workers: Callable[[], None]
    threads: Callable[[Callable[..., Any], tuple[Any, ...]], Awaitable[Any]]


@dataclass(slots=True)
class Waiting:
    """A position whose answer is to come. until: when it is over at the latest, or is asked after again. step: as it is in the log. is_foreign:
    whether it is an effect that another run asked for, of which nobody tells this one.
    """

    branch: Branch
    position: str
    operation: Operation
    step: Step
    until: datetime | None = None
    child_id: UUID | None = None
    is_foreign: bool = False


@dataclass(slots=True)
class Working:
    """A step's function that is being called."""

    branch: Branch
    position: str
    operation: Work
    index: int
    attempt: Attempt
    began_at: datetime
    began: float
    step: Step | None = None
    call: ToolCall | None = None
    is_noted: bool = False
    noted_progress_at: float = 0.0


class Execution:
    """Drives one run. ``work`` returns when it has ended, waits, or is another executor's."""

    def __init__(self, claim: Claim, definition: Definition, bench: Bench) -> None:
        self.claim = claim
        self._definition = definition
        self._bench = bench
        self._run = Run.made(
            tenant_id=claim.tenant_id,
            id=claim.id,
            status=claim.status,
            version=claim.version,
            correlation_id=claim.correlation_id,
            causation_id=None,
            actor=definition.actor,
            last_event_id=claim.last_event_id,
            run_type=claim.run_type,
            flow_version=claim.flow_version,
            retry_count=claim.retry_count,
        )
        self._context = Context(
            tenant_id=claim.tenant_id,
            user_id=bench.settings.service_user,
            actor=definition.actor,
            source=f"executor/{bench.name}"[:200],
        )
        self._flow = Flow(claim.id, claim.tenant_id, claim.flow_key)
        self._history: dict[str, Seen] = {}
        self._is_given_up = False
        self._index = 0
        self._buffer = TurnBuffer(self._context, bench.settings)
        self._buffered = 0
        self._full: list[TurnBuffer] = []
        self._to_start: list[tuple[Branch, str, Work, Step | None]] = []
        self._working: dict[asyncio.Task[Any], Working] = {}
        self._waits: dict[str, Waiting] = {}
        self._root: Branch | None = None
        self._ended: tuple[Any, BaseException | None] | None = None
        self._failed_step: UUID | None = None
        self._cancelled: Told | None = None
        self._undone_after: BaseException | None = None
        self._not_undone: list[str] = []
        self._wakes = self._seen_wakes = claim.wakes
        self._must_look = not claim.is_fresh
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.began = monotonic()
        self.has_parent = claim.parent_run_id is not None
        self.has_children = False
        self.result: tuple[str, Any] | None = None
        """How it ended: COMPLETED with its output, FAILED or CANCELLED with its error."""

    def wake(self, wakes: int) -> None:
        """Says how many reasons to go on have come by now."""
        if wakes > self._wakes:
            self._wakes = wakes
            self._must_look = True
            if not self._news.done():
                self._news.set_result(None)

    async def work(self) -> None:
        try:
            await self._work()
        except (LeaseLost, Conflict, Unavailable, InvalidTransition):
            raise
        except PersistenceError as error:  # the database refuses what the flow asks for, and would again
            await self._end_refused(error)
        finally:
            for task in self._working:
                task.cancel()
            if self._root is not None:
                self._root.close()

    async def _work(self) -> None:
        claim = self.claim
        if not claim.is_fresh:
            self._history = await self._bench.historian.steps(claim.tenant_id, claim.id)
            self._index = 1 + max((seen.index for seen in self._history.values()), default=-1)
        if claim.attempts > _MOST_CLAIMS:
            message = f"{claim.attempts - 1} executors were lost over it, the last was {claim.lost_by}"
            await self._end_badly({"type": "ExecutorLost", "message": message})
            return
        self._begin()
        while True:
            if self._ended is not None:
                if self._working:
                    await asyncio.wait(self._working)
                    self._take_in()
                elif await self._end():
                    return
            elif self._must_look:
                await self._look()
            elif self._to_start:
                await self._flush("KEEP")
                starting, self._to_start = self._to_start, []
                for begun in starting:
                    self._call(*begun)
            elif self._working:
                await self._flush("KEEP")
                await self._wait(self._working)
            elif self._stays():
                await self._flush("KEEP")
                await self._wait({})
            elif self._waits:
                if await self._let_go():
                    return
            else:
                said = "goes on from what was given up" if self._history or self._is_given_up else "awaits nothing"
                self._end_of_flow(None, FlowError(f"flow {self._definition.name}: {said}", hint="start it anew"))

    # The flow

    def _begin(self) -> None:
        """Runs the flow up to where it has to wait for something."""
        try:
            arguments = self._definition.arguments(self.claim.input)
            made: Any
            if self._definition.is_plain:
                made = ThreadOfFlow(self._definition.function, self._flow, arguments)
            else:
                made = self._definition.function(self._flow, *arguments)
        except Exception as error:
            self._ended = None, error
            return
        self._root = Branch(made)
        self._go_on(self._root, None, None)

    def _go_on(self, branch: Branch, value: Any, error: BaseException | None) -> None:
        """Gives a branch an answer, and it goes on as far as there are answers."""
        while not branch.is_over and self._ended is None:
            try:
                asked = branch.go_on(value, error)
            except StopIteration as end:
                self._end_of(branch, end.value, None)
                return
            except Exception as raised:
                self._end_of(branch, None, raised)
                return
            position = branch.next_position()
            try:
                answer = self._answer(branch, position, asked.operation)
            except TookAnotherWay as refused:
                self._end_of_flow(None, refused)
                return
            except PersistenceError as refused:
                value, error = None, refused
                continue
            if answer is NOTHING:
                return
            value, error = (None, answer) if isinstance(answer, BaseException) else (answer, None)

    def _end_of(self, branch: Branch, result: Any, error: BaseException | None) -> None:
        branch.is_over = True
        gathering = branch.gathering
        if gathering is None:
            self._end_of_flow(result, error)
            return
        gathering.results[branch.index] = error if error is not None else result
        gathering.ended += 1
        if not gathering.is_filling:
            self._fill(gathering)
            if gathering.is_over and self._ended is None:
                given = gathering.outcome
                is_error = isinstance(given, BaseException)
                self._go_on(gathering.waiting, None if is_error else given, given if is_error else None)

    def _end_of_flow(self, result: Any, error: BaseException | None) -> None:
        if self._ended is None:
            self._ended = result, error
        self._to_start.clear()
        for task in self._working:
            task.cancel()

    def _fill(self, gathering: Gathering) -> None:
        """Begins as many branches as may go on at a time."""
        gathering.is_filling = True
        while gathering.may_begin and self._ended is None:
            index = gathering.begun
            gathering.begun += 1
            child = Branch(gathering.asked.branches[index](), f"{gathering.position}.{index}.", gathering, index)
            gathering.waiting.children.append(child)
            self._go_on(child, None, None)
        gathering.is_filling = False

    def _answer(self, branch: Branch, position: str, operation: Operation | Gather) -> Any:
        """What a flow gets for what it asks at a position, an exception for it to be raised; NOTHING: it is to come."""
        if isinstance(operation, Gather):
            gathering = Gathering(branch, operation, position, [None] * len(operation.branches))
            self._fill(gathering)
            return gathering.outcome if gathering.is_over else NOTHING
        if len(position) > 200:
            raise FlowError("gather: is nested too deeply")
        seen = self._history.pop(position, None)
        if isinstance(operation, Patch):
            return self._patched(branch, position, operation, seen)
        if seen is None:
            return self._ask(branch, position, operation)
        if (seen.step_type, seen.input) != (operation.step_type, operation.input):
            raise TookAnotherWay(
                f"position {position}: the flow asks for {operation.step_type} {_short(operation.input)}, "
                f"where it asked for {seen.step_type} {_short(seen.input)} before",
                hint="a run goes on as it began: keep the way of old runs with run.patched(…) or another version, and let nothing but run decide",
            )
        return self._recall(branch, position, operation, seen)

    def _patched(self, branch: Branch, position: str, operation: Patch, seen: Seen | None) -> bool:
        """New runs note that they came by; those that had gone on from here before do not, and keep the old way."""
        if seen is not None and seen.step_type == operation.step_type:
            return True
        if seen is not None or any(_is_behind(position, other) for other in self._history):
            if seen is not None:
                self._history[position] = seen
            branch.count -= 1  # in the old way nothing was asked here
            return False
        self._record(position, operation, True)
        return True

    def _ask(self, branch: Branch, position: str, operation: Operation) -> Any:
        """Something that was not asked before."""
        match operation:
            case Value():
                value = operation.make(self._bench.now())
                self._record(position, operation, value)
                return operation.read(value)
            case Work():
                self._to_start.append((branch, position, operation, None))
            case Sleep():
                until = operation.until if isinstance(operation.until, datetime) else self._bench.now() + operation.until
                self._await(branch, position, operation, f"until {until.isoformat(timespec='seconds')}", until)
            case Await():
                limit = None if operation.timeout is None else self._bench.now() + operation.timeout
                key = self._key(operation)
                reason = f"signal {operation.signal_type} for {'this run' if key == str(self._run.id) else key}"
                self._await(branch, position, operation, reason, limit, signal=(operation.signal_type, key))
            case Request():
                step = self._await(
                    branch, position, operation, f"effect {operation.effect_type} under {operation.key}"[:1000], None
                )
                options = {name: value for name, value in operation.options.items() if value}
                self._buffer.effects.request(
                    step, operation.effect_type, spec=operation.spec, idempotency_key=operation.key, awaited=True, **options
                )
                self._count(1)
            case Child():
                self._ask_child(branch, position, operation)
            case _:
                raise FlowError(f"{type(operation).__name__}: cannot be awaited here")
        return NOTHING

    def _ask_child(self, branch: Branch, position: str, operation: Child) -> None:
        flow: Any = operation.flow
        definition = definition_of(flow) if callable(flow) else None
        if definition is None:
            definition = self._bench.flows.find(flow, operation.version)
        child_id = child_of(self._run.id, position)
        step = self._await(branch, position, operation, f"child {definition.name} {child_id}", None, child_id=child_id)
        version = operation.version or definition.version
        self._buffer.runs.create(
            self._run,
            run_type=definition.name,
            input=definition.encoded(operation.given),
            run_id=child_id,
            flow=FlowTerms(
                version=version,
                key=None,
                deadline=None if definition.deadline is None else self._bench.now() + definition.deadline,
            ),
            because=step,
        )
        self.has_children = True
        self._count(1)

    def _recall(self, branch: Branch, position: str, operation: Operation, seen: Seen) -> Any:
        """Something that the log knows of."""
        if isinstance(operation, Value):
            return operation.read(seen.output)
        name = operation.step_type
        if seen.status == "COMPLETED":
            return self._read(operation, seen.output)
        if seen.status == "FAILED" and not (isinstance(operation, Work) and seen.wait_until is not None):
            return _failure(operation, name, seen.error)
        if seen.status in ("CANCELLED", "SKIPPED"):  # the flow was on its way out, and does not go on from here
            self._is_given_up = True
            return NOTHING
        step = self._step_of(seen, operation)
        if isinstance(operation, Work):
            if seen.status == "FAILED":
                self._waits[position] = Waiting(branch, position, operation, step, seen.wait_until)
            else:
                self._to_start.append((branch, position, operation, step))
            return NOTHING
        child_id = child_of(self._run.id, position) if isinstance(operation, Child) else None
        self._waits[position] = Waiting(branch, position, operation, step, seen.wait_until, child_id)
        return NOTHING

    def _read(self, operation: Operation, output: Any) -> Any:
        """A result as the flow gets it, an exception where it is not what the code says."""
        annotation: Any = Any
        try:
            match operation:
                case Work():
                    annotation = result_type(operation)
                case Await():
                    annotation = operation.read or Any
                case Child():
                    flow: Any = operation.flow
                    found = definition_of(flow) if callable(flow) else self._bench.flows.find(flow, operation.version)
                    return found.output(output)
            return from_json(output, annotation, operation.step_type)
        except PersistenceError as error:
            return error

    # What is recorded

    def _count(self, events: int) -> None:
        self._buffered += events
        if self._buffered >= _BATCH:
            self._full.append(self._buffer)
            self._buffer = TurnBuffer(self._context, self._bench.settings)
            self._buffered = 0

    def _next_index(self) -> int:
        self._index += 1
        return self._index - 1

    def _wake_up(self) -> None:
        """What comes before anything else in a turn: the run is under way."""
        if self._run.status == "PENDING":
            self._run = self._buffer.runs.start(self._run)
            self._buffered += 1
        elif self._run.status == "WAITING":
            self._run = self._buffer.runs.resume(self._run)
            self._buffered += 1

    def _record(self, position: str, operation: Operation, output: Any, at: datetime | None = None) -> None:
        """A step that is over at once."""
        self._wake_up()
        self._buffer.steps.record(
            self._run,
            step_type=operation.step_type,
            input=operation.input,
            output=output,
            index=self._next_index(),
            position=position,
        )
        self._count(1)

    def _await(
        self,
        branch: Branch,
        position: str,
        operation: Operation,
        reason: str,
        until: datetime | None,
        *,
        signal: tuple[str, str] | None = None,
        child_id: UUID | None = None,
    ) -> Step:
        self._wake_up()
        deadline = self.claim.deadline
        step = self._buffer.steps.wait(
            self._run,
            step_type=operation.step_type,
            input=operation.input,
            reason=reason[:1000],
            until=min(filter(None, (until, deadline)), default=None),
            signal_type=signal[0] if signal else None,
            signal_key=signal[1] if signal else None,
            index=self._next_index(),
            position=position,
        )
        self._count(1)
        self._waits[position] = Waiting(branch, position, operation, step, until, child_id)
        return step

    def _step_of(self, seen: Seen, operation: Operation) -> Step:
        return Step.made(
            tenant_id=self._run.tenant_id,
            id=seen.id,
            status=seen.status,
            version=seen.version,
            correlation_id=self._run.correlation_id,
            causation_id=None,
            actor=self._context.actor,
            last_event_id=seen.last_event_id,
            run_id=self._run.id,
            step_index=seen.index,
            step_type=operation.step_type,
            retry_count=seen.retry_count,
        )

    def _key(self, operation: Await) -> str:
        return operation.signal_key or str(self._run.id)

    @property
    def _signals(self) -> list[tuple[str, str]]:
        """What signals it waits for."""
        return [
            (wait.operation.signal_type, self._key(wait.operation))
            for wait in self._waits.values()
            if isinstance(wait.operation, Await)
        ]

    async def _flush(self, outcome: Outcome) -> None:
        """Records what is buffered."""
        buffers, self._full = [*self._full, self._buffer], []
        self._buffer, self._buffered = TurnBuffer(self._context, self._bench.settings), 0
        place = self._context.tenant_id, self._context.user_id
        claim = self.claim
        for buffer in buffers:
            is_last = buffer is buffers[-1]
            if not buffer and (not is_last or outcome == "KEEP"):
                continue
            said: Outcome = outcome if is_last else "KEEP"
            signals = self._signals if said == "WAIT" else ()
            turn = buffer.sealed(claim.id, claim.token, said, self._seen_wakes, signals)
            rows = await self._bench.appender.append(place, turn)
            if buffer.asks_for_delivery:
                self._bench.ring_workers()
                if not all(row["is_new"] for row in rows):  # an effect that was asked for before, and may be over
                    self._must_look = True

    # Steps

    def _call(self, branch: Branch, position: str, operation: Work, step: Step | None) -> None:
        number = 1 + (step.retry_count if step is not None else 0)
        attempt = Attempt(self._run.tenant_id, self._run.id, f"{self._run.id}/{position}", number)
        index = self._next_index() if step is None else step.step_index or 0
        working = Working(
            branch, position, operation, index, attempt, self._bench.now(), monotonic(), step, is_noted=step is not None
        )
        if step is not None and operation.tool is not None:
            self._wake_up()
            working.call = self._buffer.tool_calls.start(step, tool_name=operation.tool, args=operation.input)
            self._count(1)
        self._working[asyncio.create_task(self._attempt(operation, attempt))] = working

    async def _attempt(self, operation: Work, attempt: Attempt) -> Any:
        CURRENT.set(attempt)
        function = operation.function
        async with asyncio.timeout(operation.timeout):
            if is_plain(function):
                return await self._bench.threads(function, operation.arguments)
            return await function(*operation.arguments)

    def _note(self, working: Working) -> None:
        """Says that a step is at work."""
        if working.is_noted:
            return
        self._wake_up()
        operation = working.operation
        working.step = self._buffer.steps.start(
            self._run,
            step_type=operation.step_type,
            input=operation.input,
            index=working.index,
            position=working.position,
            at=working.began_at,
        )
        working.is_noted = True
        self._count(1)
        if operation.tool is not None:
            working.call = self._buffer.tool_calls.start(
                working.step, tool_name=operation.tool, args=operation.input, at=working.began_at
            )
            self._count(1)

    async def _wait(self, working: Mapping[asyncio.Task[Any], Working]) -> None:
        """Until a step ends, something is to be noted of one, a time has come, or there is news."""
        if self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        if not self._must_look:
            await asyncio.wait({*working, self._news}, timeout=self._patience(), return_when=asyncio.FIRST_COMPLETED)
        self._take_in()
        now = monotonic()
        for task, one in self._working.items():
            if not one.is_noted and now - one.began >= _NOTED_AFTER:
                self._note(one)
            attempt = one.attempt
            if attempt.tells and now - one.noted_progress_at >= _PROGRESS_EVERY:
                self._note_progress(one, now)
            limit = one.operation.heartbeat
            if limit is not None and now - attempt.beaten_at > limit:
                attempt.beaten_at = float("inf")
                task.cancel()
        self._come_due()

    def _take_in(self) -> None:
        """What came of the steps that ended."""
        for task in [task for task in self._working if task.done()]:
            self._ended_work(task, self._working.pop(task))

    def _stays(self) -> bool:
        """Whether it is not worth the while to let go of the run."""
        pause = self._pause()
        return (pause is not None and pause <= _SHORT) or any(wait.is_foreign for wait in self._waits.values())

    def _note_progress(self, working: Working, now: float) -> None:
        self._note(working)
        working.attempt.tells = False
        working.noted_progress_at = now
        assert working.step is not None
        with contextlib.suppress(InvalidInput):
            working.step = self._buffer.steps.progress(working.step, to_json(working.attempt.progress, "progress"))
            self._count(1)

    def _patience(self) -> float | None:
        """Seconds until there is something to see to besides what ends by itself."""
        now = monotonic()
        waits = [max(0.0, working.began + _NOTED_AFTER - now) for working in self._working.values() if not working.is_noted]
        for working in self._working.values():
            if working.operation.heartbeat is not None:
                waits.append(max(0.01, min(_PROGRESS_EVERY, working.attempt.beaten_at + working.operation.heartbeat - now)))
            elif now - working.began > _NOTED_AFTER:
                waits.append(_PROGRESS_EVERY)
        pause = self._pause()
        if pause is not None:
            waits.append(max(0.0, pause))
        return min(waits, default=None)

    def _ended_work(self, task: asyncio.Task[Any], working: Working) -> None:
        """What came of a step's function."""
        error: BaseException | None = None
        result = None
        if task.cancelled():
            if self._ended is not None:
                self._give_up(working)
                return
            silent = working.attempt.beaten_at == float("inf")
            error = TimeoutError("no heartbeat came in time") if silent else RuntimeError("it cancelled itself")
        else:
            error = task.exception()
            result = None if error is not None else task.result()
        operation = working.operation
        answer: Any = None
        if error is None:
            try:
                output = to_json(result, f"{operation.step_type}: its result")
                answer = from_json(output, result_type(operation), f"{operation.step_type}: its result")
                self._finish(working, output)
            except PersistenceError as refused:
                error = refused
        if error is None:
            self._go_on(working.branch, answer, None)
            return
        self._fail(working, error)

    def _finish(self, working: Working, output: Any) -> None:
        operation = working.operation
        if operation.tool is not None:
            self._note(working)
        if not working.is_noted:
            self._wake_up()
            self._buffer.steps.record(
                self._run,
                step_type=operation.step_type,
                input=operation.input,
                output=output,
                index=working.index,
                position=working.position,
                attributes={"started_at": working.began_at.isoformat()},
            )
            self._count(1)
            return
        assert working.step is not None
        self._wake_up()
        if working.call is not None:
            self._buffer.tool_calls.complete(working.call, output)
            self._buffer.steps.complete(working.step)
            self._count(2)
        else:
            self._buffer.steps.complete(working.step, output)
            self._count(1)

    def _fail(self, working: Working, error: BaseException) -> None:
        """An attempt failed: there is another, or the flow hears of it."""
        operation = working.operation
        self._note(working)
        assert working.step is not None
        details = described(error)
        pause = operation.retry.pause(working.attempt.number, error)
        retry_at = None if pause is None else self._bench.now() + timedelta(seconds=pause)
        self._wake_up()
        if working.call is not None:
            self._buffer.tool_calls.fail(working.call, details)
            self._count(1)
        step = self._buffer.steps.fail(working.step, {**details, "attempt": working.attempt.number}, retry_at=retry_at)
        self._count(1)
        if retry_at is not None:
            self._waits[working.position] = Waiting(working.branch, working.position, operation, step, retry_at)
            return
        failed = StepFailed(operation.step_type, details["type"], details["message"])
        failed.__cause__ = error
        self._failed_step = step.id
        self._go_on(working.branch, None, failed)

    def _give_up(self, working: Working) -> None:
        """A step that is not wanted any more, since the flow ended."""
        self._note(working)
        assert working.step is not None
        if working.call is not None:
            self._buffer.tool_calls.cancel(working.call)
            self._count(1)
        self._buffer.steps.cancel(working.step, {"type": "Cancelled", "message": "the flow ended without it"})
        self._count(1)

    # Waits

    def _pause(self) -> float | None:
        """Seconds until the first of what it waits for comes due by time."""
        moments = [wait.until for wait in self._waits.values() if wait.until is not None]
        if self.claim.deadline is not None and self._undone_after is None:
            moments.append(self.claim.deadline)
        return None if not moments else (min(moments) - self._bench.now()).total_seconds()

    def _come_due(self) -> None:
        """Goes on with what waited for a time that has come."""
        now = self._bench.now()
        deadline = self.claim.deadline
        if deadline is not None and now >= deadline and self._undone_after is None and self._ended is None:
            late = StepFailed(self._definition.name, "DeadlineExceeded", f"it was to end by {deadline.isoformat()}")
            self._end_of_flow(None, late)
        for wait in list(self._waits.values()):
            if self._ended is not None:
                return
            if wait.until is None or wait.until > now or wait.position not in self._waits:
                continue
            match wait.operation:
                case Work():
                    del self._waits[wait.position]
                    self._wake_up()
                    step = self._buffer.steps.retry(wait.step)
                    self._count(1)
                    self._to_start.append((wait.branch, wait.position, wait.operation, step))
                case Sleep():
                    self._came(wait, None)
                case Await():
                    self._went_wrong(
                        wait, TimedOut(wait.operation.step_type, "TimedOut", f"nothing came until {wait.until.isoformat()}")
                    )
                case Request():
                    self._must_look = True

    async def _look(self) -> None:
        """Asks what has come of what it waits for, and whether it is to be cancelled; what has come goes before what is late."""
        self._must_look = False
        self._seen_wakes = self._wakes
        waits = list(self._waits.values())
        facts = await self._facts(waits)
        self._cancelled = next(iter(facts.signals.get((CANCEL, str(self._run.id)), ())), None)
        if self._cancelled is not None and self._undone_after is None:
            self._end_of_flow(None, asyncio.CancelledError())
            return
        for wait in waits:
            if self._waits.get(wait.position) is wait and self._ended is None:
                self._came_of(wait, facts)
        self._come_due()

    async def _facts(self, waits: Sequence[Waiting]) -> Facts:
        return await self._bench.historian.facts(
            self._run.tenant_id,
            effects=[(wait.step.id, wait.operation.key) for wait in waits if isinstance(wait.operation, Request)],
            children=[wait.child_id for wait in waits if wait.child_id is not None],
            signals=list({(CANCEL, str(self._run.id)), *self._signals}),
        )

    def _came_of(self, wait: Waiting, facts: Facts) -> None:
        """Where what it waits for has come, the flow goes on."""
        match wait.operation:
            case Request():
                came = facts.by_step.get(wait.step.id)
                if came is not None:
                    self._effect_came(wait, wait.operation, came)
            case Child():
                child = facts.by_run.get(wait.child_id) if wait.child_id is not None else None
                if child is None or child.status not in ("COMPLETED", "FAILED", "CANCELLED"):
                    return
                if child.status == "COMPLETED":
                    self._came(wait, child.output, because=child.last_event_id)
                    return
                error = child.error or {}
                failed = ChildFailed(
                    wait.operation.step_type, error.get("type", "Cancelled"), error.get("message", "it was cancelled")
                )
                self._went_wrong(wait, failed, child.last_event_id)
            case Await():
                told = facts.signals.get((wait.operation.signal_type, self._key(wait.operation)))
                if told:
                    signal = told.pop(0)
                    self._wake_up()
                    self._buffer.signals.process(_signal(signal, self._context))
                    self._count(1)
                    self._came(wait, signal.payload, attributes={"signal_id": str(signal.id)})

    def _effect_came(self, wait: Waiting, asked: Request, came: Came) -> None:
        error = came.error or {}
        if came.status == "EXECUTED":
            self._came(wait, came.output, because=came.last_event_id if came.is_ours else None)
        elif came.status == "DEAD_LETTER" and came.is_ours:
            self._wake_up()
            self._buffer.effects.cancel(self._effect_of(came, asked), "its flow goes on without it")
            self._count(1)
            self._went_wrong(
                wait,
                EffectFailed(asked.step_type, error.get("type", "DeadLetter"), error.get("message", "it became a dead letter")),
            )
        elif came.status in ("CANCELLED", "DISCARDED"):
            self._went_wrong(wait, EffectFailed(asked.step_type, came.status.capitalize(), f"it was {came.status.lower()}"))
        elif not came.is_ours:
            wait.is_foreign = True
            wait.until = self._bench.now() + timedelta(seconds=_FOREIGN_EVERY)

    def _effect_of(self, came: Came, asked: Request) -> Effect:
        return Effect.made(
            tenant_id=self._run.tenant_id,
            id=came.id,
            status=came.status,
            version=came.version,
            correlation_id=self._run.correlation_id,
            causation_id=None,
            actor=self._context.actor,
            last_event_id=came.last_event_id,
            effect_type=asked.effect_type,
            idempotency_key=asked.key,
            effect_spec=asked.spec,
        )

    def _came(self, wait: Waiting, output: Any, because: UUID | None = None, attributes: Mapping[str, Any] | None = None) -> None:
        """A wait is over, and the flow goes on."""
        del self._waits[wait.position]
        self._wake_up()
        details: dict[str, Any] = {}
        if because is not None:
            details["because"] = because
        if attributes:
            details["attributes"] = dict(attributes)
        self._buffer.steps.complete(wait.step, output, **details)
        self._count(1)
        answer = self._read(wait.operation, output)
        is_error = isinstance(answer, BaseException)
        self._go_on(wait.branch, None if is_error else answer, answer if is_error else None)

    def _went_wrong(self, wait: Waiting, error: StepFailed, because: UUID | None = None) -> None:
        del self._waits[wait.position]
        self._wake_up()
        details: dict[str, Any] = {} if because is None else {"because": because}
        step = self._buffer.steps.fail(wait.step, {"type": error.type, "message": error.detail}, **details)
        self._count(1)
        self._failed_step = step.id
        self._go_on(wait.branch, None, error)

    async def _let_go(self) -> bool:
        """Lets the run wait without an executor. Returns False where there is something to do after all."""
        if self._buffer or self._full or self._run.status != "WAITING":
            self._wake_up()
            reasons = [wait.step.wait_reason or wait.operation.step_type for wait in self._waits.values()]
            said = reasons[0] if len(reasons) == 1 else f"{len(reasons)} things, the first is {reasons[0]}"
            self._run = self._buffer.runs.suspend(self._run, said[:1000])
        await self._flush("WAIT")
        return True

    # The end

    async def _end(self) -> bool:
        """Undoes what is to be undone, and records how it ended. Returns False while there is something to do."""
        assert self._ended is not None
        result, error = self._ended
        if self._undone_after is not None:
            if error is not None:
                self._not_undone.append(str(error))
            error = self._undone_after
        elif error is None:
            error = self._left_out()
        if error is not None and self._undone_after is None:
            self._drop_waits()
            if self._flow.compensations and not isinstance(error, FlowError):
                self._undo(error)
                return False
        if error is None:
            try:
                output = to_json(result, f"{self._definition.name}: its result")
                self._wake_up()
                self._buffer.runs.complete(self._run, output)
            except PersistenceError as refused:
                self._ended = None, refused
                return False
            await self._flush("END")
            self.result = "COMPLETED", output
            return True
        details = described(error)
        if self._not_undone:
            details["not_undone"] = self._not_undone
        if isinstance(error, asyncio.CancelledError) and self._cancelled is not None:
            await self._end_cancelled(self._cancelled, details)
            return True
        if isinstance(error, StepFailed) and self._failed_step is not None:
            details["step_id"] = str(self._failed_step)
        if self._undone_after is not None:
            details["undone"] = True
        await self._end_badly(details)
        return True

    def _left_out(self) -> TookAnotherWay | None:
        """What the flow did not ask for this time, though it had before."""
        position = next((position for position in self._history if not position.startswith("c")), None)
        if position is None:
            return None
        seen = self._history[position]
        return TookAnotherWay(
            f"position {position}: the flow ends without it, where it asked for {seen.step_type} {_short(seen.input)} before",
            hint="a run goes on as it began: keep the way of old runs with run.patched(…) or another version",
        )

    async def _end_cancelled(self, cancelled: Told, details: dict[str, Any]) -> None:
        payload = cancelled.payload if isinstance(cancelled.payload, dict) else {}
        details |= {
            "type": "Cancelled",
            "message": str(payload.get("reason") or "it was cancelled"),
            "signal_id": str(cancelled.id),
        }
        details.pop("trace", None)
        self._wake_up()
        self._buffer.signals.process(_signal(cancelled, self._context))
        self._buffer.runs.cancel(self._run, details)
        await self._flush("END")
        self.result = "CANCELLED", details

    async def _end_badly(self, details: dict[str, Any]) -> None:
        self._wake_up()
        self._buffer.runs.fail(self._run, details)
        await self._flush("END")
        self.result = "FAILED", details

    async def _end_refused(self, error: PersistenceError) -> None:
        claim = self.claim
        status, version, last_event_id = await self._bench.historian.run(claim.tenant_id, claim.id)
        self._run = self._run.model_copy(update={"status": status, "version": version, "last_event_id": last_event_id})
        self._buffer, self._full = TurnBuffer(self._context, self._bench.settings), []
        await self._end_badly(described(error))

    def _drop_waits(self) -> None:
        """Nothing that the flow waited for is waited for any more; what it asked for is taken back as far as it can be."""
        waits, self._waits = self._waits, {}
        for wait in waits.values():
            self._wake_up()
            if wait.child_id is not None:
                self._buffer.signals.record(cancellation(wait.child_id, f"run {self._run.id} ended without it", self._run.id))
                self._count(1)
            if wait.step.status == "WAITING":
                self._buffer.steps.cancel(wait.step, {"type": "Cancelled", "message": "the flow ended without it"})
                self._count(1)

    def _undo(self, error: BaseException) -> None:
        """Calls what undoes, the last first, as steps."""
        self._undone_after = error
        self._ended = None
        if self._root is not None:
            self._root.close()
        flow, failures = self._flow, self._not_undone

        async def undo() -> None:
            for work in reversed(flow.compensations):
                try:
                    await Awaited(work)
                except StepFailed as failed:
                    failures.append(str(failed))

        self._root = Branch(undo(), "c")
        self._go_on(self._root, None, None)


def child_of(run_id: UUID, position: str) -> UUID:
    """The id of the child that a run starts at a position."""
    return uuid5(run_id, position)


def described(error: BaseException) -> dict[str, Any]:
    """An exception as the log keeps it."""
    if isinstance(error, StepFailed):
        return {"type": error.type, "message": error.detail, "step": error.name}
    lines = "".join(traceback.format_exception(error, limit=-8))
    clean = str(error).replace("\x00", "").encode(errors="replace").decode()
    return {
        "type": type(error).__name__,
        "message": clean[:2000],
        "trace": lines.replace("\x00", "").encode(errors="replace").decode()[-6000:],
    }


def _failure(operation: Operation, name: str, error: Mapping[str, Any] | None) -> StepFailed:
    """The exception that a flow got when the step failed."""
    said = error or {}
    kinds: dict[type[Operation], type[StepFailed]] = {Request: EffectFailed, Child: ChildFailed, Await: TimedOut}
    return kinds.get(type(operation), StepFailed)(name, said.get("type", "Error"), said.get("message", ""))


def _signal(told: Told, context: Context) -> Signal:
    return Signal.made(
        tenant_id=context.tenant_id,
        id=told.id,
        status="RECEIVED",
        version=told.version,
        correlation_id=told.correlation_id,
        causation_id=None,
        actor=context.actor,
        last_event_id=told.last_event_id,
        source_channel="",
        source_id="",
        signal_type=told.signal_type,
        signal_key=told.signal_key,
    )


def _is_behind(position: str, other: str) -> bool:
    """Whether another position is behind this one in the same branch, or below one that is."""
    *place, number = position.split(".")
    parts = other.split(".")
    if parts[: len(place)] != place or len(parts) <= len(place):
        return False
    return _number(parts[len(place)]) > _number(number)


def _number(text: str) -> int:
    return int(text.removeprefix("c") or 0)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:199]}…"
