"""Flows as they are driven: coroutines that get answers and ask for something, without an event loop of their own."""

import asyncio
import contextlib
import queue
import threading
from dataclasses import dataclass, field
from typing import Any, Protocol

from persistence.errors import FlowError
from persistence.flows.flow import Awaited, Flow, Gather

NOTHING = object()
"""Says that a function has given nothing yet."""


class Driven(Protocol):
    """What a coroutine has of it that is needed here."""

    def send(self, value: Any, /) -> Any: ...

    def throw(self, error: BaseException, /) -> Any: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Gathering:
    """Branches side by side. results: of those that ended, an exception for one that failed."""

    waiting: "Branch"
    asked: Gather
    position: str
    results: list[Any]
    begun: int = 0
    ended: int = 0
    is_filling: bool = False

    @property
    def may_begin(self) -> bool:
        """Whether another branch may begin."""
        return self.begun < len(self.asked.branches) and self.begun - self.ended < self.asked.at_once

    @property
    def is_over(self) -> bool:
        return self.ended == len(self.asked.branches)

    @property
    def outcome(self) -> Any:
        """The results in their order, or the exception that is to be raised."""
        if not self.asked.return_exceptions:
            for result in self.results:
                if isinstance(result, BaseException):
                    return result
        return self.results


@dataclass(slots=True)
class Branch:
    """A line of a flow that does one thing after the other. prefix: what its positions begin with."""

    driven: Driven
    prefix: str = ""
    gathering: Gathering | None = None
    index: int = 0
    count: int = 0
    is_over: bool = False
    children: list["Branch"] = field(default_factory=list)

    def next_position(self) -> str:
        position = f"{self.prefix}{self.count}"
        self.count += 1
        return position

    def go_on(self, value: Any, error: BaseException | None) -> Awaited[Any]:
        """Gives it an answer, and returns what it asks for next. Raises StopIteration with its result, or what it raises."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        asyncio.tasks._leave_task(loop, task)  # what belongs to a task, such as asyncio.timeout, is to fail here
        try:
            while True:
                asked = self.driven.throw(error) if error is not None else self.driven.send(value)
                if isinstance(asked, Awaited):
                    return asked
                kind = type(asked).__name__ if asked is not None else "sleep(0)"
                error = FlowError(
                    f"the flow awaits something that is not the run's (asyncio's {kind})",
                    hint="put what takes time or talks to others into run.step",
                )
        finally:
            asyncio.tasks._enter_task(loop, task)

    def close(self) -> None:
        """Drops it: what it waits for never comes."""
        for child in self.children:
            child.close()
        if not self.is_over:
            self.is_over = True
            with contextlib.suppress(BaseException):  # it is gone, whatever it says to that
                self.driven.close()


class _Dropped(BaseException):
    """Raised in a plain flow's thread when nobody goes on with it."""


class PlainFlow:
    """The run as a plain function sees it: what it asks for is given at once, and it waits meanwhile.

    ``deferred`` has the same methods, which give what ``gather`` takes: ``run.gather(run.deferred.step(pack, item) for item in items)``.
    """

    def __init__(self, deferred: Flow, ask: Any) -> None:
        self.deferred = deferred
        self._ask = ask

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.deferred, name)
        if not callable(found):
            return found

        def asking(*arguments: Any, **options: Any) -> Any:
            given = found(*arguments, **options)
            return self._ask(given) if isinstance(given, Awaited) else given

        return asking


class ThreadOfFlow:
    """A plain function as a flow: a thread that stands still while it waits for an answer, and is waited for while it does not."""

    def __init__(self, function: Any, flow: Flow, arguments: tuple[Any, ...]) -> None:
        self._inbox: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._function = function
        self._arguments = arguments
        self._flow = flow
        self._thread: threading.Thread | None = None

    def send(self, value: Any, /) -> Any:
        return self._go_on(value, None)

    def throw(self, error: BaseException, /) -> Any:
        return self._go_on(None, error)

    def close(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            self._inbox.put((None, _Dropped()))
            self._thread.join(timeout=5)

    def _go_on(self, value: Any, error: BaseException | None) -> Any:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="persistence-flow", daemon=True)
            self._thread.start()
        else:
            self._inbox.put((value, error))
        said, given = self._outbox.get()
        if said == "asks":
            return given
        if said == "ended":
            raise StopIteration(given)
        raise given

    def _ask(self, asked: Awaited[Any]) -> Any:
        self._outbox.put(("asks", asked))
        value, error = self._inbox.get()
        if error is not None:
            raise error
        return value

    def _run(self) -> None:
        try:
            result = self._function(PlainFlow(self._flow, self._ask), *self._arguments)
        except _Dropped:
            return
        except BaseException as error:
            self._outbox.put(("failed", error if isinstance(error, Exception) else RuntimeError(repr(error))))
        else:
            self._outbox.put(("ended", result))
