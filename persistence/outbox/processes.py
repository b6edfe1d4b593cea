"""Several worker processes under one: started, watched, replaced when they die, hang or grow, and stopped together.

A process beats its heart once a second, from the loop that its handlers run on, into a pipe. One that is silent for too long is hung: a
handler blocks its loop, so it cannot keep its leases either. It is killed and replaced; its entries go to others when their leases run out.
A process whose pipe is broken has lost its supervisor, and stops.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil
import structlog

_log = structlog.get_logger(__name__)

HEARTBEAT_FD = "PERSISTENCE_HEARTBEAT_FD"
NUMBER = "PERSISTENCE_PROCESS_NUMBER"
_BEAT_SECONDS = 1.0
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 10.0
_LONG_ENOUGH = 5.0
_MEBIBYTE = 1024 * 1024


@dataclass
class Supervisor:
    """Runs ``count`` processes of ``command`` until it is told to stop.

    silence: seconds without a heartbeat after which a process is killed. grace: seconds they get to stop by themselves.
    """

    command: Sequence[str]
    count: int
    silence: float = 120.0
    grace: float = 45.0
    environment: dict[str, str] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        await asyncio.gather(*(self._keep_one(number, stop) for number in range(1, self.count + 1)))

    async def _keep_one(self, number: int, stop: asyncio.Event) -> None:
        pause = _FIRST_PAUSE
        while not stop.is_set():
            begun = asyncio.get_running_loop().time()
            code = await self._run_once(number, stop)
            if stop.is_set():
                return
            lived = asyncio.get_running_loop().time() - begun
            pause = _FIRST_PAUSE if lived > _LONG_ENOUGH else min(pause * 2, _LONGEST_PAUSE)
            _log.warning("worker_process_ended", number=number, exit_status=code, restart_in=pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stop.wait()

    async def _run_once(self, number: int, stop: asyncio.Event) -> int:
        reader, writer = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                pass_fds=(writer,),
                env={**os.environ, **self.environment, HEARTBEAT_FD: str(writer), NUMBER: str(number)},
                start_new_session=True,  # a terminal's Ctrl-C reaches the supervisor alone
            )
        finally:
            os.close(writer)
        _log.info("worker_process_started", number=number, pid=process.pid)
        helpers = [asyncio.create_task(self._watch(number, process, reader)), asyncio.create_task(self._end(process, stop))]
        try:
            return await process.wait()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            if process.returncode is None:
                process.kill()

    async def _watch(self, number: int, process: asyncio.subprocess.Process, reader: int) -> None:
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reader, "rb", buffering=0)
        )
        try:
            while True:
                async with asyncio.timeout(self.silence):
                    if not await stream.read(64):
                        return
        except TimeoutError:
            _log.error("worker_process_hung", number=number, pid=process.pid, silent_for=self.silence)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        finally:
            transport.close()

    async def _end(self, process: asyncio.subprocess.Process, stop: asyncio.Event) -> None:
        await stop.wait()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(self.grace)
            process.kill()


async def beat(stop: asyncio.Event, max_memory: int | None = None) -> None:
    """The other end: beats until ``stop`` is set. Sets it when the supervisor is gone, or when the process has grown beyond ``max_memory``
    MiB: then it finishes what it holds, and a fresh one takes its place.
    """
    fd = os.environ.get(HEARTBEAT_FD)
    process = psutil.Process()
    while not stop.is_set():
        if fd is not None:
            try:
                os.write(int(fd), b".")
            except OSError:
                _log.warning("supervisor_gone")
                stop.set()
        if max_memory is not None and process.memory_info().rss > max_memory * _MEBIBYTE:
            _log.warning("worker_process_grown", mebibytes=process.memory_info().rss // _MEBIBYTE, limit=max_memory)
            stop.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BEAT_SECONDS):
                await stop.wait()


def process_number() -> int:
    """Which of a supervisor's processes this is, counted from 1; 1 without a supervisor."""
    return int(os.environ.get(NUMBER, "1"))


def this_command_without(options: Sequence[str]) -> list[str]:
    """How this process was called, less some options and their values: what its children are called with."""
    arguments = iter(sys.argv[1:])
    kept: list[str] = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name in options:
            if not value:
                next(arguments, None)
            continue
        kept.append(argument)
    return [sys.executable, "-m", "persistence.cli", *kept]
