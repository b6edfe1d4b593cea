"""Making one attempt: running the handler, and putting what came of it into words."""

import asyncio
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from inspect import isasyncgen, isawaitable, iscoroutine, isgenerator
from typing import Any, Literal

import structlog

from persistence.encoding import check, encode
from persistence.errors import InvalidInput, PersistenceError, UnlockRefused, VaultLocked
from persistence.logs.redaction import SHARED, without
from persistence.outbox.delivery import Delivery, PermanentFailure, RetryLater, Snooze
from persistence.outbox.queue import Settlement
from persistence.outbox.registry import Handler
from persistence.telemetry import delivering

_MAX_TEXT = 4000
_MAX_DETAILS = 65_536
_LONGEST_DELAY = 30 * 86_400.0
_VAULT_PAUSE = 10.0
_SHORTEST_SNOOZE = 1.0
_SAY_AGAIN = 60.0
_NOT_TAKEN = "the database did not take it as it was"
_log = structlog.get_logger(__name__)
_said_closed = -_SAY_AGAIN

_UNPRINTABLE = {0: "\\0"}


@dataclass(frozen=True, slots=True)
class Snoozed:
    """What came of an attempt whose receiver takes nothing now. after: seconds."""

    delivery: Delivery
    after: float


async def attempt(handler: Handler, deliveries: Sequence[Delivery], max_bytes: int) -> list[Settlement | Snoozed]:
    """Runs the handler once and says what came of it: of one delivery, or of each of a batch. Raises nothing but the cancellation of this very task.

    max_bytes: of a result that is kept as it is.
    """
    if deliveries[0].attempt > handler.max_attempts:  # it goes alone
        # The attempts before were made by workers that died of them, or nobody lived to say.
        words = f"{handler.max_attempts} attempts were made, and the last was not reported back"
        detail = encode({"type": "AttemptsUsedUp", "message": words})
        return [Settlement(deliveries[0], _death(handler, deliveries[0]), detail, answered=None)]
    for delivery in deliveries:
        if delivery.attempt == 1:
            handler.waited.observe(max(0.0, time.time() - delivery.requested_at.timestamp()))
    begun = time.perf_counter()
    try:
        with delivering(handler.effect_type, deliveries):
            async with asyncio.timeout(handler.allows(deliveries)):
                given = list(deliveries) if handler.batch else deliveries[0]  # of its own: it may do with the list what it likes
                results = _results(await handler.run(given), deliveries, handler)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        results = [error] * len(deliveries)
    except BaseException as error:
        results = [_of_all(error) if len(deliveries) > 1 else error] * len(deliveries)
    finally:
        handler.took.observe(time.perf_counter() - begun)
    secrets = [value for delivery in deliveries for value in delivery.given]
    return [_outcome(handler, delivery, result, secrets, max_bytes) for delivery, result in zip(deliveries, results, strict=True)]


def _results(said: Any, deliveries: Sequence[Delivery], handler: Handler) -> list[Any]:
    """What a handler said of each. Raises TypeError for what it should have awaited, or is not of each."""
    if handler.batch is None:
        return [_happened(said)]
    if isinstance(unawaited := _happened(said), TypeError):
        raise unawaited
    if said is None:
        return [None] * len(deliveries)
    if not isinstance(said, list | tuple) or len(said) != len(deliveries):
        found = f"{len(said)} results" if isinstance(said, list | tuple) else type(said).__name__
        raise TypeError(
            f"the handler was given {len(deliveries)} deliveries and returned {found}: a list with what came of each, or None"
        )
    return [_happened(item) for item in said]


def _happened(said: Any) -> Any:
    """The same, or a TypeError for what only would have to happen yet."""
    if isawaitable(said) or isgenerator(said) or isasyncgen(said):
        if iscoroutine(said):
            said.close()
        return TypeError("the handler returned what it should have awaited: nothing has happened yet (say await, or return await)")
    if isinstance(said, type) and issubclass(said, BaseException):
        return TypeError(f"the handler returned {said.__name__}, not one of its kind: {said.__name__}('why')")
    return said


def _of_all(error: BaseException) -> BaseException:
    """What is raised is said of a whole batch; that each of it can never succeed is not."""
    if not isinstance(error, PermanentFailure):
        return error
    return RetryLater(
        f"{error} (raised for a whole batch: return it in the place of the delivery that it is about)", details=error.details
    )


def _outcome(handler: Handler, delivery: Delivery, said: Any, secrets: Sequence[str], max_bytes: int) -> Settlement | Snoozed:
    if isinstance(said, Snooze):
        return Snoozed(delivery, max(_bounded(said.after), _SHORTEST_SNOOZE))
    if isinstance(said, VaultLocked | UnlockRefused):  # it is no failure of the effect's, and somebody has to open it
        _say_closed(said)
        return Snoozed(delivery, _VAULT_PAUSE)
    if isinstance(said, BaseException):
        return _failed(handler, delivery, said, secrets)
    try:
        return Settlement(delivery, "EXECUTED", _result(said, secrets, max_bytes))
    except Exception as error:  # what it returned cannot even be looked at
        return _failed(handler, delivery, error, secrets)


def _say_closed(error: PersistenceError) -> None:
    global _said_closed  # noqa: PLW0603  # once a minute and process is enough
    now = time.monotonic()
    if now - _said_closed > _SAY_AGAIN:
        _said_closed = now
        _log.warning("vault_is_closed", error=error.message, what="effects that need a secret wait until it is open")


def interrupted(delivery: Delivery) -> Settlement:
    """What is said of an attempt that was cut short because the worker had to stop: it counts, and is due again at once."""
    return Settlement(
        delivery,
        "FAILED",
        encode({"type": "WorkerStopped", "message": "the worker had to stop before the handler was done"}),
        answered=None,
    )


def is_shortened(settlement: Settlement) -> bool:
    """Whether this is what ``shortened`` made."""
    return _NOT_TAKEN in settlement.detail


def shortened(settlement: Settlement) -> Settlement:
    """The same with the beginning of its detail alone: for what the database does not take."""
    detail = {"unstorable": _text(settlement.detail), "reason": _NOT_TAKEN}
    return replace(settlement, detail=encode(detail if settlement.outcome == "EXECUTED" else {"type": "NotStorable", **detail}))


def _result(result: Any, secrets: Sequence[str], max_bytes: int) -> str:
    """The result as JSON. The effect has happened, so a result that cannot be kept is no reason to repeat it."""
    if result is None:
        return "null"
    try:
        check(result, "result")
        text = encode(without(secrets, result))
        if len(text) > max_bytes:
            raise InvalidInput(f"result: {len(text)} bytes exceed the limit of {max_bytes}")
        return text
    except InvalidInput as error:
        _log.warning("result_not_kept", error=str(error))
        return encode(without(secrets, {"unstorable": _text(_described(repr, result)), "reason": _text(str(error))}))


def _failed(handler: Handler, delivery: Delivery, error: BaseException, secrets: Sequence[str]) -> Settlement:
    timed_out = isinstance(error, TimeoutError) and not _described(str, error)
    details: dict[str, Any] = {
        "type": type(error).__name__,
        "message": f"no answer within {handler.timeout:g} seconds" if timed_out else _text(_described(str, error)),
        "attempt": delivery.attempt,
    }
    if isinstance(error, PermanentFailure | RetryLater):
        details = _storable(error.details) | details
    else:
        details["traceback"] = _text(_described(_trace, error))
    details = without(secrets, details)
    answered = isinstance(error, PermanentFailure)
    if answered or delivery.attempt >= handler.max_attempts:
        return Settlement(delivery, _death(handler, delivery), encode(details), answered=answered)
    delay = handler.backoff.delay(delivery.attempt)
    if isinstance(error, RetryLater) and error.after is not None:
        delay = error.after
    return Settlement(delivery, "FAILED", encode(details), _bounded(delay), answered=False)


def _bounded(delay: float) -> float:
    return min(max(delay, 0.0), _LONGEST_DELAY) if delay == delay else 0.0  # noqa: PLR0124 (NaN is not itself)


def _death(handler: Handler, delivery: Delivery) -> Literal["DEAD", "BLOCKED"]:
    return "BLOCKED" if handler.blocks_key and delivery.ordering_key is not None else "DEAD"


def _storable(details: dict[str, Any]) -> dict[str, Any]:
    try:
        check(details, "details")
        if len(encode(details)) <= _MAX_DETAILS:
            return details
    except InvalidInput:
        pass
    return {"details": _text(_described(repr, details))}


def _text(text: str) -> str:
    """As much of a text as is kept, without what looks like a secret or is one: what is in the log is there for ever."""
    return SHARED.text_cleaned(text)[:_MAX_TEXT].translate(_UNPRINTABLE).encode("utf-8", "backslashreplace").decode()


def _described(describe: Callable[[Any], str], value: Any) -> str:
    """What a value says of itself. It is the handler's, and may fail at that too."""
    try:
        return describe(value)
    except Exception as error:
        return f"({type(value).__name__}, which raises {type(error).__name__} when asked)"


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error, limit=-5))
