"""What a flow has in its hands while it runs."""

import random as chance
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar, overload
from uuid import UUID, uuid4

from persistence.errors import FlowError, InvalidInput
from persistence.flows.codec import returns, to_json
from persistence.flows.definitions import Retry

T = TypeVar("T")

RESERVED: Final = frozenset({"sleep", "now", "uuid", "random", "publish"})
_DEFAULT_RETRY: Final = Retry()
_COMPENSATION: Final = Retry(attempts=10)


@dataclass(frozen=True, slots=True)
class Operation:
    """What a flow asks for at a position. step_type: how the step is called in the record. input: JSON, the same each time."""

    step_type: str
    input: Any


@dataclass(frozen=True, slots=True)
class Work(Operation):
    """A function to be called. tool: the tool's name, if it is one. timeout, heartbeat: seconds."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    retry: Retry
    timeout: float | None
    heartbeat: float | None
    tool: str | None


@dataclass(frozen=True, slots=True)
class Value(Operation):
    """Something that is made once: the time, an id, a number, what is published."""

    make: Callable[[datetime], Any]
    read: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Patch(Operation):
    """Whether the run came by here after a change of the code, or had been further already."""


@dataclass(frozen=True, slots=True)
class Sleep(Operation):
    """Waiting for a time. until: the moment, or how long."""

    until: datetime | timedelta


@dataclass(frozen=True, slots=True)
class Await(Operation):
    """Waiting for a signal."""

    signal_type: str
    signal_key: str | None
    timeout: timedelta | None
    read: type[Any] | None


@dataclass(frozen=True, slots=True)
class Request(Operation):
    """An effect, and what comes of it."""

    effect_type: str
    spec: dict[str, Any]
    key: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Child(Operation):
    """A child run."""

    flow: str
    version: int | None
    given: Any


@dataclass(frozen=True, slots=True)
class Gather:
    """Branches that go on side by side."""

    branches: tuple[Callable[[], Coroutine[Any, Any, Any]], ...]
    at_once: int
    return_exceptions: bool


class Awaited(Generic[T]):
    """Something that a flow awaits, once."""

    __slots__ = ("operation",)

    def __init__(self, operation: Operation | Gather) -> None:
        self.operation = operation

    def __await__(self) -> Generator["Awaited[T]", Any, T]:
        result: T = yield self
        return result


@dataclass
class Flow:
    """One run, as its flow sees it. What is awaited on it is done once, and its outcome is in the log: when the flow is run again, after a crash or a
    wait, it gets the same answers without anything being done.

    id, key, tenant_id, started_at: of the run. Nothing else may be awaited in a flow: what takes time or talks to others belongs in a step.
    """

    id: UUID
    tenant_id: UUID
    key: str | None
    compensations: list[Work] = field(default_factory=list)

    @overload
    def step(
        self, function: Callable[..., Awaitable[T]], /, *arguments: Any, name: str | None = ..., retry: Retry = ..., timeout: float | timedelta |
        None = ...,
        heartbeat: float | timedelta | None = ...,
    ) -> Awaited[T]: ...  # fmt: skip

    @overload
    def step(
        self, function: Callable[..., T], /, *arguments: Any, name: str | None = ..., retry: Retry = ..., timeout: float | timedelta | None = ...,
        heartbeat: float | timedelta | None = ...,
    ) -> Awaited[T]: ...  # fmt: skip

    def step(
        self,
        function: Callable[..., Any],
        /,
        *arguments: Any,
        name: str | None = None,
        retry: Retry = _DEFAULT_RETRY,
        timeout: float | timedelta | None = None,
        heartbeat: float | timedelta | None = None,
    ) -> Awaited[Any]:
        """Calls a function, async or plain, at least once, and keeps its result; the arguments are kept, too. A plain one has a thread.

        name: none: the function's. retry: when it raises; after that it is a StepFailed, here. timeout: how long one attempt may take. heartbeat:
        how long it may be between two calls of ``persistence.flows.heartbeat`` in it.
        """
        return Awaited(_work(function, arguments, name, retry, timeout, heartbeat, tool=None))

    def tool(
        self,
        tool: str,
        function: Callable[..., Any],
        /,
        *arguments: Any,
        retry: Retry = _DEFAULT_RETRY,
        timeout: float | timedelta | None = None,
        heartbeat: float | timedelta | None = None,
    ) -> Awaited[Any]:
        """Calls a function as a tool: a step with a TOOL_CALL of this name in it. The rest is as for ``step``."""
        return Awaited(_work(function, arguments, tool, retry, timeout, heartbeat, tool=tool))

    def sleep(self, duration: timedelta | float | datetime) -> Awaited[None]:
        """Waits for so long (seconds, or a timedelta), or until a moment with a time zone. The run holds nothing meanwhile."""
        if isinstance(duration, datetime):
            if duration.tzinfo is None:
                raise InvalidInput("sleep: the moment has no time zone", hint="give it one, such as datetime.UTC", field="duration")
            return Awaited(Sleep("sleep", {"until": duration.isoformat()}, duration))
        length = duration if isinstance(duration, timedelta) else timedelta(seconds=duration)
        if length < timedelta(0):
            raise InvalidInput("sleep: is less than nothing", field="duration")
        return Awaited(Sleep("sleep", {"seconds": length.total_seconds()}, length))

    def signal(
        self, signal_type: str, *, key: str | None = None, timeout: timedelta | float | None = None, returns: type[T] | None = None
    ) -> Awaited[Any]:
        """Waits for a signal, and gives its payload. One that came before is there at once; each is given to one run.

        key: that its sender names; none: the run's own id, for signals to this run alone. timeout: then it is a TimedOut. returns: the type of the
        payload.
        """
        length = timeout if isinstance(timeout, timedelta) or timeout is None else timedelta(seconds=timeout)
        if not 1 <= len(signal_type) <= 200 or (key is not None and not 1 <= len(key) <= 300):
            raise InvalidInput("signal: its type has 1 to 200 characters, its key 1 to 300", field="signal_type")
        given = {"key": key, "timeout": None if length is None else length.total_seconds()}
        return Awaited(
            Await(
                f"signal:{signal_type}"[:200], {k: v for k, v in given.items() if v is not None}, signal_type, key, length, returns
            )
        )

    def effect(
        self,
        effect_type: str,
        spec: dict[str, Any],
        *,
        key: str,
        destination: str | None = None,
        ordering_key: str | None = None,
        priority: int = 0,
    ) -> Awaited[Any]:
        """Asks for something to be done outside, once under its key, and gives what its handler returned. An EffectFailed where it became a dead
        letter: it is taken back then, so that nobody delivers it after all. Arguments as for ``tx.effects.request``.
        """
        options = {"destination": destination, "ordering_key": ordering_key, "priority": priority}
        given = {"type": effect_type, "spec": to_json(spec, f"{effect_type}: its spec"), "key": key}
        return Awaited(Request(f"effect:{effect_type}"[:200], given, effect_type, given["spec"], key, options))

    def child(self, flow: str | Callable[..., Any], given: Any = None, *, version: int | None = None) -> Awaited[Any]:
        """Starts a run of another flow as a part of this one, waits for it, and gives its result. A ChildFailed where it fails or is cancelled.

        flow: its name or function. version: none: the newest that this program has.
        """
        name = flow if isinstance(flow, str) else getattr(flow, "__name__", "?")
        return Awaited(Child(f"child:{name}"[:200], to_json(given, f"{name}: its input"), flow, version, given))  # type: ignore[arg-type]

    def gather(
        self, *parts: Awaitable[Any] | Iterable[Awaitable[Any]], at_once: int = 100, return_exceptions: bool = False
    ) -> Awaited[list[Any]]:
        """Lets several go on side by side, and gives their results in their order: steps and all else that is awaited on the run, and coroutines
        that await such. All go to their end; then the first that failed is raised, unless the exceptions are asked for among the results.

        at_once: how many at a time.
        """
        if at_once < 1:
            raise InvalidInput("gather: at_once is at least 1", field="at_once")
        items: list[Awaitable[Any]] = []
        for part in parts:
            items.extend([part] if isinstance(part, Awaited) or hasattr(part, "__await__") else part)  # type: ignore[list-item]
        return Awaited(Gather(tuple(_branch(item) for item in items), at_once, return_exceptions))

    def compensate(
        self, function: Callable[..., Any], /, *arguments: Any, name: str | None = None, retry: Retry = _COMPENSATION
    ) -> None:
        """Says how to undo what was done so far: if the flow fails or is cancelled, such functions are called as steps, the last first."""
        self.compensations.append(_work(function, arguments, name, retry, None, None, tool=None))

    def now(self) -> Awaited[datetime]:
        """The time, as it was when the run first came here; in UTC."""
        return Awaited(Value("now", None, lambda moment: moment.isoformat(), datetime.fromisoformat))

    def uuid(self) -> Awaited[UUID]:
        """A random UUID, the same each time."""
        return Awaited(Value("uuid", None, lambda _: str(uuid4()), UUID))

    def random(self) -> Awaited[float]:
        """A random number from 0 up to 1, the same each time."""
        return Awaited(Value("random", None, lambda _: chance.random(), float))

    def publish(self, state: Any) -> Awaited[None]:
        """Shows a state of the run to whoever asks: ``handle.state()``, the console. JSON."""
        return Awaited(Value("publish", to_json(state, "publish"), lambda _: None, lambda _: None))

    def patched(self, name: str) -> Awaited[bool]:
        """Whether to go the new way: True in runs that come by here for the first time, False in those that had come further before the change."""
        return Awaited(Patch(f"patch:{name}"[:200], None))


def _work(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    name: str | None,
    retry: Retry,
    timeout: float | timedelta | None,
    heartbeat: float | timedelta | None,
    *,
    tool: str | None,
) -> Work:
    if not callable(function):
        raise InvalidInput(
            f"{name or 'step'}: {function!r} cannot be called",
            hint="pass the function, and its arguments after it",
            field="function",
        )
    called = (
        name
        or getattr(function, "__name__", None)
        or getattr(getattr(function, "func", None), "__name__", None)
        or type(function).__name__
    )
    if called == "<lambda>":
        raise InvalidInput("step: a lambda has no name", hint='give it one: name="price"', field="name")
    if not 1 <= len(called) <= 190 or ":" in called or (tool is None and called in RESERVED):
        raise InvalidInput(
            f"step {called[:40]!r}: a name has 1 to 190 characters, no colon, and is none of {', '.join(sorted(RESERVED))}",
            field="name",
        )
    given = [to_json(argument, f"{called}: argument {number}") for number, argument in enumerate(arguments, 1)]
    return Work(
        f"tool:{called}" if tool is not None else called,
        given,
        function,
        arguments,
        retry,
        _seconds(timeout, "timeout"),
        _seconds(heartbeat, "heartbeat"),
        tool,
    )


def result_type(work: Work) -> Any:
    """What a function's result is read as."""
    return returns(work.function)


def _branch(item: Awaitable[Any]) -> Callable[[], Coroutine[Any, Any, Any]]:
    if isinstance(item, Coroutine):
        return lambda: item
    if not isinstance(item, Awaited):
        raise FlowError(
            f"gather: a {type(item).__name__} cannot be awaited in a flow",
            hint="await what run gives, and coroutines that await it",
        )

    async def one() -> Any:
        return await item

    return one


def _seconds(given: float | timedelta | None, field: str) -> float | None:
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if seconds is not None and seconds <= 0:
        raise InvalidInput(f"{field}: must be more than nothing", field=field)
    return seconds
