"""Taking a backup of the whole cluster, while it works."""

import shutil
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from persistence.backups.store import Backup, BackupRefused, BackupStore
from persistence.database.pinned import connect_pinned
from persistence.database.programs import hand_over, own_folder, run_program
from persistence.errors import PermissionDenied, ServerError
from persistence.settings import Settings

MAX_CHAIN: Final = 7
"""After so many links a whole backup is taken: each link is one more thing that must be there."""

_INCREMENTAL_SINCE: Final = 17
# The server forgets after ten days (wal_summary_keep_time) what changed when.
_MAX_AGE: Final = timedelta(days=7)

_ABOUT: Final = """
SELECT
  current_setting('server_version') AS version,
  current_setting('server_version_num')::integer / 10000 AS major,
  current_setting('summarize_wal', true) = 'on' AS summarizes,
  (SELECT s.system_identifier::text FROM pg_control_system() AS s) AS system_identifier,
  (SELECT c.timeline_id FROM pg_control_checkpoint() AS c) AS timeline,
  current_database()::text AS database,
  (SELECT r.rolname::text FROM pg_roles AS r WHERE r.rolsuper AND r.rolcanlogin ORDER BY r.rolname <> current_user, r.oid LIMIT 1) AS superuser,
  (SELECT r.rolsuper OR r.rolreplication FROM pg_roles AS r WHERE r.rolname = current_user) AS may_copy
"""


def take(
    store: BackupStore,
    admin_dsn: str,
    settings: Settings,
    *,
    full: bool = False,
    refused: Collection[str] = (),
    of_snapshot: bool = False,
) -> Backup:
    """A backup by pg_basebackup, with the WAL that it needs and a manifest of digests.

    full: whole even where it could continue the newest one. refused: labels that must not be continued. of_snapshot: see
    Backup. admin_dsn: a login with REPLICATION.
    Raises ServerError with the program's own words; nothing is left behind then.
    """
    about = _about(admin_dsn)
    if not about["may_copy"]:
        raise PermissionDenied(
            "the login may not copy the cluster", hint="ALTER ROLE … REPLICATION, or use another PERSISTENCE_ADMIN_DSN"
        )
    parent = None if full else _parent(store, about, refused)
    label = store.new_label()
    place = store.place(label)
    own_folder(store.folder)
    place.mkdir()
    begun, taken_at = time.monotonic(), datetime.now(UTC)
    try:
        hand_over(place)
        _copy(store, label, parent, admin_dsn, settings)
        backup = Backup(
            of_snapshot=of_snapshot,
            label=label,
            kind="incremental" if parent else "full",
            parent=parent.label if parent else None,
            database=about["database"],
            taken_at=taken_at,
            seconds=round(time.monotonic() - begun, 3),
            server_version=about["version"],
            system_identifier=about["system_identifier"],
            timeline=about["timeline"],
            superuser=about["superuser"],
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


def _about(admin_dsn: str) -> dict[str, Any]:
    try:
        with connect_pinned(admin_dsn, row_factory=dict_row) as connection:
            row = connection.execute(_ABOUT).fetchone()
    except psycopg.OperationalError as error:
        raise ServerError(f"cannot reach the server: {error}".strip(), hint="check PERSISTENCE_ADMIN_DSN") from error
    assert row is not None
    return dict(row)


def _parent(store: BackupStore, about: dict[str, Any], refused: Collection[str]) -> Backup | None:
    """The newest backup, where this one can continue it: of this cluster's own history, young enough, good as far as is known, its chain whole."""
    backups = store.all()
    if not backups or not about["summarizes"] or about["major"] < _INCREMENTAL_SINCE:
        return None
    newest = backups[-1]
    if (newest.system_identifier, newest.timeline) != (about["system_identifier"], about["timeline"]):
        return None
    if datetime.now(UTC) - newest.taken_at > _MAX_AGE:
        return None
    try:
        chain = store.chain(newest.label)
    except BackupRefused:
        return None
    return None if len(chain) >= MAX_CHAIN or {link.label for link in chain} & set(refused) else newest


def _copy(store: BackupStore, label: str, parent: Backup | None, admin_dsn: str, settings: Settings) -> None:
    target = store.base(label)
    since = [f"--incremental={store.base(parent.label) / 'backup_manifest'}"] if parent else []
    parts = conninfo_to_dict(admin_dsn)
    password = parts.pop("password", None)  # not among the arguments, which everybody on this host can read
    status, words = run_program(
        "pg_basebackup",
        f"--dbname={make_conninfo('', **parts)}",
        f"--pgdata={target}",
        "--format=plain",
        "--wal-method=stream",
        "--checkpoint=fast",
        "--manifest-checksums=SHA256",
        "--no-password",
        f"--label={label}",
        *since,
        folder=settings.programs_dir,
        environment={"PGPASSWORD": str(password)} if password else None,
    )
    if status != 0:
        raise ServerError(f"backup {label}: pg_basebackup failed: {' | '.join(words[-3:])}")
