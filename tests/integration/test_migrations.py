"""Up, down, up: the same schema; two at once; offline; as an administrator who is no superuser; and no drift."""

import os
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from persistence import Plane
from persistence.canon import CANON
from persistence.database.embedded import programs
from persistence.database.migrator import Migrator, offline_script
from persistence.database.tables import METADATA
from persistence.errors import ConfigurationError, PermissionDenied, ServerError
from persistence.resources import resource
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
    finally:
        with psycopg.connect(empty_database, autocommit=True) as connection:
            connection.execute("REVOKE CREATE ON DATABASE emptiness FROM cloud_admin")
            for role in ("owner", "system", "app", "worker", "operator", "auditor"):
                connection.execute(f"REVOKE persistence_{role} FROM cloud_admin CASCADE")
            connection.execute("DROP OWNED BY cloud_admin")
            connection.execute("DROP ROLE cloud_admin")
            connection.execute("DROP ROLE nobody_special")


def test_metadata_and_database_do_not_drift(admin_dsn: str) -> None:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(admin_dsn))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "compare_type": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == "persistence",
                "include_object": lambda item, name, kind, *_: not (kind == "table" and name == "schema_version"),
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
        assert f"persistence.{name}(" in content, path
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
