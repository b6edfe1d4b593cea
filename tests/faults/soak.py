"""``make soak``: half an hour of work under random faults, with the end check of the short tests. ``ARGS='--minutes 5 --seed 7'`` for another.

Two worker processes deliver webhooks to a receiver that misbehaves, some of them in the order of keys, while workers are killed and frozen,
connections cut, and the server killed and started again. In the second half a transaction is left open to the end, and the server is left
alive: then deliveries must go on at 0.7 times the rate they have without it.
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psutil
import psycopg

from persistence import Plane
from persistence.outbox import Delivery, Worker
from tests.faults.fire import WORKER, Receiver, all_settled, check_the_end, hurry, request_webhooks, worker_environment
from tests.faults.test_under_fire import Ground, ground

MOST_PENDING = 3000
DRAINED = 20_000
KEYS = [f"key-{number}" for number in range(20)]


def say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


class Soak:
    def __init__(self, here: Ground, receiver: Receiver, chance: random.Random) -> None:
        self.here = here
        self.receiver = receiver
        self.chance = chance
        self.keys: list[str] = []
        self.faults: Counter[str] = Counter()
        self.going = True
        self.may_crash = True

    async def produce(self) -> None:
        async with Plane(dsn=self.here.dsn, retry_for=120) as plane:
            while self.going:
                ordering_key = self.chance.choice(KEYS) if self.chance.random() < 0.3 else None
                count = self.chance.choice((1, 5, 50))
                self.keys += await request_webhooks(
                    plane, self.here.tenant.tenant_id, self.receiver.url, count, ordering_key=ordering_key
                )
                await asyncio.sleep(self.chance.uniform(0, 0.1))
                while self.going and len(self.keys) - len(self.receiver.bodies) > MOST_PENDING:
                    await asyncio.sleep(0.2)

    def _hurry(self) -> None:
        """Half an hour is short: what waits for its next attempt need not wait for minutes."""
        with contextlib.suppress(psycopg.Error), self.here.admin() as admin:
            hurry(admin)

    async def make_trouble(self, supervisor: int) -> None:
        while self.going:
            await asyncio.sleep(self.chance.uniform(0.2, 3))
            self._hurry()
            fault = self.chance.choices(("kill", "freeze", "cut", "receiver", "crash"), (8, 2, 4, 4, 1 if self.may_crash else 0))[0]
            self.faults[fault] += 1
            victims = psutil.Process(supervisor).children()
            if fault in ("kill", "freeze") and victims:
                victim = self.chance.choice(victims)
                with contextlib.suppress(psutil.NoSuchProcess):
                    if fault == "kill":
                        victim.kill()
                    else:
                        victim.suspend()
                        await asyncio.sleep(self.chance.uniform(1, 8))
                        victim.resume()
            elif fault == "cut":
                with contextlib.suppress(psycopg.Error), self.here.admin() as admin:
                    admin.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'persistence_service' AND random() < 0.5"
                    )
            elif fault == "receiver":
                self.receiver.trouble = self.chance.choice((0.0, 0.05, 0.3, 0.9))
            elif fault == "crash":
                await asyncio.to_thread(self.here.crash)


@contextlib.contextmanager
def supervised(dsn: str) -> Iterator[int]:
    supervisor = subprocess.Popen([*WORKER, "--processes", "2"], env=worker_environment(dsn), start_new_session=True)
    try:
        yield supervisor.pid
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(120)


@contextlib.contextmanager
def left_open(dsn: str) -> Iterator[None]:
    """A transaction that has written, and reads what it saw when it began."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        connection.commit()
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT pg_current_xact_id(), count(*) FROM persistence.tenants")
        yield


async def drain_rate(here: Ground, tenant_id: UUID) -> float:
    """Entries a second of one worker whose handler does nothing."""
    worker = Worker(name="soak", listen=False)

    @worker.handler("NOTHING")
    async def do_nothing(_: Delivery) -> None:
        return None

    async with Plane(dsn=here.dsn, pool_min=4) as plane:
        for batch in range(DRAINED // 1000):
            async with plane.transaction(tenant_id, actor="agent:soak") as tx:
                run = tx.runs.start(run_type="soak")
                tx.effects.request_many(run, "NOTHING", {f"{time.monotonic_ns()}-{batch}-{n}": {} for n in range(1000)})
        begun = time.monotonic()
        assert await worker.drain(plane) == DRAINED
        return DRAINED / (time.monotonic() - begun)


async def soak(minutes: float, seed: int) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        async with Receiver(seed).serving() as receiver, ground(Path(folder) / "plane") as here:
            work = Soak(here, receiver, chance)
            with supervised(here.dsn) as supervisor:
                tasks = [asyncio.create_task(work.produce()), asyncio.create_task(work.make_trouble(supervisor))]
                await _watch(work, tasks, minutes / 2)
                work.may_crash = False
                with left_open(here.embedded.admin_dsn):
                    say("a transaction is left open, to the end")
                    await _watch(work, tasks, minutes / 2)
                    work.going, receiver.trouble = False, 0
                    await asyncio.gather(*tasks)
                    with here.admin() as admin:
                        await all_settled(admin, seconds=600)
                    ended_open = await drain_rate(here, here.tenant.tenant_id)
                    with here.admin() as admin:
                        dead = admin.execute(
                            "SELECT n_dead_tup, pg_size_pretty(pg_total_relation_size(relid)) FROM pg_stat_user_tables WHERE relname = 'outbox_queue'"
                        ).fetchone()
                with here.admin() as admin:
                    admin.execute("VACUUM persistence.outbox_queue, persistence.outbox_events, persistence.effects")
                ended_closed = await drain_rate(here, here.tenant.tenant_id)
            with here.admin() as admin:
                nothing = [
                    key for (key,) in admin.execute("SELECT idempotency_key FROM persistence.effects WHERE effect_type = 'NOTHING'")
                ]
                receiver.accepted += nothing
                receiver.bodies.update({key: {""} for key in nothing})
                await check_the_end(admin, here.audit_dsn, here.dsn, [*work.keys, *nothing], receiver)
            ratio = ended_open / ended_closed
            say(
                f"{len(work.keys):,} webhooks, {len(receiver.accepted) - len(nothing):,} deliveries; faults {dict(work.faults)}; answers {dict(receiver.modes)}"
            )
            say(
                f"drain with the transaction open {ended_open:,.0f}/s, closed {ended_closed:,.0f}/s: {ratio:.2f}; dead rows and size of the queue: {dead}"
            )
            if ratio < 0.7:
                raise SystemExit("deliveries became too slow while the transaction was open")
            say("nothing was lost, nothing settled twice, the gates are green, the replay shows no difference")


async def _watch(work: Soak, tasks: list["asyncio.Task[None]"], minutes: float) -> None:
    """Lets it work, and says each minute how far it is. An error in a task ends the soak."""
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end:
        done, _ = await asyncio.wait(
            tasks, timeout=min(60.0, max(0.1, end - time.monotonic())), return_when=asyncio.FIRST_EXCEPTION
        )
        for task in done:
            task.result()
        say(f"{len(work.keys):,} requested, {len(work.receiver.bodies):,} delivered, faults {sum(work.faults.values())}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)))
    options = parser.parse_args()
    say(f"seed {options.seed}")
    asyncio.run(soak(options.minutes, options.seed))


if __name__ == "__main__":
    main()
