"""Restoring a backup into a folder, to its end or to a moment, with a log that goes on in a new epoch and an outbox that waits.

What the restored database has pending may have been delivered in the time that the restore takes away. So it is held back and listed: somebody
decides, and lets it go under the idempotency keys that receivers know already.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from persistence.backups.scratch import ScratchServer, check_files, disarm, put_together, running, wait_for_recovery
from persistence.backups.store import Backup, BackupStore
from persistence.backups.verification import AS_SYSTEM, superuser_dsn
from persistence.database.embedded import EmbeddedServer, archive_command
from persistence.database.pinned import connect_pinned
from persistence.database.programs import own_folder
from persistence.errors import ConfigurationError
from persistence.settings import Settings

_HELD: Final = """
SELECT q.tenant_id, q.id, q.effect_type, q.attempts, o.idempotency_key, o.created_at AS requested_at
FROM persistence.outbox_queue AS q
JOIN persistence.outbox_events AS o ON o.tenant_id = q.tenant_id AND o.id = q.id
WHERE q.held_by = 'RESTORE'
ORDER BY o.created_at, q.id
"""

_EPOCH: Final = "SELECT persistence.open_epoch((SELECT max(e.epoch) FROM canon.log_epochs AS e))"
_HOLD: Final = "SELECT count(*) FROM persistence.hold_outbox()"
# fit: allow tenant_in_statement because a restore is of all tenants
_LAST: Final = (
    "SELECT max(e.sequence_number) AS sequence_number, max(e.created_at) AS recorded_at FROM persistence.orchestration_events AS e"
)
_RELEASE: Final = "SELECT persistence.release_outbox(%s)"


@dataclass(frozen=True)
class Restored:
    """backup: what it came from. data_dir: where it is. epoch: of the log, from here on. last_event_at: when the newest event was recorded.

    held: the outbox entries that wait for a decision: tenant_id, id, effect_type, attempts, idempotency_key, requested_at.
    """

    backup: Backup
    data_dir: Path
    epoch: int
    last_sequence_number: int | None
    last_event_at: datetime | None
    held: Sequence[dict[str, Any]]


def restore(store: BackupStore, label: str, data_dir: Path, settings: Settings, *, to: datetime | None = None) -> Restored:
    """Makes a data directory of a backup; the embedded server starts on it as it is, another after it was given its configuration. What was set by
    ALTER SYSTEM is in ``postgresql.auto.conf.of_backup`` and does not act; settings of roles and databases, and event triggers, are taken out.

    to: up to which moment the archived WAL is replayed; None: to the end of the backup, and of the WAL archive if there is one.
    Raises BackupRefused when a file is wrong, or the WAL there is does not reach ``to``; ConfigurationError when ``data_dir`` is taken, or
    ``to`` lies before the end of the backup.
    """
    backup = store.get(label)
    archive = settings.wal_archive.expanduser().resolve() if settings.wal_archive else None
    place = EmbeddedServer(data_dir)
    folder, cluster = place.data_dir, place.cluster
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"restore: {folder} is there already, and not empty", hint="name a new folder with --into")
    if to is not None:
        if archive is None:
            raise ConfigurationError("restore: a moment needs archived WAL", hint="set PERSISTENCE_WAL_ARCHIVE to its folder")
        if to < backup.ended_at:
            raise ConfigurationError(
                f"restore: {to.isoformat()} is before the end of backup {label}", hint="choose an older backup"
            )
    check_files(store, label, settings)
    own_folder(folder)
    try:
        put_together(store, label, cluster, settings)
        with running(cluster, label, settings, _recovery(cluster, archive, to)) as server:
            wait_for_recovery(server, label)
            return _begin_anew(server, backup, cluster.parent)
    except BaseException:
        shutil.rmtree(cluster, ignore_errors=True)
        raise


def held(dsn: str) -> Sequence[dict[str, Any]]:
    """The outbox entries of all tenants that wait for a decision. dsn: a login with persistence_auditor."""
    with connect_pinned(dsn, row_factory=dict_row) as connection:
        return connection.execute(_HELD).fetchall()


def release(admin_dsn: str, ids: Sequence[UUID] | None = None) -> int:
    """Lets entries go: those named, or all. How many. admin_dsn: an administrator's login, as for migrations."""
    with connect_pinned(admin_dsn) as connection:
        connection.execute(AS_SYSTEM)
        return len(connection.execute(_RELEASE, (list(ids) if ids is not None else None,)).fetchall())


def _begin_anew(server: ScratchServer, backup: Backup, data_dir: Path) -> Restored:
    """Opens the new epoch and holds the outbox back."""
    disarm(superuser_dsn(server, backup), backup.server_version)
    with connect_pinned(superuser_dsn(server, backup), row_factory=dict_row) as connection:
        [epoch] = _first(connection, _EPOCH)
        connection.execute(_HOLD)
        last_sequence_number, last_event_at = _first(connection, _LAST)
        entries = connection.execute(_HELD).fetchall()
    return Restored(backup, data_dir, epoch, last_sequence_number, last_event_at, entries)


def _recovery(cluster: Path, archive: Path | None, to: datetime | None) -> list[str]:
    """Recovery to the end of the WAL there is, or to a moment, and a timeline of its own from there on: what is written now must not be
    taken for a continuation of what the restore takes away.
    """
    (cluster / "recovery.signal").touch()
    # Along the history that the backup belongs to: others in the archive are those of copies that were restored from it.
    options = ["recovery_target_action=promote", "recovery_target_timeline=current", "hot_standby=off"]
    if archive is None:
        return [*options, "restore_command=false", "archive_mode=off"]
    if not archive.is_dir():
        raise ConfigurationError(f"restore: there is no folder {archive}", hint="check PERSISTENCE_WAL_ARCHIVE")
    # The history of the new timeline goes to the archive, so that the next restore takes another one.
    options += [f'restore_command=cp "{archive}/%f" "%p"', "archive_mode=on", f"archive_command={archive_command(archive)}"]
    return [*options, f"recovery_target_time={to.isoformat()}"] if to else options


def _first(connection: psycopg.Connection[Any], statement: LiteralString) -> list[Any]:
    row = connection.execute(statement).fetchone()
    assert row is not None
    return list(row.values())
