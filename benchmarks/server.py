"""One durable server for all, and a fresh database for each measurement."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from persistence.database.embedded import EmbeddedServer

SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "summarize_wal")


@dataclass(frozen=True)
class Counters:
    """wal: bytes written since the server began. left_behind: row versions that updates and deletes left to be vacuumed."""

    wal: int
    left_behind: int


class BenchServer:
    """A server under a folder, with this package's settings for an embedded server."""

    def __init__(self, embedded: EmbeddedServer) -> None:
        self._embedded = embedded

    @classmethod
    @contextmanager
    def started(cls, folder: Path) -> Iterator["BenchServer"]:
        with EmbeddedServer(folder) as embedded:
            yield cls(embedded)

    def dsn(self, database: str) -> str:
        return self._embedded.dsn("postgres", database)

    @property
    def socket_folder(self) -> str:
        return str(self._embedded.socket_dir)

    def fresh(self, database: str) -> str:
        """A new, empty database of that name; its DSN."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
            connection.execute("CHECKPOINT")
        return self.dsn(database)

    def settings(self) -> dict[str, str]:
        with psycopg.connect(self.dsn("postgres")) as connection:
            return {name: (connection.execute("SELECT current_setting(%s)", (name,)).fetchone() or ("",))[0] for name in SETTINGS}

    def counters(self, database: str) -> Counters:
        time.sleep(1.2)  # backends report their statistics at most once a second
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            row = connection.execute(
                "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn, coalesce(sum(n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables"
            ).fetchone()
        assert row is not None
        return Counters(int(row[0]), int(row[1]))
