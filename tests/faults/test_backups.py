"""A backup is trusted once it was restored and kept the law; a damaged one is refused by name; what is restored goes on rightly."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from persistence import Plane
from persistence.backups import Backup, BackupStore, Restored, held, record, release, restore, take, verify
from persistence.backups.store import BackupRefused
from persistence.database.embedded import AUDIT_LOGIN, DATABASE, EmbeddedServer
from persistence.database.migrator import Migrator
from persistence.database.server import create_database, create_logins
from persistence.errors import ConfigurationError, NotFound, PermissionDenied, ServerError
from persistence.gates.checks import shipped_suites
from persistence.gates.fit import Runner
from persistence.models import Position
from persistence.outbox import Delivery
from persistence.settings import Settings
from tests.helpers import ACTOR, request_effect, start_run, worker_with


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backups")


@pytest.fixture(scope="module")
def settings(place: Path) -> Settings:
    return Settings(data_dir=place / "live", backup_dir=place / "kept", wal_archive=place / "wal")


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(settings.data_dir, durable=False, wal_archive=settings.wal_archive) as server:
        create_database(server.dsn("postgres", "postgres"), DATABASE)
        Migrator(server.admin_dsn).up()
        create_logins(server.admin_dsn)
        yield server


@pytest.fixture
async def live(server: EmbeddedServer) -> Plane:
    async with Plane(dsn=server.service_dsn, admin_dsn=server.admin_dsn) as plane:
        yield plane


@pytest.fixture
async def tenant_id(live: Plane) -> object:
    tenants = await live.tenants.list()
    tenant = tenants[0] if tenants else await live.tenants.create("acme", actor="system:test")
    return tenant.tenant_id


@pytest.fixture
def store(place: Path, request: pytest.FixtureRequest) -> BackupStore:
    """Of this test alone."""
    return BackupStore(place / request.node.name.replace("[", "-").replace("]", ""))


@pytest.fixture
async def backup(store: BackupStore, server: EmbeddedServer, settings: Settings, live: Plane, tenant_id: object) -> Backup:
    await start_run(live, tenant_id)  # type: ignore[arg-type]
    return take(store, server.admin_dsn, settings)


async def test_a_good_backup_is_proven_and_the_proof_is_an_event(
    store: BackupStore, backup: Backup, server: EmbeddedServer, settings: Settings
) -> None:
    verification = await verify(store, backup.label, settings)
    assert (verification.refusal, verification.is_good) == (None, True)
    assert verification.findings["checks"] > 100
    assert {"files_seconds", "copy_seconds", "gates_seconds", "indexes_seconds"} <= set(verification.findings)
    record(verification, server.admin_dsn, "user:dba")
    with psycopg.connect(server.admin_dsn) as connection:
        event = connection.execute(
            "SELECT event_type, actor FROM persistence.orchestration_events WHERE aggregate_type = 'BACKUP_VERIFICATION' "
            "ORDER BY sequence_number DESC LIMIT 1"
        ).fetchone()
        row = connection.execute(
            "SELECT backup_label, status FROM persistence.backup_verifications ORDER BY created_at DESC LIMIT 1"
        )
        assert event == ("BACKUP_VERIFIED", "user:dba")
        assert row.fetchone() == (backup.label, "VERIFIED")


async def test_a_chain_of_backups_is_proven_and_breaks_with_its_weakest_link(
    store: BackupStore, backup: Backup, server: EmbeddedServer, settings: Settings, live: Plane, tenant_id: object
) -> None:
    for _ in range(2):
        await start_run(live, tenant_id)  # type: ignore[arg-type]
        newest = take(store, server.admin_dsn, settings)
    assert (newest.kind, store.chain(newest.label)[0].label) == ("incremental", backup.label)
    assert len(store.chain(newest.label)) == 3
    assert newest.size < backup.size
    assert (await verify(store, newest.label, settings)).refusal is None
    assert take(store, server.admin_dsn, settings, full=True).kind == "full"
    shutil.rmtree(store.place(backup.label))
    refused = await verify(store, newest.label, settings)
    assert f"it continues {backup.label}, which is gone" in str(refused.refusal)


def largest(folder: Path, pattern: str) -> Path:
    return max((path for path in folder.glob(pattern) if path.is_file()), key=lambda path: path.stat().st_size)


def flip(store: BackupStore, label: str) -> str:
    path = largest(store.base(label), "base/*/[0-9]*")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    return path.name


def lose_wal(store: BackupStore, label: str) -> str:
    for path in (store.base(label) / "pg_wal").glob("0000*"):
        path.unlink()
    return "WAL"


def truncate(store: BackupStore, label: str) -> str:
    path = largest(store.base(label), "base/*/[0-9]*")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    return path.name


def lose_a_file(store: BackupStore, label: str) -> str:
    path = largest(store.base(label), "base/*/[0-9]*")
    path.unlink()
    return path.name


def lose_the_manifest(store: BackupStore, label: str) -> str:
    (store.base(label) / "backup_manifest").unlink()
    return "backup_manifest is missing"


@pytest.mark.parametrize("damage", [flip, lose_wal, truncate, lose_a_file, lose_the_manifest])
async def test_a_damaged_backup_is_refused_by_name_and_not_restored(
    store: BackupStore, backup: Backup, settings: Settings, server: EmbeddedServer, tmp_path: Path, damage: object
) -> None:
    words = damage(store, backup.label)  # type: ignore[operator]
    verification = await verify(store, backup.label, settings)
    assert backup.label in str(verification.refusal)
    assert words in str(verification.refusal)
    with pytest.raises(BackupRefused, match=backup.label):
        restore(store, backup.label, tmp_path / "new", settings)
    assert not (tmp_path / "new" / "postgresql").exists()
    record(verification, server.admin_dsn, "user:dba")
    with psycopg.connect(server.admin_dsn) as connection:
        row = connection.execute(
            "SELECT status, error_details ->> 'message' FROM persistence.backup_verifications WHERE backup_label = %s ORDER BY created_at DESC",
            (backup.label,),
        ).fetchone()
    assert row == ("REFUSED", verification.refusal)


@pytest.mark.parametrize(
    ("fault", "cure", "words"),
    [
        (
            "UPDATE persistence.runs SET run_type = 'forged' WHERE id = (SELECT id FROM persistence.runs ORDER BY id LIMIT 1)",
            "UPDATE persistence.runs SET run_type = 'test' WHERE run_type = 'forged'",
            "state_is_the_fold: runs",
        ),
        (
            "ALTER TABLE persistence.steps DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE persistence.steps ENABLE ROW LEVEL SECURITY",
            "rls_enabled: persistence.steps",
        ),
        (
            "UPDATE pg_index SET indisready = false WHERE indexrelid = 'persistence.user_tenants_pkey'::regclass;"
            "INSERT INTO persistence.user_tenants SELECT * FROM persistence.user_tenants LIMIT 1;"
            "UPDATE pg_index SET indisready = true WHERE indexrelid = 'persistence.user_tenants_pkey'::regclass",
            "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off;"
            "DELETE FROM persistence.user_tenants AS u WHERE ctid > (SELECT min(x.ctid) FROM persistence.user_tenants AS x "
            "WHERE (x.tenant_id, x.user_id) = (u.tenant_id, u.user_id)); REINDEX TABLE persistence.user_tenants",
            "amcheck",
        ),
    ],
)
async def test_a_backup_of_what_breaks_the_law_is_refused(
    store: BackupStore,
    server: EmbeddedServer,
    settings: Settings,
    live: Plane,
    tenant_id: object,
    fault: str,
    cure: str,
    words: str,
) -> None:
    await start_run(live, tenant_id)  # type: ignore[arg-type]
    with psycopg.connect(server.admin_dsn, autocommit=True) as connection:
        connection.execute(fault)  # type: ignore[arg-type]
        try:
            backup = take(store, server.admin_dsn, settings)
        finally:
            connection.execute(cure)  # type: ignore[arg-type]
    assert words in str((await verify(store, backup.label, settings)).refusal)


async def test_a_restore_to_a_moment_goes_on_in_a_new_epoch_with_the_outbox_held(
    store: BackupStore, backup: Backup, settings: Settings, server: EmbeddedServer, live: Plane, tenant_id: object, tmp_path: Path
) -> None:
    await request_effect(live, tenant_id, key="before")  # type: ignore[arg-type]
    async with live.transaction(tenant_id, actor=ACTOR) as tx:  # type: ignore[arg-type]
        known = await tx.events.count()
        _, position = await everything(tx, Position())
    with psycopg.connect(server.admin_dsn, autocommit=True) as connection:
        [moment] = connection.execute("SELECT clock_timestamp()").fetchone()  # type: ignore[misc]
    await request_effect(live, tenant_id, key="after")  # type: ignore[arg-type]
    async with live.transaction(tenant_id, actor=ACTOR) as tx:  # type: ignore[arg-type]
        _, beyond = await everything(tx, position)
    archive_all(server, settings)

    restored = restore(store, backup.label, tmp_path, settings, to=moment)
    assert (restored.epoch, [entry["idempotency_key"] for entry in restored.held]) == (2, ["before"])
    with EmbeddedServer(tmp_path, durable=False) as again:
        assert [entry["idempotency_key"] for entry in held(again.dsn(AUDIT_LOGIN, DATABASE))] == ["before"]
        async with Plane(dsn=again.service_dsn) as plane:
            await check_restored(plane, tenant_id, known, position, beyond, again)
            delivered: list[str] = []

            async def note(delivery: Delivery) -> None:
                delivered.append(delivery.idempotency_key)

            worker = worker_with(note)
            await worker.drain(plane)
            assert delivered == []
            assert release(again.admin_dsn) == 1
            await worker.drain(plane)
            assert delivered == ["before"]


async def everything(tx: object, position: Position) -> tuple[list[object], Position]:
    events: list[object] = []
    while True:
        part, position = await tx.events.read(position)  # type: ignore[attr-defined]
        if not part:
            return events, position
        events += part


async def check_restored(
    plane: Plane, tenant_id: object, known: int, position: Position, beyond: Position, server: EmbeddedServer
) -> None:
    """Positions of readers stay right: one that had read what was lost reads what comes instead of it, and all else once."""
    async with plane.transaction(tenant_id, actor=ACTOR) as tx:  # type: ignore[arg-type]
        assert await tx.events.count() == known
        assert (await everything(tx, position))[0] == []
        assert (await everything(tx, beyond))[0] == []
    run = await start_run(plane, tenant_id)  # type: ignore[arg-type]
    for reader in (position, beyond):
        async with plane.transaction(tenant_id, actor=ACTOR) as tx:  # type: ignore[arg-type]
            events, moved = await everything(tx, reader)
        assert [event.aggregate_id for event in events] == [run.id]  # type: ignore[attr-defined]
        assert moved.epoch == 2
    outcomes = await Runner(server.dsn(AUDIT_LOGIN, DATABASE), server.service_dsn, Settings()).run(shipped_suites())
    assert {outcome.check.name for outcome in outcomes if outcome.verdict != "passed"} - {"backups_not_refused"} == {
        "entries_released"
    }


def archive_all(server: EmbeddedServer, settings: Settings) -> None:
    """Waits until the WAL written so far is in the archive."""
    with psycopg.connect(server.admin_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_create_restore_point('so that there is something to archive')")
        [name] = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()  # type: ignore[misc]
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    while not (Path(str(settings.wal_archive)) / name).exists():
        assert datetime.now(UTC) < deadline, "the WAL is not archived"


async def test_what_follows_a_restore_continues_no_backup_of_before(
    store: BackupStore, backup: Backup, settings: Settings, live: Plane, tenant_id: object, tmp_path: Path
) -> None:
    lonely = settings.model_copy(update={"wal_archive": None})
    for name in ("first", "second"):
        restore(store, backup.label, tmp_path / name, lonely)
        with EmbeddedServer(tmp_path / name, durable=False) as again:
            taken = take(store, again.admin_dsn, settings)
            assert (taken.kind, taken.timeline > backup.timeline) == ("full", True)
            shutil.rmtree(store.place(taken.label))


async def test_a_refused_or_old_backup_is_not_continued(
    store: BackupStore, backup: Backup, settings: Settings, server: EmbeddedServer
) -> None:
    assert take(store, server.admin_dsn, settings, refused=[backup.label]).kind == "full"
    newest = store.newest()
    store.describe(newest.model_copy(update={"taken_at": newest.taken_at - timedelta(days=8)}))
    store.describe(backup.model_copy(update={"taken_at": backup.taken_at - timedelta(days=9)}))
    assert take(store, server.admin_dsn, settings).kind == "full"
    (store.place(newest.label) / "backup.json").write_text("{")
    assert newest.label not in {known.label for known in store.all()}
    with pytest.raises(BackupRefused, match="cannot be read"):
        store.get(newest.label)


def restored_to(store: BackupStore, backup: Backup, into: Path, settings: Settings, to: datetime | None) -> Restored:
    return restore(store, backup.label, into, settings, to=to)


async def test_a_restore_that_cannot_be_is_refused_and_leaves_nothing(
    store: BackupStore, backup: Backup, settings: Settings, server: EmbeddedServer, tmp_path: Path
) -> None:
    archive_all(server, settings)
    (tmp_path / "taken" / "postgresql").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="is there already"):
        restored_to(store, backup, tmp_path / "taken", settings, None)
    with pytest.raises(ConfigurationError, match="is before the end of backup"):
        restored_to(store, backup, tmp_path / "a", settings, backup.taken_at - timedelta(days=1))
    without = settings.model_copy(update={"wal_archive": None})
    with pytest.raises(ConfigurationError, match="needs archived WAL"):
        restored_to(store, backup, tmp_path / "a", without, datetime.now(UTC))
    with pytest.raises(BackupRefused, match="before configured recovery target was reached"):
        restored_to(store, backup, tmp_path / "a", settings, datetime.now(UTC) + timedelta(days=1))
    assert not (tmp_path / "a" / "postgresql").exists()
    with pytest.raises(NotFound, match="there is no backup 'nothing'"):
        restore(store, "nothing", tmp_path / "a", settings)


async def test_missing_archived_wal_is_refused_by_name(
    store: BackupStore, backup: Backup, settings: Settings, server: EmbeddedServer, live: Plane, tenant_id: object, tmp_path: Path
) -> None:
    archive_all(server, settings)
    await start_run(live, tenant_id)  # type: ignore[arg-type]
    archive_all(server, settings)
    moment = datetime.now(UTC)
    await start_run(live, tenant_id)  # type: ignore[arg-type]
    archive_all(server, settings)
    partial = shutil.copytree(str(settings.wal_archive), tmp_path / "wal")
    for path in sorted(path for path in Path(partial).iterdir() if path.suffix == "")[-2:]:
        path.unlink()
    lacking = settings.model_copy(update={"wal_archive": Path(partial)})
    with pytest.raises(BackupRefused, match="before configured recovery target was reached"):
        restore(store, backup.label, tmp_path / "new", lacking, to=moment)


async def test_a_backup_of_an_older_schema_is_migrated_before_it_is_judged(store: BackupStore, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "old")
    with EmbeddedServer(settings.data_dir, durable=False) as old:
        create_database(old.dsn("postgres", "postgres"), DATABASE)
        backup = take(store, old.admin_dsn, settings)
    verification = await verify(store, backup.label, settings)
    assert (verification.refusal, verification.findings["migrated_from"]) == (None, None)


async def test_a_backup_that_fails_leaves_nothing(store: BackupStore, server: EmbeddedServer, settings: Settings) -> None:
    with pytest.raises(PermissionDenied, match="may not copy the cluster"):
        take(store, server.service_dsn, settings)
    with pytest.raises(ServerError, match="cannot reach the server"):
        take(store, f"postgresql://postgres@/nothing?host={store.folder}", settings)
    with pytest.raises(ServerError, match="pg_basebackup is not in"):
        take(store, server.admin_dsn, settings.model_copy(update={"programs_dir": store.folder}))
    assert store.all() == []
    with pytest.raises(NotFound, match="there is no backup in"):
        store.newest()


async def test_nothing_of_the_copys_configuration_acts(
    store: BackupStore, server: EmbeddedServer, settings: Settings, live: Plane, tenant_id: object, tmp_path: Path
) -> None:
    """A backup that archives, listens, loads and runs things when it is started or logged in to: none of it happens."""
    traces = tmp_path / "traces"
    traces.mkdir()
    traces.chmod(0o777)
    tmp_path.chmod(0o755)
    with psycopg.connect(server.admin_dsn, autocommit=True) as connection:
        connection.execute(
            f"CREATE FUNCTION public.trap() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN COPY (SELECT 1) TO PROGRAM 'touch {traces}/login'; END $$"
        )
        connection.execute("CREATE EVENT TRIGGER trap ON login EXECUTE FUNCTION public.trap()")
        connection.execute("ALTER EVENT TRIGGER trap ENABLE ALWAYS")
        for setting in (
            "archive_mode = 'on'", f"archive_command = 'touch {traces}/archived'", "archive_timeout = 1", "listen_addresses = '*'",
            "shared_preload_libraries = '/nowhere/evil'",
        ):  # fmt: skip
            connection.execute(f"ALTER SYSTEM SET {setting}")
    try:
        backup = take(store, server.admin_dsn, settings)
    finally:
        with psycopg.connect(
            server.admin_dsn, autocommit=True, options="-c event_triggers=off -c session_preload_libraries="
        ) as connection:
            connection.execute("DROP EVENT TRIGGER trap")
            connection.execute("DROP FUNCTION public.trap")
            connection.execute("ALTER SYSTEM RESET ALL")
    for left in traces.iterdir():
        left.unlink()
    verification = await verify(store, backup.label, settings)
    assert (verification.is_good, verification.refusal) == (True, None)
    assert list(traces.iterdir()) == []
    restored = restored_to(store, backup, tmp_path / "restored", settings, None)
    assert list(traces.iterdir()) == []
    cluster = EmbeddedServer(restored.data_dir).cluster
    assert "archived" in (cluster / "postgresql.auto.conf.of_backup").read_text()
    assert (cluster / "postgresql.auto.conf").read_text() == ""


async def test_links_and_names_that_lead_elsewhere_are_refused(
    backup: Backup, store: BackupStore, settings: Settings, tmp_path: Path
) -> None:
    base = store.base(backup.label)
    (tmp_path / "elsewhere").mkdir()
    (base / "pg_tblspc" / "16999").symlink_to(tmp_path / "elsewhere")
    verification = await verify(store, backup.label, settings)
    assert "is a link, which may lead anywhere" in str(verification.refusal)
    for label in ("../kept", "..", "a/b", "-x", ""):
        with pytest.raises(NotFound, match="no label of a backup"):
            store.get(label)
    description = store.place(backup.label) / "backup.json"
    description.write_text(description.read_text().replace('"superuser": "postgres"', '"superuser": "-h evil"'))
    with pytest.raises(BackupRefused, match="cannot be read"):
        store.get(backup.label)
