"""Taking a backup of the whole cluster, while it works."""

import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from persistence.backups.store import Backup, BackupStore
from persistence.database.programs import hand_over, run_program
from persistence.errors import PermissionDenied, ServerError
from persistence.settings import Settings

MAX_CHAIN: Final = 7
"""After so many links a whole backup is taken: each link is one more thing that must be there."""

_INCREMENTAL_SINCE: Final = 17

_ABOUT: Final = """
SELECT
  current_setting('server_version') AS version,
  current_setting('server_version_num')::integer / 10000 AS major,
  current_setting('summarize_wal', true) = 'on' AS summarizes,
  (SELECT s.system_identifier::text FROM pg_control_system() AS s) AS system_identifier,
  (SELECT r.rolsuper OR r.rolreplication FROM pg_roles AS r WHERE r.rolname = current_user) AS may_copy
"""


def take(store: BackupStore, admin_dsn: str, settings: Settings, *, full: bool = False) -> Backup:
    """A backup by pg_basebackup, with the WAL that it needs and a manifest of digests.

    full: whole even where it could continue the newest one. admin_dsn: a login with REPLICATION. Raises ServerError with the program's own
    words; nothing is left behind then.
    """
    version, major, summarizes, system_identifier, may_copy = _about(admin_dsn)
    if not may_copy:
        raise PermissionDenied(
            "the login may not copy the cluster", hint="ALTER ROLE … REPLICATION, or use another PERSISTENCE_ADMIN_DSN"
        )
    parent = None if full or not summarizes or major < _INCREMENTAL_SINCE else _parent(store, system_identifier)
    label = store.new_label()
    place = store.place(label)
    place.mkdir(parents=True)
    begun, taken_at = time.monotonic(), datetime.now(UTC)
    try:
        hand_over(store.folder)
        hand_over(place)
        _copy(store, label, parent, admin_dsn, settings)
        backup = Backup(
            label=label,
            kind="incremental" if parent else "full",
            parent=parent.label if parent else None,
            database=str(conninfo_to_dict(admin_dsn).get("dbname", "postgres")),
            taken_at=taken_at,
            seconds=round(time.monotonic() - begun, 3),
            server_version=version,
            system_identifier=system_identifier,
            size=size_of(store.base(label)),
        )
        store.describe(backup)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return backup


def size_of(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _about(admin_dsn: str) -> tuple[str, int, bool, str, bool]:
    try:
        with psycopg.connect(admin_dsn, autocommit=True, connect_timeout=10) as connection:
            row = connection.execute(_ABOUT).fetchone()
    except psycopg.OperationalError as error:
        raise ServerError(f"cannot reach the server: {error}".strip(), hint="check PERSISTENCE_ADMIN_DSN") from error
    assert row is not None
    return row


def _parent(store: BackupStore, system_identifier: str) -> Backup | None:
    backups = [backup for backup in store.all() if backup.system_identifier == system_identifier]
    if not backups or len(store.chain(backups[-1].label)) >= MAX_CHAIN:
        return None
    return backups[-1]


def _copy(store: BackupStore, label: str, parent: Backup | None, admin_dsn: str, settings: Settings) -> None:
    target = store.base(label)
    since = [f"--incremental={store.base(parent.label) / 'backup_manifest'}"] if parent else []
    status, words = run_program(
        "pg_basebackup",
        f"--dbname={make_conninfo(admin_dsn)}",
        f"--pgdata={target}",
        "--format=plain",
        "--wal-method=stream",
        "--checkpoint=fast",
        "--manifest-checksums=SHA256",
        "--no-password",
        f"--label={label}",
        *since,
        folder=settings.programs_dir,
    )
    if status != 0:
        raise ServerError(f"backup {label}: pg_basebackup failed: {' | '.join(words[-3:])}")
