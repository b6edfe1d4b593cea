"""Making one attempt: running the handler, and putting what came of it into words."""

import asyncio
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from inspect import isawaitable, iscoroutine
from typing import Any, Literal

import structlog

from persistence.encoding import check, encode
from persistence.errors import InvalidInput
from persistence.outbox.delivery import Delivery, PermanentFailure, RetryLater
from persistence.outbox.queue import Settlement
from persistence.outbox.registry import Handler
from persistence.telemetry import delivering

_MAX_TEXT = 4000
_MAX_DETAILS = 65_536
_LONGEST_DELAY = 30 * 86_400.0
_log = structlog.get_logger(__name__)

_UNPRINTABLE = {0: "\\0"}


async def attempt(handler: Handler, delivery: Delivery, max_bytes: int) -> Settlement:
    """Runs the handler once and says what came of it. Raises nothing but the cancellation of this very task.

    max_bytes: of a result that is kept as it is.
    """
    if delivery.attempt > handler.max_attempts:
        # The attempts before were made by workers that died of them, or nobody lived to say.
        return Settlement(
            delivery,
            _death(handler, delivery),
            encode(
                {
                    "type": "AttemptsUsedUp",
                    "message": f"{handler.max_attempts} attempts were made, and the last was not reported back",
                }
            ),
            answered=None,
        )
    if delivery.attempt == 1:
        handler.waited.observe(max(0.0, time.time() - delivery.requested_at.timestamp()))
    begun = time.perf_counter()
    try:
        with delivering(delivery.effect_type, delivery.effect_id, delivery.tenant_id, delivery.attempt, delivery.traceparent):
            async with asyncio.timeout(handler.allows(delivery)):
                result = _result(await handler.run(delivery), max_bytes)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return _failed(handler, delivery, error)
    except BaseException as error:
        return _failed(handler, delivery, error)
    finally:
        handler.took.observe(time.perf_counter() - begun)
    return Settlement(delivery, "EXECUTED", result)


def interrupted(delivery: Delivery) -> Settlement:
    """What is said of an attempt that was cut short because the worker had to stop: it counts, and is due again at once."""
    return Settlement(
        delivery,
        "FAILED",
        encode({"type": "WorkerStopped", "message": "the worker had to stop before the handler was done"}),
        answered=None,
    )


def shortened(settlement: Settlement) -> Settlement:
    """The same with the beginning of its detail alone: for what the database does not take."""
    detail = {"unstorable": _text(settlement.detail), "reason": "the database did not take it as it was"}
    return replace(settlement, detail=encode(detail if settlement.outcome == "EXECUTED" else {"type": "NotStorable", **detail}))


def _result(result: Any, max_bytes: int) -> str:
    """The result as JSON. The effect has happened, so a result that cannot be kept is no reason to repeat it; one that was not awaited has not.

    Raises TypeError for the latter.
    """
    if result is None:
        return "null"
    if isawaitable(result):
        if iscoroutine(result):
            result.close()
        raise TypeError("the handler returned what it should have awaited: nothing has happened yet (say await, or return await)")
    try:
        check(result, "result")
        text = encode(result)
        if len(text) > max_bytes:
            raise InvalidInput(f"result: {len(text)} bytes exceed the limit of {max_bytes}")
        return text
    except InvalidInput as error:
        _log.warning("result_not_kept", error=str(error))
        return encode({"unstorable": _text(_described(repr, result)), "reason": _text(str(error))})


def _failed(handler: Handler, delivery: Delivery, error: BaseException) -> Settlement:
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
    answered = isinstance(error, PermanentFailure)
    if answered or delivery.attempt >= handler.max_attempts:
        return Settlement(delivery, _death(handler, delivery), encode(details), answered=answered)
    delay = handler.backoff.delay(delivery.attempt)
    if isinstance(error, RetryLater) and error.after is not None:
        delay = error.after
    delay = min(max(delay, 0.0), _LONGEST_DELAY) if delay == delay else 0.0  # noqa: PLR0124 (NaN is not itself)
    return Settlement(delivery, "FAILED", encode(details), delay, answered=False)


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
    return text[:_MAX_TEXT].translate(_UNPRINTABLE).encode("utf-8", "backslashreplace").decode()


def _described(describe: Callable[[Any], str], value: Any) -> str:
    """What a value says of itself. It is the handler's, and may fail at that too."""
    try:
        return describe(value)
    except Exception as error:
        return f"({type(value).__name__}, which raises {type(error).__name__} when asked)"


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error, limit=-5))
