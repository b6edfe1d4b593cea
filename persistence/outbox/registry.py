"""Which handler delivers which type of effect, and how."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from prometheus_client import Histogram

from persistence.errors import ConfigurationError
from persistence.outbox.backoff import Backoff
from persistence.outbox.breaker import Breaker
from persistence.outbox.delivery import Delivery
from persistence.outbox.threads import ThreadRunner, is_plain
from persistence.telemetry import HANDLER_SECONDS, WAIT_SECONDS

HandlerFunction = Callable[[Delivery], Awaitable[Any]] | Callable[[Delivery], Any]
"""Delivers one effect. What it returns (JSON) is recorded as the result; what it raises counts as a failed attempt. A plain function runs in a
thread (see ThreadRunner).
"""

BatchFunction = (
    Callable[[Sequence[Delivery]], Awaitable[Sequence[Any] | None]] | Callable[[Sequence[Delivery]], Sequence[Any] | None]
)
"""Delivers several effects of one type, also of several tenants. It returns what came of each, in their order: its result (JSON), or the exception
that is its failure; None: all went well, and there is nothing to say. What it raises is the failure of each (PermanentFailure: of this attempt).
"""


@dataclass(frozen=True)
class Handler:
    """A handler with its settings.

    function: async, or plain: then each attempt has a thread.
    timeout: seconds an attempt may take, a plain one's wait for a thread included. A thread cannot be stopped: what it does later is not recorded.
        With an ordering key it keeps its turn until it ends, however long that takes, and what comes of it then is what is recorded.
    concurrency: attempts at the same time in one process (for limits across processes see ``persistence limits``).
    max_attempts: then it is a dead letter. breaker: when a destination is left in peace; None: never.
    blocks_key: whether a dead letter lets nothing of its ordering key past until somebody requeues or discards it.
    batch: the function is given a list of so many at most; None: one delivery. within: seconds to wait for a batch to be full.
    """

    effect_type: str
    function: HandlerFunction | BatchFunction
    timeout: float = 30.0
    concurrency: int = 20
    max_attempts: int = 10
    backoff: Backoff = field(default_factory=Backoff)
    breaker: Breaker | None = field(default_factory=Breaker)
    blocks_key: bool = True
    batch: int | None = None
    within: float = 0.0

    @cached_property
    def run(self) -> Callable[[Any], Awaitable[Any]]:
        """Makes one attempt at a delivery, or at several."""
        function: Callable[[Any], Any] = self.function
        return ThreadRunner(function, self.concurrency, f"persistence-{self.effect_type}") if is_plain(function) else function

    def allows(self, deliveries: Iterable[Delivery]) -> float | None:
        """Seconds that this attempt may take; None: until it ends, for nothing else of its ordering key may be done before."""
        is_endless = isinstance(self.run, ThreadRunner) and any(delivery.ordering_key is not None for delivery in deliveries)
        return None if is_endless else self.timeout

    def goes_alone(self, delivery: Delivery) -> bool:
        """Whether this is the last attempt of what may have killed its worker before: nothing else is to die with it, and be taken for dead, too."""
        return delivery.was_lost and delivery.attempt == self.max_attempts

    @cached_property
    def took(self) -> Histogram:
        """Where the time that attempts take is counted."""
        return HANDLER_SECONDS.labels(self.effect_type)

    @cached_property
    def waited(self) -> Histogram:
        """Where the time that entries wait for their first attempt is counted."""
        return WAIT_SECONDS.labels(self.effect_type)

    def __post_init__(self) -> None:
        for name, minimum in (("timeout", 0.001), ("concurrency", 1), ("max_attempts", 1), ("batch", 1), ("within", 0)):
            value = getattr(self, name)
            if name == "batch" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= minimum:
                raise ConfigurationError(
                    f"handler {self.effect_type}: {name} is {value!r}", hint=f"give a number, at least {minimum}"
                )
        if self.within and self.batch is None:
            raise ConfigurationError(
                f"handler {self.effect_type}: within is of a batch", hint="say batch=…: how many it is given at most"
            )
        if not isinstance(self.backoff, Backoff):
            raise ConfigurationError(
                f"handler {self.effect_type}: backoff is {self.backoff!r}", hint="give a Backoff(base=…, cap=…)"
            )
        if self.breaker is not None and not isinstance(self.breaker, Breaker):
            raise ConfigurationError(
                f"handler {self.effect_type}: breaker is {self.breaker!r}", hint="give a Breaker(failures=…, rest=…), or None"
            )


class Registry(Mapping[str, Handler]):
    """Handlers by effect type; one each."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def add(self, handler: Handler) -> None:
        if handler.effect_type in self._handlers:
            raise ConfigurationError(f"effect type {handler.effect_type} has a handler already")
        self._handlers[handler.effect_type] = handler

    def __getitem__(self, effect_type: str) -> Handler:
        return self._handlers[effect_type]

    def __iter__(self) -> Any:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)
