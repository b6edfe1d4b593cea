"""What a flow is: its name, version, function and terms; and the flows that a program has."""

import inspect
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Final, TypeVar

from persistence.errors import ConfigurationError, InvalidInput
from persistence.flows.codec import from_json, returns, takes, to_json

F = TypeVar("F", bound=Callable[..., Any])

MOST_NAME: Final = 180
MARK: Final = "__persistence_flow__"


@dataclass(frozen=True, slots=True)
class Retry:
    """How often something is tried, and how long it rests in between: ``first`` seconds, ``factor`` times as long each time, at most ``longest``,
    and of that a random part between half and all.

    attempts: with the first. never: exceptions after which it is not tried again.
    """

    attempts: int = 3
    first: float = 1.0
    factor: float = 2.0
    longest: float = 300.0
    never: tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first < 0 or self.factor < 1 or self.longest < 0:
            raise ConfigurationError("Retry: attempts and factor are at least 1, seconds at least 0")

    def pause(self, attempt: int, error: BaseException) -> float | None:
        """Seconds until the attempt after this one; None: there is none."""
        if attempt >= self.attempts or isinstance(error, self.never):
            return None
        return min(self.longest, self.first * self.factor ** (attempt - 1)) * random.uniform(0.5, 1.0)


@dataclass(frozen=True)
class Definition:
    """A flow as its program has it.

    name: 1 to 180 characters. version: a run stays with the version that began it. actor: who acts in its runs (CANON-TRACE-001).
    deadline: how long a run may take, from its start; none: as long as it needs. concurrency: how many of its runs one executor has in hand at a
    time.
    """

    name: str
    version: int
    function: Callable[..., Any]
    actor: str
    deadline: timedelta | None = None
    concurrency: int = 100

    @cached_property
    def _input(self) -> tuple[str, Any] | None:
        given = takes(self.function)[1:]
        return given[0] if given else None

    def encoded(self, value: Any) -> Any:
        """A run's input as JSON. Raises InvalidInput for what the flow does not take."""
        if self._input is None:
            if value is not None:
                raise InvalidInput(f"{self.name}: takes no input", field="input")
            return None
        name, annotation = self._input
        given = to_json(value, f"{self.name}.{name}")
        from_json(given, annotation, f"{self.name}.{name}")
        return given

    def arguments(self, value: Any) -> tuple[Any, ...]:
        """What the function is called with besides the run."""
        if self._input is None:
            return ()
        name, annotation = self._input
        return (from_json(value, annotation, f"{self.name}.{name}"),)

    def output(self, value: Any) -> Any:
        """A run's output as the function says that it gives it back."""
        return from_json(value, returns(self.function), f"{self.name}: its result")

    @property
    def is_plain(self) -> bool:
        """Whether it is a plain function, which has a thread for each run."""
        return not inspect.iscoroutinefunction(self.function)


@dataclass
class Flows:
    """The flows of a program, each in the versions that it has."""

    _definitions: dict[tuple[str, int], Definition] = field(default_factory=dict)

    def flow(
        self,
        name: str,
        *,
        version: int = 1,
        actor: str | None = None,
        deadline: timedelta | None = None,
        concurrency: int = 100,
    ) -> Callable[[F], F]:
        """Decorates the function that is a flow: ``async def order(run: Flow, order: Order) -> Receipt``, or a plain one.

        Between what it asks of ``run`` it must do the same each time it is run again with the same answers: no clock, no chance, no input or output
        of its own. Arguments as for Definition; actor: none: ``system:flow/`` and the name.
        """
        if not 1 <= len(name) <= MOST_NAME or ":" in name:
            raise ConfigurationError(f"flow {name[:40]!r}: a name has 1 to {MOST_NAME} characters, and no colon")
        if not 1 <= version <= 32767 or concurrency < 1:
            raise ConfigurationError(f"flow {name!r}: version is 1 to 32767, concurrency at least 1")
        if (name, version) in self._definitions:
            raise ConfigurationError(
                f"flow {name!r}: there are two of version {version}", hint="give the newer one a higher version"
            )

        def register(function: F) -> F:
            if not takes(function):
                raise ConfigurationError(f"flow {name!r}: its function takes no run", hint="async def flow(run: Flow, input) -> …")
            definition = Definition(name, version, function, actor or f"system:flow/{name}"[:100], deadline, concurrency)
            self._definitions[name, version] = definition
            setattr(function, MARK, definition)
            return function

        return register

    def find(self, flow: str | Callable[..., Any], version: int | None = None) -> Definition:
        """A flow by its name or function, in a version or in the newest. Raises ConfigurationError."""
        found = [one for one in self._definitions.values() if flow in (one.name, one.function) and version in (None, one.version)]
        if not found:
            known = ", ".join(sorted({one.name for one in self})) or "none"
            name = flow if isinstance(flow, str) else getattr(flow, "__name__", repr(flow))
            raise ConfigurationError(
                f"flow {name!r}{f' version {version}' if version else ''}: there is none", hint=f"known are: {known}"
            )
        return max(found, key=lambda one: one.version)

    def get(self, name: str, version: int) -> Definition | None:
        """A flow in a version, if it is here."""
        return self._definitions.get((name, version))

    def __iter__(self) -> Iterator[Definition]:
        return iter(self._definitions.values())

    def __len__(self) -> int:
        return len(self._definitions)


def definition_of(function: Callable[..., Any]) -> Definition:
    """The flow that a function is. Raises InvalidInput for one that is none."""
    found = getattr(function, MARK, None)
    if not isinstance(found, Definition):
        raise InvalidInput(
            f"{getattr(function, '__name__', function)!r}: is no flow", hint="decorate it: @flows.flow('name')", field="flow"
        )
    return found
