"""A small service: relays webhooks that were received to a URL of one's own, with everything on the record.

Receive the deliveries, relay them, and let a worker send them out::

    persistence import path/to/webhooks --tenant demo
    python examples/webhook_relay.py demo https://example.org/hook
    persistence worker

Each signal of the channel ``github`` becomes a run with one step and one HTTP_POST effect. Running it again relays only what is new; what came
by other channels, and what belongs to other tenants, is left alone.
"""

import asyncio
import sys
from uuid import UUID

from persistence import Plane
from persistence.models import Signal

ACTOR = "agent:webhook-relay"
CHANNEL = "github"


async def relay(plane: Plane, tenant_id: UUID, url: str, *, page: int = 100) -> int:
    """Relays what came by the channel and has not been dealt with. Returns how many."""
    relayed = 0
    while True:
        async with plane.transaction(tenant_id, actor=ACTOR, source="webhook-relay") as tx:
            waiting = await tx.signals.list(status="RECEIVED", source_channel=CHANNEL, limit=page)
            for signal in waiting.items:
                run = tx.runs.start(signal, run_type="webhook-relay")
                step = tx.steps.start(run, step_type="forward", input={"to": url})
                spec = {"url": url, "json": signal.payload, "headers": {"x-github-event": event_name(signal)}}
                tx.effects.request(step, "HTTP_POST", spec=spec, idempotency_key=f"relay/{signal.id}")
                step = tx.steps.complete(step)
                run = tx.runs.complete(run, because=step)
                tx.signals.process(signal, because=run)
        relayed += len(waiting.items)
        if len(waiting.items) < page:
            return relayed


def event_name(signal: Signal) -> str:
    """``push`` for ``github.push``, ``issues`` for ``github.issues.opened``."""
    return signal.signal_type.split(".")[1] if signal.source_channel == "github" else signal.signal_type


async def main(tenant_name: str, url: str) -> None:
    async with Plane() as plane:
        [tenant] = [tenant for tenant in await plane.tenants.list() if tenant.name == tenant_name] or [None]
        if tenant is None:
            raise SystemExit(f"there is no tenant {tenant_name}; persistence tenant list shows them")
        print(f"{tenant.name}: {await relay(plane, tenant.tenant_id, url)} relayed")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
