"""An application's worker whose handler says that it has begun, and never ends."""

import asyncio
import sys

from persistence.outbox import Delivery, Worker

worker = Worker(name="doomed", lease=3600, listen=False, grace=0.1)


@worker.handler("TEST", timeout=3600)
async def hang(delivery: Delivery) -> None:
    sys.stdout.write(f"begun {delivery.attempt}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()
