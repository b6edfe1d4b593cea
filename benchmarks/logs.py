"""``python -m benchmarks.logs``: lines a second of one process, what a call costs its caller, and how long an event loop waits meanwhile."""

import asyncio
import logging
import statistics
import tempfile
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

import orjson

from benchmarks.big import say
from persistence.logs import AgentLog, LogConfig, LogSink

LINES = 300_000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = lines(Path(folder) / "a", LINES)
        say(f"lines written, from the first call to the last byte: {whole:,.0f}/s")
        say(f"Python's RotatingFileHandler with the same fields as JSON: {library(Path(folder) / 'b', LINES // 3):,.0f}/s")
        taken, delays = asyncio.run(latencies(Path(folder) / "c"))
        taken.sort()
        delays.sort()
        say(f"a call: p50 {statistics.median(taken) * 1e6:.1f} µs, p99 {taken[len(taken) * 99 // 100] * 1e6:.1f} µs")
        say(
            f"an event loop's wait, at 20,000 lines/s: p50 {statistics.median(delays) * 1e3:.2f} ms, p99 {delays[len(delays) * 99 // 100] * 1e3:.2f} ms"
        )


def lines(folder: Path, count: int) -> float:
    sink = LogSink(LogConfig(queue=1_000_000), folder / "kai.log.jsonl")
    told = AgentLog("kAI.dev.assistant", sink=sink)
    begun = time.perf_counter()
    for number in range(count):
        told.info("plan_generated", "Plan created for task: draft UI skeleton", attributes={"number": number})
    assert sink.flush(120)
    rate = count / (time.perf_counter() - begun)
    sink.close()
    assert sum(1 for path in folder.glob("*.jsonl") for _ in path.open("rb")) == count
    return rate


def library(folder: Path, count: int) -> float:
    folder.mkdir()
    logger = logging.Logger("peer")
    logger.addHandler(RotatingFileHandler(folder / "peer.log", maxBytes=100 * 1024 * 1024, backupCount=5))
    begun = time.perf_counter()
    for number in range(count):
        logger.info(
            orjson.dumps(
                {
                    "timestamp": time.time(),
                    "agent": "a",
                    "event": "plan_generated",
                    "summary": "Plan created for task: draft UI skeleton",
                    "number": number,
                }
            ).decode()
        )
    return count / (time.perf_counter() - begun)


async def latencies(folder: Path) -> tuple[list[float], list[float]]:
    sink = LogSink(LogConfig(), folder / "kai.log.jsonl")
    told = AgentLog("kAI.dev.assistant", sink=sink)
    taken: list[float] = []
    delays: list[float] = []
    for _ in range(500):
        for number in range(200):
            begun = time.perf_counter()
            told.info("plan_generated", "Plan created for task: draft UI skeleton", attributes={"number": number})
            taken.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        await asyncio.sleep(0.01)
        delays.append(time.perf_counter() - begun - 0.01)
    sink.close()
    return taken, delays


if __name__ == "__main__":
    main()
