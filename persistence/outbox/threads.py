"""Handlers that are plain functions: each attempt in a thread, so that it does not hold up the worker."""

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from typing import Any


class ThreadRunner:
    """Runs a plain function, at most so many times at once. A thread cannot be stopped: one that goes on after its timeout keeps its place until
    it ends, and what it does then is not recorded. Threads do not keep the process from ending.
    """

    def __init__(self, function: Callable[[Any], Any], places: int, name: str) -> None:
        self._function = function
        self._places = asyncio.Semaphore(places)
        self._name = name

    async def __call__(self, given: Any) -> Any:
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def work() -> None:
            result, error = None, None
            try:
                result = context.run(self._function, given)
            except BaseException as raised:
                error = raised
            try:
                loop.call_soon_threadsafe(end, result, error)
            except RuntimeError:
                return  # the worker is gone

        def end(result: Any, error: BaseException | None) -> None:
            self._places.release()
            if answer.done():
                return
            if error is None:
                answer.set_result(result)
            else:
                # A future takes no StopIteration, and the end of the process is not a handler's to say.
                answer.set_exception(
                    error if isinstance(error, Exception) and not isinstance(error, StopIteration) else RuntimeError(repr(error))
                )

        threading.Thread(target=work, name=self._name, daemon=True).start()
        return await answer


def is_plain(function: Callable[..., Any]) -> bool:
    """Whether calling it would do the work at once, instead of giving something to await."""
    call = getattr(function, "__call__", None)  # noqa: B004  an object may be called, and be async in that
    return not (
        inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(call) or _wraps_async(function)
    )


def _wraps_async(function: Any) -> bool:
    inner = getattr(function, "func", None)  # functools.partial
    return inner is not None and not is_plain(inner)
