"""``python -m benchmarks.vault``: what opening the vault, sealing, opening and a recorded reading cost."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.big import say
from benchmarks.server import BenchServer
from benchmarks.systems import plane as system
from persistence import Plane
from persistence.vault import Opener, Vault
from persistence.vault.aead import seal, unseal

ROUNDS = 5
READINGS = 300


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, BenchServer.started(Path(folder) / "server") as server:
        vault = Vault(Path(folder) / "vault")
        vault.create([passphrase()])

        def unlock() -> None:
            vault.lock()
            vault.unlock(passphrase())

        say(f"unlock, 600,000 iterations: {median(unlock, 1) * 1000:.0f} ms")
        key, value = bytes(32), b"sk_live_" + b"x" * 32
        sealed = seal(key, value, b"place")
        say(f"seal 40 bytes: {median(lambda: seal(key, value, b'place'), 2000) * 1e6:.1f} µs")
        say(f"open 40 bytes: {median(lambda: unseal(key, sealed, b'place'), 2000) * 1e6:.1f} µs")
        say(
            f"open a data key and a secret, vault open: {median(lambda: vault.use(lambda keys: unseal(key, sealed, b'place')), 2000) * 1e6:.1f} µs"
        )
        dsn = server.fresh("vault")
        system.prepare(dsn)
        asyncio.run(readings(dsn, Path(folder)))


async def readings(dsn: str, folder: Path) -> None:
    async with Plane(dsn=dsn, data_dir=folder / "data") as opened:
        tenant = await opened.tenants.ensure("bench", actor="system:bench")
        opened.vault.vault.create([Opener("environment", bytearray(32))])
        await opened.vault.changed("created")
        await opened.secrets.set(tenant.tenant_id, "stripe", "sk_live_4711", actor="system:bench")
        for callers in (1, 8):
            taken: list[float] = []

            async def read(taken: list[float] = taken, callers: int = callers) -> None:
                for _ in range(READINGS // callers):
                    begun = time.perf_counter()
                    with await opened.secrets.read(tenant.tenant_id, "stripe", purpose="bench", actor="agent:bench"):
                        taken.append(time.perf_counter() - begun)

            begun = time.perf_counter()
            await asyncio.gather(*(read() for _ in range(callers)))
            rate = len(taken) / (time.perf_counter() - begun)
            say(f"recorded readings, {callers} callers: {rate:.0f}/s, p50 {statistics.median(taken) * 1000:.1f} ms")


def passphrase() -> Opener:
    return Opener("passphrase", bytearray(b"correct horse battery staple"))


def median(work: Callable[[], object], times: int) -> float:
    """Seconds of one call."""
    taken = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(times):
            work()
        taken.append((time.perf_counter() - begun) / times)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
