"""The process that writes data files: what it is given is stored like everything else, its death loses nothing that was answered, and it survives nobody."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from persistence.errors import IdempotencyMismatch, PersistenceError, Unavailable
from persistence.ingest import Ingest
from tests.helpers import ACTOR

SCOPE = "web.form"
MANY = 40
LARGE = b'{"text":"' + b"x" * 400_000 + b'"}'


@pytest.fixture
def tenant_id() -> UUID:
    return uuid4()


@pytest.fixture
async def ingest(tmp_path: Path) -> AsyncIterator[Ingest]:
    async with Ingest(tmp_path / "ingest", writes_apart=True) as opened:
        yield opened


def writer_of(ingest: Ingest) -> int:
    process = ingest._writer._process
    assert process is not None
    return process.pid


async def another(ingest: Ingest) -> int:
    """The process that writes, once there is one again."""
    async with asyncio.timeout(60):
        while ingest._writer._process is None:
            await asyncio.sleep(0.01)
    return writer_of(ingest)


async def posted(ingest: Ingest, tenant_id: UUID, bodies: list[bytes], **more: str) -> list[object]:
    return await asyncio.gather(
        *(ingest.put(tenant_id, SCOPE, body, actor=ACTOR, **more) for body in bodies), return_exceptions=True
    )  # type: ignore[arg-type]


async def test_small_and_large_are_stored_by_whom_they_are_for(ingest: Ingest, tenant_id: UUID) -> None:
    async def streamed() -> AsyncIterator[bytes]:
        for begin in range(0, len(LARGE), 100_000):
            yield LARGE[begin : begin + 100_000]

    other = uuid4()
    large = [ingest.put(tenant_id, SCOPE, streamed(), actor=ACTOR) for _ in range(3)]
    small = [ingest.put(whose, SCOPE, b'{"n":%d}' % n, actor=ACTOR) for n in range(MANY) for whose in (tenant_id, other)]
    await asyncio.gather(*large, *small)
    found = await ingest.list(tenant_id, SCOPE, limit=200)
    assert sorted(entry.size_bytes > 300_000 for entry in found) == [False] * MANY + [True] * 3
    assert len(await ingest.list(other, SCOPE, limit=200)) == MANY
    data = [(await ingest.read(other, SCOPE, entry.collected_at)).data for entry in await ingest.list(other, SCOPE, limit=200)]
    assert sorted(one["n"] for one in data) == list(range(MANY))


async def test_what_is_refused_there_is_said_here(ingest: Ingest, tenant_id: UUID) -> None:
    answers = await posted(ingest, tenant_id, [b'{"n":%d}' % (n % 2) for n in range(MANY)], idempotency_key="one")
    refused = [answer for answer in answers if isinstance(answer, IdempotencyMismatch)]
    assert len(refused) == MANY // 2
    assert "came with other content" in str(refused[0])
    assert refused[0].hint == "use a new key for new content"
    assert len(await ingest.list(tenant_id, SCOPE)) == 1


async def test_one_that_is_killed_loses_nothing_that_was_answered(ingest: Ingest, tenant_id: UUID) -> None:
    stored: list[str] = []
    for attempt in range(3):
        await another(ingest)
        under_way = [asyncio.create_task(ingest.put(tenant_id, SCOPE, b'{"n":%d}' % n, actor=ACTOR)) for n in range(200)]
        while sum(task.done() for task in under_way) < 20 * attempt:
            await asyncio.sleep(0)
        os.kill(writer_of(ingest), signal.SIGKILL)
        answers = await asyncio.gather(*under_way, return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        assert all(isinstance(failure, Unavailable) for failure in failures)
        stored += [answer.path for answer in answers if not isinstance(answer, BaseException)]
    await ingest.mend(tenant_id, thoroughly=True)
    there = {entry.path for entry in await ingest.list(tenant_id, SCOPE, limit=1000)}
    assert set(stored) <= there
    assert not [answer for answer in await posted(ingest, tenant_id, [b"{}"] * MANY) if isinstance(answer, PersistenceError)]


async def test_what_is_posted_while_there_is_none_is_written_here(ingest: Ingest, tenant_id: UUID) -> None:
    """Killed while it had nothing in hand: nothing is refused, also while its replacements are killed, too."""
    for _ in range(3):
        pid = await another(ingest)
        watch = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(select.select, [watch], [], [], 60)
        os.close(watch)
        while ingest._writer._process is not None and not ingest._writer._process._executor._broken:
            await asyncio.sleep(0.01)
        answers = await posted(ingest, tenant_id, [b"{}"] * MANY)
        assert not [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(await ingest.list(tenant_id, SCOPE, limit=200)) == 3 * MANY


async def test_one_that_does_not_answer_is_replaced(ingest: Ingest, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persistence.ingest.writer._PATIENCE", 0.5)
    os.kill(writer_of(ingest), signal.SIGSTOP)
    answers = await posted(ingest, tenant_id, [b"{}"] * MANY)
    # The first may go alone, before the others are a group.
    assert all(isinstance(answer, Unavailable) for answer in answers[1:]), answers
    await another(ingest)
    assert not [answer for answer in await posted(ingest, tenant_id, [b"{}"] * MANY) if isinstance(answer, BaseException)]


async def test_what_comes_after_the_end_is_refused_in_words(tmp_path: Path, tenant_id: UUID) -> None:
    async with Ingest(tmp_path / "ingest", writes_apart=True) as ingest:
        under_way = [asyncio.create_task(ingest.put(tenant_id, SCOPE, b"{}", actor=ACTOR)) for _ in range(200)]
        await asyncio.sleep(0)
    answers = await asyncio.gather(*under_way, return_exceptions=True)
    assert {type(answer) for answer in answers if isinstance(answer, BaseException)} <= {PersistenceError}


def test_a_script_that_is_not_importable_is_told_what_it_lacks(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, sys\nfrom pathlib import Path\nfrom persistence.ingest import Ingest\n"
        "async def main():\n    async with Ingest(Path(sys.argv[1]), writes_apart=True):\n        pass\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, program, tmp_path / "ingest"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert 'a script that starts it needs: if __name__ == "__main__"' in done.stderr


def test_it_ends_with_the_process_that_it_writes_for(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, sys\nfrom pathlib import Path\nfrom persistence.ingest import Ingest\n"
        "async def main():\n"
        "    async with Ingest(Path(sys.argv[1]), writes_apart=True) as ingest:\n"
        "        print(ingest._writer._process.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "if __name__ == '__main__':\n    asyncio.run(main())\n"
    )
    program = tmp_path / "program.py"
    program.write_text(script)
    with subprocess.Popen([sys.executable, program, tmp_path / "ingest"], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        writer = int(service.stdout.readline())
        os.kill(writer, signal.SIGTERM)  # meant for both, as a service manager sends it: it waits for its service to end
        watch = os.pidfd_open(writer)
        assert not select.select([watch], [], [], 0)[0]
        service.kill()
    assert select.select([watch], [], [], 60)[0]
    os.close(watch)
