"""An application's worker whose handlers do what handlers should not: each effect says in its spec what is to be done with its process."""

import asyncio
import os
import signal
import sys
import time

from persistence.outbox import Backoff, Delivery, Worker

worker = Worker(name=os.environ.get("TEST_WORKER_NAME"), lease=2.0, poll_interval=0.1, grace=1.0)
_leaked: list[bytearray] = []


@worker.handler("TEST", backoff=Backoff(base=0.01, cap=0.05), max_attempts=100, timeout=60)
async def do_as_told(delivery: Delivery) -> object:
    what = delivery.payload.get("do")
    if delivery.attempt == 1:
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "exit":
            os._exit(3)
        elif what == "hang":
            time.sleep(3600)
        elif what == "stall":
            await asyncio.sleep(3600)
        elif what == "leak":
            _leaked.append(bytearray(os.urandom(1024)) * 100_000)
        elif what == "system_exit":
            sys.exit(4)
        elif what == "interrupt":
            raise KeyboardInterrupt
        elif what == "cancel":
            raise asyncio.CancelledError
        elif what == "generator_exit":
            raise GeneratorExit
        elif what == "recurse":
            return _recurse(1)
    if what == "no_json":
        return {"at": object(), "set": {1, 2}, "nan": float("nan")}
    return {"pid": os.getpid()}


def _recurse(depth: int) -> int:
    return _recurse(depth + 1) + 1
