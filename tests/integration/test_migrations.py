"""Up, down, up: the same schema; two at once; offline; as an administrator who is no superuser; and no drift."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from persistence import Plane
from persistence.backups import verifications
from persistence.canon import CANON
from persistence.database import migrator as migrator_module
from persistence.database.migrator import Migrator, head_revision, offline_script
from persistence.database.pinned import PINNED_ERRORS, connect_pinned, refused
from persistence.database.programs import programs
from persistence.database.tables import METADATA
from persistence.errors import ConfigurationError, LawBroken, PermissionDenied, ServerError
from persistence.resources import PACKAGE, resource
from tests.conftest import TestServer


@pytest.fixture
def empty_database(test_server: TestServer) -> Iterator[str]:
    postgres = f"postgresql://postgres@/postgres?host={test_server.host}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE emptiness")
        yield f"postgresql://postgres@/emptiness?host={test_server.host}"
        connection.execute("DROP DATABASE emptiness WITH (FORCE)")


def schema_of(dsn: str) -> str:
    """The whole catalogue as pg_dump writes it: tables, functions, policies, triggers and grants."""
    dump = subprocess.run([programs() / "pg_dump", "--schema-only", dsn], check=True, capture_output=True, text=True).stdout
    return "\n".join(line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def test_up_down_up_gives_the_same_schema(empty_database: str) -> None:
    migrator = Migrator(empty_database)
    assert migrator.up().is_current
    first = schema_of(empty_database)
    assert "CREATE FUNCTION persistence.append_events" in first
    status = migrator.down("base")
    assert (status.current, status.is_current) == (None, False)
    bare = schema_of(empty_database)
    assert "CREATE FUNCTION" not in bare
    assert bare.count("CREATE TABLE") == 1  # the version table
    migrator.up()
    assert schema_of(empty_database) == first


def test_each_migration_can_be_taken_back(empty_database: str) -> None:
    migrator = Migrator(empty_database)
    for revision in migrator.status().pending:
        before = schema_of(empty_database)
        migrator.up(revision)
        after = schema_of(empty_database)
        migrator.down("-1")
        if "CREATE SCHEMA persistence" in before:  # the first one makes schemas and version table, which stay
            assert schema_of(empty_database) == before
        migrator.up(revision)
        assert schema_of(empty_database) == after


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("ALTER TABLE persistence.steps DROP COLUMN tenant_id CASCADE", "tenant_id_column"),
        ("ALTER TABLE persistence.tool_calls DROP COLUMN correlation_id", "audit_columns"),
        ("ALTER TABLE persistence.run_checkpoints ALTER COLUMN id TYPE text", "primary_keys"),
        ("ALTER TABLE persistence.outbox_events DROP CONSTRAINT outbox_events_idempotency_key", "mandatory_unique_keys"),
        ("ALTER TABLE persistence.effects DISABLE ROW LEVEL SECURITY", "rls_enabled"),
        ("ALTER TABLE persistence.effects NO FORCE ROW LEVEL SECURITY", "rls_forced"),
        ("GRANT UPDATE ON persistence.orchestration_events TO persistence_app", "log_privileges"),
        ("DROP TRIGGER append_only ON persistence.orchestration_events", "log_triggers"),
    ],
)
def test_a_migration_that_takes_away_what_is_protected_is_refused_by_name(
    empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, check: str
) -> None:
    Migrator(empty_database).up()
    folder = shutil.copytree(resource("migrations"), tmp_path / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "20270101000000_tired.py").write_text(
        "from persistence.database.schema_objects import execute\n"
        f"revision, down_revision = '20270101000000', '{head_revision()}'\n"
        f"def upgrade(): execute({change!r})\n"
        "def downgrade(): pass\n"
    )
    before = schema_of(empty_database)
    monkeypatch.setattr(migrator_module, "resource", lambda name: folder if name == "migrations" else resource(name))
    migrator_module.head_revision.cache_clear()
    try:
        with pytest.raises(LawBroken, match=f"migration 20270101000000 breaks CANON.*{check}"):
            Migrator(empty_database).up()
        assert schema_of(empty_database) == before
        assert Migrator(empty_database).status().pending == ("20270101000000",)
    finally:
        migrator_module.head_revision.cache_clear()


def test_two_migrators_wait_for_each_other(empty_database: str) -> None:
    command = [sys.executable, "-m", "persistence.cli", "migrate", "up"]
    environment = {**os.environ, "PERSISTENCE_ADMIN_DSN": empty_database}
    migrators = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(3)]
    for migrator in migrators:
        said, _ = migrator.communicate()
        assert migrator.returncode == 0, said
    assert Migrator(empty_database).status().is_current


def test_the_offline_script_gives_the_same_schema(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(offline_script())
    by_script = schema_of(empty_database)
    assert Migrator(empty_database).status().is_current
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(offline_script("head:base"))
    Migrator(empty_database).up()
    assert schema_of(empty_database) == by_script


def test_an_administrator_needs_no_superuser(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS cloud_admin")
        connection.execute("CREATE ROLE cloud_admin LOGIN CREATEROLE")
        connection.execute("CREATE ROLE nobody_special LOGIN")
        connection.execute("GRANT CREATE ON DATABASE emptiness TO cloud_admin")
        for role in ("owner", "system", "app", "worker", "operator", "auditor"):
            connection.execute(
                f"GRANT persistence_{role} TO cloud_admin WITH ADMIN OPTION, INHERIT FALSE"
            )  # as one who made them has
    try:
        with pytest.raises(PermissionDenied, match="may not migrate"):
            Migrator(empty_database.replace("postgres@", "nobody_special@")).up()
        assert Migrator(empty_database.replace("postgres@", "cloud_admin@")).up().is_current
        assert Migrator(empty_database.replace("postgres@", "cloud_admin@")).status().is_current
    finally:
        with psycopg.connect(empty_database, autocommit=True) as connection:
            connection.execute("REVOKE CREATE ON DATABASE emptiness FROM cloud_admin")
            for role in ("owner", "system", "app", "worker", "operator", "auditor"):
                connection.execute(f"REVOKE persistence_{role} FROM cloud_admin CASCADE")
            connection.execute("DROP OWNED BY cloud_admin")
            connection.execute("DROP ROLE cloud_admin")
            connection.execute("DROP ROLE nobody_special")


def test_a_second_administrator_is_told_whom_to_ask(empty_database: str) -> None:
    """The roles belong to the cluster: who made them may lend them to others."""
    Migrator(empty_database).up()
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS second_admin")
        connection.execute("CREATE ROLE second_admin LOGIN CREATEROLE")
        connection.execute("GRANT CREATE ON DATABASE emptiness TO second_admin")
    try:
        with pytest.raises(PermissionDenied, match="another login of this cluster made the roles") as refusal:
            Migrator(empty_database.replace("postgres@", "second_admin@")).up()
        assert refusal.value.hint is not None
        command = refusal.value.hint.partition("let it: ")[2]
        with psycopg.connect(empty_database, autocommit=True) as connection:
            connection.execute(command)  # type: ignore[call-overload]
        assert Migrator(empty_database.replace("postgres@", "second_admin@")).up().is_current
    finally:
        with psycopg.connect(empty_database, autocommit=True) as connection:
            connection.execute("REVOKE CREATE ON DATABASE emptiness FROM second_admin")
            connection.execute("REVOKE persistence_owner, persistence_system FROM second_admin CASCADE")
            connection.execute("DROP OWNED BY second_admin; DROP ROLE second_admin")


def test_a_service_login_sees_which_migrations_have_run(dsn: str) -> None:
    assert Migrator(dsn).status().is_current


def test_metadata_and_database_do_not_drift(admin_dsn: str) -> None:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(admin_dsn))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "compare_type": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == "persistence",
                # the last are there where pgvector is
                "include_object": lambda item, name, kind, *_: (
                    not (kind == "table" and name == "schema_version")
                    and not (kind == "index" and re.fullmatch(r"memory_vectors_\d+_idx", name or ""))
                ),
            },
        )
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_the_database_holds_the_canon_of_the_files(admin: psycopg.Connection) -> None:
    for table, rows in CANON.reference_rows().items():
        stored = admin.execute(f"SELECT to_jsonb(t) FROM canon.{table} AS t").fetchall()
        wanted = admin.execute(
            f"SELECT to_jsonb(t) FROM jsonb_populate_recordset(NULL::canon.{table}, %s::jsonb) AS t",
            (psycopg.types.json.Jsonb([{k: list(v) if isinstance(v, tuple) else v for k, v in row.items()} for row in rows]),),
        ).fetchall()
        assert sorted(map(str, stored)) == sorted(map(str, wanted))


def test_migrations_are_named_by_their_moment_and_objects_by_their_file() -> None:
    for path in (resource("migrations") / "versions").glob("*.py"):
        assert len(path.stem.split("_")[0]) == 14
        assert path.stem.split("_")[0].isdigit()
    for path in (resource("migrations") / "sql" / "functions").glob("*.sql"):
        name = path.name.split(".")[0]
        content = path.read_text()
        assert f"persistence.{name}(" in content.replace("{one}", ""), path
        assert content.count("\nCREATE ") == 1, path


async def test_a_server_that_is_not_migrated_is_refused_by_name(empty_database: str) -> None:
    with pytest.raises(ServerError, match="the database is not migrated .run: persistence migrate up"):
        async with Plane(dsn=empty_database):
            pass


async def test_a_server_that_cannot_be_reached_is_named(tmp_path: object) -> None:
    with pytest.raises(ServerError, match="cannot reach the server"):
        async with Plane(dsn=f"postgresql://nobody@/nothing?host={tmp_path}"):
            pass
    with pytest.raises(ConfigurationError):
        async with Plane(dsn="mysql://x"):
            pass
    with pytest.raises(ConfigurationError, match="pool_max"):
        Plane(pool_max=0)


def test_what_others_have_made_in_public_does_not_run_as_the_administrator(empty_database: str) -> None:
    """Neither while migrating nor in what administrators do else."""
    Migrator(empty_database).up()
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS third_admin")
        connection.execute("CREATE ROLE third_admin LOGIN CREATEROLE")
        connection.execute("GRANT persistence_owner, persistence_system TO third_admin WITH INHERIT FALSE, SET TRUE")
        connection.execute("CREATE TABLE public.caught (who text); GRANT INSERT ON public.caught TO PUBLIC")
        connection.execute(
            """
            CREATE FUNCTION public.pg_has_role(name, text, text) RETURNS boolean LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO public.caught VALUES (current_user); RETURN true; END $$
            """
        )
    try:
        assert Migrator(empty_database.replace("postgres@", "third_admin@")).up().is_current
        with psycopg.connect(empty_database) as connection:
            assert connection.execute("SELECT who FROM public.caught").fetchall() == []
    finally:
        with psycopg.connect(empty_database, autocommit=True) as connection:
            connection.execute("REVOKE persistence_owner, persistence_system FROM third_admin CASCADE")
            connection.execute("DROP OWNED BY third_admin; DROP ROLE third_admin")


def test_connections_of_administrators_are_made_in_one_place() -> None:
    makers = [path for path in PACKAGE.rglob("*.py") if "psycopg.connect(" in path.read_text()]
    assert [path.name for path in makers] == ["pinned.py"]


def test_what_the_database_refuses_a_command_is_one_line(dsn: str) -> None:
    with pytest.raises(PINNED_ERRORS) as refusal:
        verifications(dsn)  # a service's login sees no backups of others
        connect_pinned(dsn).execute("SELECT * FROM canon.context_keys")
    said = refused(refusal.value)
    assert isinstance(said, PermissionDenied)
    assert "PERSISTENCE_AUDIT_DSN" in str(said)


async def test_an_older_package_says_that_it_is_older(empty_database: str) -> None:
    Migrator(empty_database).up()
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("UPDATE canon.schema_version SET version_num = '20990101000001'")
    with pytest.raises(ServerError, match="schema 20990101000001.*install the newer version of this package"):
        async with Plane(dsn=empty_database):
            pass
    for what in (Migrator(empty_database).up, Migrator(empty_database).down):
        with pytest.raises(ServerError, match="20990101000001.*this package knows the schema up to"):
            what()
