"""The local store of data files: tree, index, and both together."""

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from sqlite3 import IntegrityError
from typing import Any
from uuid import UUID, uuid4

import pytest

from persistence.errors import ConfigurationError, Conflict, IdempotencyMismatch, InvalidInput, MalformedData, NotFound, TooLarge
from persistence.ingest import Ingest, create_data_file_envelope
from persistence.ingest.check import Trouble, check
from persistence.ingest.hierarchy import Draft, HierarchyManager
from persistence.ingest.index import initialize_database
from persistence.ingest.paths import Stamps
from persistence.ingest.registry import Registry
from persistence.ingest.store import set_index_aside
from persistence.workspaces.jail import Jail

SCOPE = "instagram.profile"
STAMP = "2026-01-21T10:00:00Z"
LATER = "2026-01-22T10:00:00Z"
ENVELOPE = create_data_file_envelope(SCOPE, STAMP, {"name": "ada", "big": 123456789012345678901234567890})
WHO = {"actor": "user:ada"}


@pytest.fixture
def tree(tmp_path: Path) -> HierarchyManager:
    return HierarchyManager(tmp_path / "data")


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry(initialize_database(":memory:"))
    yield registry
    registry.close()


@pytest.fixture
def tenant_id() -> UUID:
    return uuid4()


@pytest.fixture
async def ingest(tmp_path: Path) -> AsyncIterator[Ingest]:
    async with Ingest(tmp_path / "ingest") as ingest:
        yield ingest


# The tree


def test_a_file_is_written_where_it_belongs(tree: HierarchyManager) -> None:
    written = tree.write_data_file(ENVELOPE)
    assert written.path == tree.jail.root / "instagram/profile/2026-01-21T10-00-00Z.json"
    assert written.path.is_file()
    assert written.relative_path == "instagram/profile/2026-01-21T10-00-00Z.json"
    assert written.size_bytes == written.path.stat().st_size > 0


def test_a_file_is_whole_json_with_its_envelope(tree: HierarchyManager) -> None:
    text = tree.write_data_file(ENVELOPE).path.read_text()
    assert json.loads(text) == ENVELOPE.model_dump(by_alias=True)
    assert list(json.loads(text)) == ["version", "scope", "collectedAt", "data"]


def test_files_and_folders_are_their_owners_alone(tree: HierarchyManager) -> None:
    path = tree.write_data_file(ENVELOPE).path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, path.parent.parent, tree.jail.root):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_is_written_is_read(tree: HierarchyManager) -> None:
    tree.write_data_file(ENVELOPE)
    assert tree.read_data_file(SCOPE, STAMP) == ENVELOPE


def test_a_time_is_taken_once(tree: HierarchyManager) -> None:
    tree.write_data_file(ENVELOPE)
    with pytest.raises(Conflict, match="there already"):
        tree.write_data_file(ENVELOPE)
    assert tree.read_data_file(SCOPE, STAMP) == ENVELOPE


def test_versions_are_listed_newest_first(tree: HierarchyManager) -> None:
    times = ["2026-01-21T10:00:00Z", "2026-01-21T10:00:00.000001Z", "2026-01-21T10:00:00.500000Z", "2026-01-21T10:00:01Z", LATER]
    for moment in (3, 0, 4, 2, 1):
        tree.write_data_file(create_data_file_envelope(SCOPE, times[moment], {}))
    (tree.jail.root / "instagram/profile/notes.txt").write_text("mine")
    assert tree.list_versions(SCOPE) == [moment.replace(":", "-") + ".json" for moment in reversed(times)]


def test_a_scope_without_folder_has_no_versions(tree: HierarchyManager) -> None:
    assert tree.list_versions("never.seen") == []


def test_a_deleted_file_is_gone(tree: HierarchyManager) -> None:
    tree.write_data_file(ENVELOPE)
    tree.delete_data_file(SCOPE, STAMP)
    with pytest.raises(FileNotFoundError):
        tree.read_data_file(SCOPE, STAMP)


def test_no_reader_sees_a_part_of_a_file(tree: HierarchyManager) -> None:
    """Readers who look all the time see nothing, or all of it."""
    data = {"text": "x" * 2_000_000}
    done, seen = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            for name in tree.list_versions(SCOPE):
                seen.append((tree.jail.root / "instagram/profile" / name).stat().st_size)  # noqa: PERF401  each look counts

    reader = threading.Thread(target=look)
    reader.start()
    sizes = {
        tree.write_data_file(create_data_file_envelope(SCOPE, f"2026-01-21T10:00:{second:02d}Z", data)).size_bytes
        for second in range(20)
    }
    done.set()
    reader.join()
    assert set(seen) <= sizes


def test_nothing_is_left_of_a_draft_that_is_given_up(tree: HierarchyManager) -> None:
    draft = tree.draft(SCOPE)
    draft.write(b"{")
    tree.discard(draft)
    assert list(tree.jail.root.iterdir()) == []


# The jail


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../x", "/etc", "a\0b"])
def test_no_name_leads_out_of_the_jail(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput), Jail(tmp_path / "jail").folder("in", name, make=True):
        pass
    assert not (tmp_path / "x").exists()


def test_no_symlink_leads_out_of_the_jail(tree: HierarchyManager, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "profile").mkdir(parents=True)
    (outside / "profile" / "2026-01-21T10-00-00Z.json").write_text("secret")
    (tree.jail.root / "instagram").symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        tree.read_data_file(SCOPE, STAMP)
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        tree.write_data_file(create_data_file_envelope(SCOPE, LATER, {}))
    (tree.jail.root / "web" / "form").mkdir(parents=True)
    (tree.jail.root / "web/form/2026-01-21T10-00-00Z.json").symlink_to(outside / "profile/2026-01-21T10-00-00Z.json")
    with pytest.raises(OSError, match="symbolic"):
        tree.read_data_file("web.form", STAMP)
    assert [file.name for file in (outside / "profile").iterdir()] == ["2026-01-21T10-00-00Z.json"]


def test_nobody_wins_a_race_against_the_jail(tmp_path: Path) -> None:
    """While a folder turns into a symlink and back all the time, no file ever lands outside."""
    tree, outside = HierarchyManager(tmp_path / "data"), tmp_path / "outside"
    (outside / "profile").mkdir(parents=True)
    inside, away = tree.jail.root / "instagram", tree.jail.root / "away"
    (inside / "profile").mkdir(parents=True)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            os.rename(inside, away)
            try:
                inside.symlink_to(outside)
                inside.unlink()
                os.rename(away, inside)
            except OSError:  # the writer made the folder anew meanwhile
                while away.exists():
                    shutil.rmtree(inside, ignore_errors=True)
                    with suppress(OSError):
                        os.rename(away, inside)

    attacker = threading.Thread(target=swap)
    attacker.start()
    written = 0
    for number in range(3000):
        with suppress(OSError, Conflict):
            tree.write_data_file(create_data_file_envelope(SCOPE, f"2026-01-21T10:{number // 60:02d}:{number % 60:02d}Z", {}))
            written += 1
    done.set()
    attacker.join()
    assert written
    assert list((outside / "profile").iterdir()) == []


# The index


def test_the_index_is_made(registry: Registry) -> None:
    assert registry.run("SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'data_files'")
    columns = {row["name"] for row in registry.run("PRAGMA table_info(data_files)")}
    assert columns >= {"id", "file_id", "path", "scope", "collected_at", "created_at", "size_bytes"}
    indexed = {
        row["name"]
        for index in registry.run("PRAGMA index_list(data_files)")
        for row in registry.run(f"PRAGMA index_info({index['name']})")
    }
    assert indexed >= {"scope", "file_id", "path", "sha256", "instant"}


def test_the_index_is_in_wal_mode_and_made_once(tmp_path: Path) -> None:
    place = tmp_path / "index.db"
    first, second = initialize_database(place), initialize_database(place)
    assert [second.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "user_version")] == [
        "wal",
        2,
        1,
    ]
    Registry(first).insert("a/b/c.json", SCOPE, STAMP, 1)
    assert Registry(second).count_by_scope(SCOPE) == 1
    for connection in (first, second):
        connection.close()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_many_may_open_a_new_index_at_once(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def open_it() -> None:
        try:
            initialize_database(tmp_path / "index.db").close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_an_index_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    connection = initialize_database(tmp_path / "index.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigurationError, match="version 99"):
        initialize_database(tmp_path / "index.db")


def test_what_is_inserted_is_found(registry: Registry) -> None:
    entry = registry.insert("instagram/profile/1.json", SCOPE, STAMP, 10)
    assert (entry.id, entry.file_id, entry.size_bytes) == (1, None, 10)
    assert entry.created_at.endswith("Z")
    assert registry.find_by_path(entry.path) == entry
    assert registry.find_by_path("nowhere") is None
    with pytest.raises(IntegrityError, match="UNIQUE"):
        registry.insert(entry.path, SCOPE, STAMP, 10)


def test_files_of_a_scope(registry: Registry) -> None:
    times = [STAMP, "2026-01-21T10:00:00.000001Z", "2026-01-21T10:00:01Z", LATER]
    for moment in (2, 0, 3, 1):
        registry.insert(times[moment], SCOPE, times[moment], 1)
    registry.insert("other", "web.form", "2027-01-01T00:00:00Z", 1)
    newest_first = times[::-1]
    assert [entry.collected_at for entry in registry.find_by_scope(SCOPE)] == newest_first
    assert [entry.collected_at for entry in registry.find_by_scope(SCOPE, limit=2, offset=1)] == newest_first[1:3]
    assert [entry.collected_at for entry in registry.find_older(SCOPE, newest_first[1], limit=9)] == newest_first[2:]
    assert [entry.path for entry in registry.find_by_scope(limit=1)] == ["other"]
    latest = registry.find_latest_by_scope(SCOPE)
    assert latest is not None
    assert latest.collected_at == LATER
    assert registry.find_latest_by_scope("never.seen") is None
    assert (registry.count_by_scope(SCOPE), registry.count_by_scope("never.seen")) == (4, 0)
    assert [(item.scope, item.files, item.latest) for item in registry.scopes()] == [
        (SCOPE, 4, LATER),
        ("web.form", 1, "2027-01-01T00:00:00Z"),
    ]


def test_a_row_is_deleted_once(registry: Registry) -> None:
    registry.insert("path", SCOPE, STAMP, 1)
    assert registry.delete_by_path("path")
    assert not registry.delete_by_path("path")


# Both together


async def test_a_hundred_posts_in_one_second(tmp_path: Path, tenant_id: UUID) -> None:
    """Distinct, in the order of arrival, the first with the name that it would have alone."""
    frozen = 1_768_989_600_250_000_000
    async with Ingest(tmp_path, stamps=Stamps(lambda: frozen)) as ingest:
        times = [(await ingest.put(tenant_id, SCOPE, {"number": number}, **WHO)).collected_at for number in range(100)]
        found = await ingest.list(tenant_id, SCOPE, limit=200)
        data = [(await ingest.read(tenant_id, SCOPE, entry.collected_at)).data["number"] for entry in reversed(found)]
        with ingest.stores.of(tenant_id) as store:
            names = store.hierarchy.list_versions(SCOPE)
    assert times[0] == "2026-01-21T10:00:00Z"
    assert all(moment.startswith("2026-01-21T10:00:00.") for moment in times[1:])
    assert data == list(range(100))
    assert [entry.collected_at for entry in reversed(found)] == times
    assert names == [moment.replace(":", "-") + ".json" for moment in reversed(times)]


async def test_concurrent_posts_are_all_stored(ingest: Ingest, tenant_id: UUID) -> None:
    receipts = await asyncio.gather(*(ingest.put(tenant_id, SCOPE, {"number": number}, **WHO) for number in range(300)))
    assert len({receipt.collected_at for receipt in receipts}) == 300
    for number, receipt in enumerate(receipts):
        assert (await ingest.read(tenant_id, SCOPE, receipt.collected_at)).data == {"number": number}
    with ingest.stores.of(tenant_id) as store:
        assert list(check(store)) == []


async def test_two_that_share_a_folder_do_not_meet(tmp_path: Path, tenant_id: UUID) -> None:
    frozen = Stamps(lambda: 1_768_989_600_000_000_000), Stamps(lambda: 1_768_989_600_000_000_000)
    async with Ingest(tmp_path, stamps=frozen[0]) as one, Ingest(tmp_path, stamps=frozen[1]) as other:
        await asyncio.gather(
            *(place.put(tenant_id, SCOPE, {"number": number}, **WHO) for number in range(100) for place in (one, other))
        )
        found = await one.list(tenant_id, SCOPE, limit=1000)
    assert len({entry.path for entry in found}) == 200


async def test_tenants_have_separate_trees(ingest: Ingest) -> None:
    one, other = uuid4(), uuid4()
    receipt = await ingest.put(one, SCOPE, {"secret": 1}, **WHO)
    assert await ingest.scopes(other) == []
    with pytest.raises(NotFound):
        await ingest.read(other, SCOPE, receipt.collected_at)
    assert (ingest.stores.folder / str(one) / "data" / receipt.path).is_file()
    assert ingest.stores.tenants() == sorted([one, other])
    for folder in (ingest.stores.folder, *(ingest.stores.folder / str(tenant_id) for tenant_id in (one, other))):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_post_is_kept_as_the_bytes_it_came_in(ingest: Ingest, tenant_id: UUID) -> None:
    body = b' { "b" : 1.50, "a":"\\u00e4", "a": 123456789012345678901234567890 }\n'
    receipt = await ingest.put(tenant_id, SCOPE, body, **WHO)
    text = (ingest.stores.folder / str(tenant_id) / "data" / receipt.path).read_bytes()
    assert (
        text
        == b'{"version":"1.0","scope":"instagram.profile","collectedAt":"'
        + receipt.collected_at.encode()
        + b'","data":'
        + body
        + b"}"
    )


@pytest.mark.parametrize("pieces", [1, 7, 4096])
async def test_a_large_stream_is_stored_like_a_small_body(ingest: Ingest, tenant_id: UUID, pieces: int) -> None:
    body = json.dumps({"list": [{"number": number, "text": "ä" * 20} for number in range(20_000)]}).encode()
    size = -(-len(body) // pieces)

    async def stream() -> AsyncIterator[bytes]:
        for begin in range(0, len(body), size):
            yield body[begin : begin + size]

    large = await ingest.put(tenant_id, SCOPE, stream(), **WHO)
    small = await ingest.put(tenant_id, "web.form", body, **WHO)
    assert (large.sha256, large.size_bytes - len(SCOPE)) == (
        small.sha256,
        small.size_bytes - len("web.form") + len(large.collected_at) - len(small.collected_at),
    )
    with ingest.stores.of(tenant_id) as store:
        assert list(check(store)) == []


@pytest.mark.parametrize("body", [b"{" + b" " * 400_000, b'{"a":"' + b"\xff" * 400_000 + b'"}', b"[" + b"1," * 200_000 + b"1]"])
async def test_a_large_stream_that_is_no_object_leaves_nothing(ingest: Ingest, tenant_id: UUID, body: bytes) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield body

    with pytest.raises(MalformedData, match="body:"):
        await ingest.put(tenant_id, SCOPE, stream(), **WHO)
    assert await ingest.scopes(tenant_id) == []
    assert list((ingest.stores.folder / str(tenant_id) / "data").iterdir()) == []


async def test_a_stream_that_breaks_off_leaves_nothing(ingest: Ingest, tenant_id: UUID) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b'{"a":"' + b"x" * 400_000
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await ingest.put(tenant_id, SCOPE, stream(), **WHO)
    assert list((ingest.stores.folder / str(tenant_id) / "data").iterdir()) == []


async def test_what_is_too_large_leaves_nothing(tmp_path: Path, tenant_id: UUID) -> None:
    async with Ingest(tmp_path, max_bytes=1_000_000) as ingest:

        async def stream(size: int) -> AsyncIterator[bytes]:
            yield b'{"a":"'
            for _ in range(size // 1000):
                yield b"x" * 1000
            yield b'"}'

        await ingest.put(tenant_id, SCOPE, stream(900_000), **WHO)
        for body in (stream(1_000_000), b'{"a":"' + b"x" * 1_000_000 + b'"}'):
            with pytest.raises(TooLarge, match="1000000 bytes"):
                await ingest.put(tenant_id, SCOPE, body, **WHO)
        assert len(await ingest.list(tenant_id, SCOPE)) == 1
        with ingest.stores.of(tenant_id) as store:
            assert list(check(store)) == []


async def test_a_key_stands_for_one_content(ingest: Ingest, tenant_id: UUID) -> None:
    first = await ingest.put(tenant_id, SCOPE, {"n": 1}, idempotency_key="k", **WHO)
    again = await ingest.put(tenant_id, SCOPE, {"n": 1}, idempotency_key="k", **WHO)
    other_key = await ingest.put(tenant_id, SCOPE, {"n": 1}, idempotency_key="k2", **WHO)
    assert (first.is_new, again.is_new, other_key.is_new) == (True, False, True)
    assert first.path == again.path != other_key.path
    with pytest.raises(IdempotencyMismatch, match="'k2'"):
        await ingest.put(tenant_id, SCOPE, {"n": 2}, idempotency_key="k2", **WHO)
    elsewhere = await ingest.put(tenant_id, "web.form", {"n": 1}, idempotency_key="k", **WHO)
    plain = await ingest.put(tenant_id, SCOPE, {"n": 1}, **WHO)
    asked = await ingest.put(tenant_id, SCOPE, {"n": 1}, deduplicate=True, **WHO)
    assert (elsewhere.is_new, plain.is_new, asked.is_new) == (True, True, False)


async def test_a_key_that_comes_many_times_at_once_stores_one_file(tmp_path: Path, tenant_id: UUID) -> None:
    async with Ingest(tmp_path) as one, Ingest(tmp_path) as other:
        receipts = await asyncio.gather(
            *(place.put(tenant_id, SCOPE, {"n": 1}, idempotency_key="k", **WHO) for _ in range(50) for place in (one, other))
        )
    assert sum(receipt.is_new for receipt in receipts) == 1
    assert len({receipt.path for receipt in receipts}) == 1


async def test_a_deleted_file_is_gone_from_tree_and_index(ingest: Ingest, tenant_id: UUID) -> None:
    receipt = await ingest.put(tenant_id, SCOPE, {"n": 1}, idempotency_key="k", **WHO)
    await ingest.delete(tenant_id, SCOPE, receipt.collected_at, **WHO)
    with pytest.raises(NotFound):
        await ingest.read(tenant_id, SCOPE, "latest")
    with pytest.raises(NotFound):
        await ingest.delete(tenant_id, SCOPE, receipt.collected_at, **WHO)
    again = await ingest.put(tenant_id, SCOPE, {"n": 1}, idempotency_key="k", **WHO)
    assert again.is_new
    assert again.path != receipt.path


async def test_bad_input_is_refused_by_name(ingest: Ingest, tenant_id: UUID) -> None:
    with pytest.raises(InvalidInput, match="actor"):
        await ingest.put(tenant_id, SCOPE, {}, actor="nobody")
    with pytest.raises(InvalidInput, match="idempotency_key"):
        await ingest.put(tenant_id, SCOPE, {}, idempotency_key="", **WHO)
    with pytest.raises(MalformedData, match="scope"):
        await ingest.put(tenant_id, "../x", {}, **WHO)
    with pytest.raises(MalformedData, match="collectedAt"):
        await ingest.read(tenant_id, SCOPE, "../../index.db")
    assert ingest.stores.tenants() == []


async def test_idle_stores_are_closed_and_opened_again(ingest: Ingest) -> None:
    tenants = [uuid4() for _ in range(120)]
    open_before = len(os.listdir("/proc/self/fd"))
    for tenant_id in tenants:
        await ingest.put(tenant_id, SCOPE, {"n": 1}, **WHO)
    assert len(os.listdir("/proc/self/fd")) - open_before < 120 * 8
    for tenant_id in tenants:
        assert (await ingest.read(tenant_id, SCOPE, "latest")).data == {"n": 1}


async def test_a_key_that_comes_twice_in_one_group_stores_one_file(ingest: Ingest, tenant_id: UUID) -> None:
    """The first post occupies the writer, so the others are written together."""

    async def put(data: dict[str, int], **more: Any) -> object:
        return await ingest.put(tenant_id, SCOPE, data, **WHO, **more)

    _, *keyed, other, asked, again = await asyncio.gather(
        put({"n": 0}),
        *(put({"n": 1}, idempotency_key="k") for _ in range(3)),
        put({"n": 2}, idempotency_key="k"),
        put({"n": 3}, deduplicate=True),
        put({"n": 3}, deduplicate=True),
        return_exceptions=True,
    )
    assert [receipt.is_new for receipt in keyed] == [True, False, False]
    assert isinstance(other, IdempotencyMismatch)
    assert (asked.is_new, again.is_new) == (True, False)
    assert len(await ingest.list(tenant_id, SCOPE)) == 3


async def test_an_upload_that_is_called_off_leaves_nothing_open(
    ingest: Ingest, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ingest.put(tenant_id, SCOPE, {}, **WHO)
    plainly, waits, goes_on = Draft.write, threading.Event(), threading.Event()

    def slowly(draft: Draft, data: bytes) -> None:
        waits.set()
        goes_on.wait(30)
        plainly(draft, data)

    monkeypatch.setattr(Draft, "write", slowly)

    async def stream() -> AsyncIterator[bytes]:
        yield b'{"a":"' + b"x" * 3_000_000

    before = len(os.listdir("/proc/self/fd"))
    posting = asyncio.create_task(ingest.put(tenant_id, SCOPE, stream(), **WHO))
    await asyncio.to_thread(waits.wait, 30)
    posting.cancel()
    await asyncio.sleep(0)
    assert not posting.done()  # the thread still writes
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await posting
    assert len(os.listdir("/proc/self/fd")) == before
    with ingest.stores.of(tenant_id) as store:
        assert list(check(store)) == []
        assert [name for name in os.listdir(store.hierarchy.jail.root / "instagram/profile") if name.endswith(".tmp")] == []


async def test_one_tenants_trouble_is_not_the_others(ingest: Ingest) -> None:
    broken, sound = uuid4(), uuid4()
    place = ingest.stores.folder / str(broken)
    place.mkdir(parents=True)
    (place / "index.db").write_bytes(b"no database" * 1000)
    posts = [ingest.put(tenant_id, SCOPE, {"n": 1}, **WHO) for tenant_id in (sound, broken, sound, broken, sound)]
    outcomes = await asyncio.gather(*posts, return_exceptions=True)
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True, False, True, False]
    assert len(await ingest.list(sound, SCOPE)) == 3


async def test_a_tenants_folder_that_was_removed_is_made_again(ingest: Ingest, tenant_id: UUID) -> None:
    await ingest.put(tenant_id, SCOPE, {"n": 1}, **WHO)
    shutil.rmtree(ingest.stores.folder / str(tenant_id))
    await ingest.put(tenant_id, SCOPE, {"n": 2}, **WHO)
    assert [entry.path for entry in await ingest.list(tenant_id, SCOPE)] != []
    assert (await ingest.read(tenant_id, SCOPE, "latest")).data == {"n": 2}


# Checking and mending


async def test_everything_that_is_wrong_is_found_and_mended(ingest: Ingest, tenant_id: UUID) -> None:
    receipts = [await ingest.put(tenant_id, SCOPE, {"number": number}, **WHO) for number in range(6)]
    root = ingest.stores.folder / str(tenant_id) / "data"
    paths = [root / receipt.path for receipt in receipts]
    with ingest.stores.of(tenant_id) as store:
        assert list(check(store)) == []
        store.registry.run("DELETE FROM data_files WHERE path = ?", [receipts[0].path])
        paths[1].unlink()
        paths[2].write_bytes(paths[2].read_bytes()[:-5])
        paths[3].write_text(paths[3].read_text().replace('"number":3', '"number":4'))
        paths[4].chmod(0o644)
        (root / "instagram" / "notes.txt").write_text("mine")
        (root / "instagram/profile/2026-01-01T00-00-00Z.json").symlink_to("/etc/passwd")
        (root / "Bad").mkdir()
        (root / "instagram/profile/.2026-01-02T00-00-00Z.json.tmp").write_text("{")
        living = store.hierarchy.draft(SCOPE, "2026-01-03T00:00:00Z")
        moved = root / "instagram/profile/2026-01-04T00-00-00Z.json"
        moved.write_bytes(paths[5].read_bytes())
        moved.chmod(0o600)
        store.registry.insert("refused", SCOPE, LATER, 1)
        found = {(item.trouble, item.path) for item in check(store)}
        assert found == {
            (Trouble.FILE_WITHOUT_ROW, receipts[0].path),
            (Trouble.ROW_WITHOUT_FILE, receipts[1].path),
            (Trouble.TORN, receipts[2].path),
            (Trouble.CHANGED, receipts[3].path),
            (Trouble.MODE, receipts[4].path),
            (Trouble.FOREIGN, "instagram/notes.txt"),
            (Trouble.FOREIGN, "instagram/profile/2026-01-01T00-00-00Z.json"),
            (Trouble.FOREIGN, "Bad"),
            (Trouble.DEAD_DRAFT, "instagram/profile/.2026-01-02T00-00-00Z.json.tmp"),
            (Trouble.TORN, "instagram/profile/2026-01-04T00-00-00Z.json"),
            (Trouble.ROW_WITHOUT_FILE, "refused"),
        }
        mended = await ingest.mend(tenant_id)
        assert mended.model_dump() == {"added": 1, "changed": 0, "removed": 2, "drafts": 1, "torn": 1}
        mended = await ingest.mend(tenant_id, thoroughly=True)
        assert mended.model_dump() == {"added": 0, "changed": 1, "removed": 0, "drafts": 0, "torn": 2}
        left = {item.trouble for item in check(store)}
        assert left == {Trouble.TORN, Trouble.MODE, Trouble.FOREIGN}
        store.hierarchy.discard(living)


async def test_the_index_is_built_anew_from_the_files(ingest: Ingest, tenant_id: UUID) -> None:
    for number in range(50):
        await ingest.put(tenant_id, "web.form" if number % 3 else SCOPE, {"number": number}, **WHO)

    def rows() -> list[tuple[object, ...]]:
        with ingest.stores.of(tenant_id) as store:
            return sorted(
                (entry.path, entry.scope, entry.collected_at, entry.size_bytes, entry.sha256)
                for entry in store.registry.find_by_scope(limit=100)
            )

    before = rows()
    with pytest.raises(ConfigurationError, match="in use"):
        set_index_aside(ingest.stores.folder / str(tenant_id))
    ingest.stores.close()
    assert set_index_aside(ingest.stores.folder / str(tenant_id)) is not None
    assert rows() == []
    mended = await ingest.mend(tenant_id)
    assert mended.added == 50
    assert rows() == before


async def test_a_file_that_somebody_put_there_is_taken_in(ingest: Ingest, tenant_id: UUID) -> None:
    await ingest.put(tenant_id, SCOPE, {"n": 1}, **WHO)
    place = ingest.stores.folder / str(tenant_id) / "data" / "web" / "form"
    for folder in (place.parent, place):
        folder.mkdir(mode=0o700)
    file = place / "2026-01-21T10-00-00Z.json"
    file.write_text(json.dumps({"data": {"n": 2}, "collectedAt": STAMP, "scope": "web.form", "version": "1.0"}, indent=2))
    file.chmod(0o600)
    assert (await ingest.mend(tenant_id)).added == 1
    assert (await ingest.read(tenant_id, "web.form", "latest")).data == {"n": 2}
    with ingest.stores.of(tenant_id) as store:
        assert list(check(store)) == []


def test_a_process_that_comes_and_goes_leaves_the_index_of_the_others_whole(tmp_path: Path) -> None:
    """Whoever closes any descriptor of a file loses all his locks on it: then the next to close would take SQLite's log away from those who write."""
    path = tmp_path / "index.db"
    passing = "import sys; from persistence.ingest.index import initialize_database as i; a, b = i(sys.argv[1]), i(sys.argv[1]); "
    passing += "print(a.execute('SELECT count(*) FROM journal').fetchone()[0]); b.close(); a.close()"
    writer, reader = initialize_database(path), initialize_database(path)
    try:
        for number in range(1, 4):
            writer.execute("INSERT INTO journal (path, actor, user_id, source, entry) VALUES ('p', 'a', 'u', 's', 'e')")
            log = Path(f"{path}-wal").stat().st_ino
            seen = subprocess.run([sys.executable, "-c", passing, str(path)], capture_output=True, text=True, check=True)
            assert int(seen.stdout) == number
            assert Path(f"{path}-wal").stat().st_ino == log
    finally:
        reader.close()
        writer.close()


def test_an_index_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "index.db").symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(FileExistsError):
        initialize_database(tmp_path / "index.db")
