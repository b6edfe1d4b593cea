"""Proving a backup: restored on a private socket, its files, indexes, laws and log are checked there."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from persistence.backups.scratch import ScratchServer, check_files, disarm, put_together, running, scratch_folder
from persistence.backups.store import Backup, BackupRefused, BackupStore
from persistence.database.embedded import AUDIT_LOGIN, SERVICE_LOGIN
from persistence.database.migrator import Migrator
from persistence.database.pinned import connect_pinned
from persistence.database.programs import run_program
from persistence.database.server import create_logins
from persistence.encoding import encode
from persistence.errors import PersistenceError
from persistence.gates.checks import shipped_suites
from persistence.gates.fit import Options, Outcome, Runner
from persistence.models import new_id
from persistence.settings import Settings

AS_SYSTEM: Final = "SET ROLE persistence_system"
"""What an administrator may do and no service: its functions are granted to nobody."""

_RECORD: Final = "SELECT persistence.record_backup_verification(%s, %s, %s::jsonb, %s)"

# The newest verification of each backup.
_VERIFIED: Final = """
SELECT DISTINCT ON (b.backup_label) b.backup_label, b.status, b.verified_at, b.error_details ->> 'message' AS message
FROM persistence.backup_verifications AS b
WHERE b.tenant_id = persistence.system_tenant_id()
ORDER BY b.backup_label, b.verified_at DESC
"""

# What these say is true of a moment, and a backup is of another; or it is about this very verification.
OF_THE_MOMENT: Final = frozenset(
    {"leases_expired", "entries_overdue", "entries_released", "dead_letters_attended", "projections_fresh", "backup_verified", "backups_not_refused"}
)  # fmt: skip


@dataclass(frozen=True)
class Verification:
    """What came of proving a backup. refusal: why it cannot be trusted, if it cannot. findings: what was done, with times in seconds."""

    backup: Backup
    refusal: str | None
    findings: dict[str, Any] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        return self.refusal is None


async def verify(store: BackupStore, label: str, settings: Settings) -> Verification:
    """Restores a backup beside it and checks, in this order: files against the manifest, start of the server, gates and replay, indexes.

    Needs as much room as the backup restored. Raises NotFound for an unknown label; what is wrong with the backup is in what it returns.
    """
    backup = store.get(label)
    findings: dict[str, Any] = {}
    try:
        with _timed(findings, "files"):
            check_files(store, label, settings)
        with scratch_folder(store.folder) as folder:
            with _timed(findings, "copy"):
                put_together(store, label, folder / "cluster", settings)
            with running(folder / "cluster", label, settings, ["fsync=off"]) as server:
                await _check_contents(server, backup, settings, findings)
    except BackupRefused as refusal:
        return Verification(backup, refusal.message, findings)
    return Verification(backup, None, findings)


def record(verification: Verification, admin_dsn: str, actor: str) -> UUID:
    """Records a verification in the running database, as an event of the system tenant. admin_dsn: an administrator's login, as for migrations.

    Returns the id of the record.
    """
    verification_id = new_id()
    data: dict[str, Any] = {
        "backup_label": verification.backup.label,
        "taken_at": verification.backup.taken_at.isoformat(),
        "findings": verification.findings,
    }
    if verification.refusal is not None:
        data["error_details"] = {"type": "BackupRefused", "message": verification.refusal}
    event_type = "BACKUP_VERIFIED" if verification.is_good else "BACKUP_REFUSED"
    with connect_pinned(admin_dsn) as connection:
        connection.execute(AS_SYSTEM)
        connection.execute(_RECORD, (verification_id, event_type, encode(data), actor))
    return verification_id


def verifications(dsn: str) -> Mapping[str, tuple[str, datetime, str | None]]:
    """By label, what came of proving each backup last: VERIFIED or REFUSED, when, and why not. dsn: a login with persistence_auditor."""
    with connect_pinned(dsn) as connection:
        return {label: (status, at, message) for label, status, at, message in connection.execute(_VERIFIED)}


async def _check_contents(server: ScratchServer, backup: Backup, settings: Settings, findings: dict[str, Any]) -> None:
    admin_dsn = superuser_dsn(server, backup)
    disarm(admin_dsn, backup.server_version)
    _migrate(admin_dsn, backup, findings)
    create_logins(admin_dsn)
    with _timed(findings, "gates"):
        outcomes = await _gates(server, backup, settings)
    findings["checks"] = len(outcomes)
    broken = [outcome for outcome in outcomes if outcome.verdict in {"violated", "failed"} and outcome.check.severity == "error"]
    if broken:
        findings["broken"] = [outcome.check.id for outcome in broken]
        raise BackupRefused(
            f"backup {backup.label}: what it holds breaks the law: {'; '.join(_words(outcome) for outcome in broken[:3])}"
        )
    with _timed(findings, "indexes"):
        _check_indexes(server, backup, settings)


def _migrate(admin_dsn: str, backup: Backup, findings: dict[str, Any]) -> None:
    """A backup may be older than this package: it is brought to its schema, as it would be after a restore."""
    migrator = Migrator(admin_dsn)
    try:
        status = migrator.status()
        if not status.is_current:
            findings["migrated_from"] = status.current
            migrator.up()
    except PersistenceError as error:
        raise BackupRefused(f"backup {backup.label}: it cannot be migrated: {error.message}") from error


async def _gates(server: ScratchServer, backup: Backup, settings: Settings) -> Sequence[Outcome]:
    """All suites, the replay among them, as an ordinary auditor and an ordinary service."""
    checks = [check for check in shipped_suites() if check.name not in OF_THE_MOMENT]
    runner = Runner(
        server.dsn(AUDIT_LOGIN, backup.database),
        server.dsn(SERVICE_LOGIN, backup.database),
        settings,
        Options(timeout=6 * 3600),
    )
    try:
        return await runner.run(checks)
    except PersistenceError as error:
        raise BackupRefused(f"backup {backup.label}: its gates cannot be run: {error.message}") from error


def _check_indexes(server: ScratchServer, backup: Backup, settings: Settings) -> None:
    """amcheck: every B-tree is in order and knows every row, every table can be read."""
    status, words = run_program(
        "pg_amcheck",
        f"--host={server.socket}",
        f"--username={backup.superuser}",
        "--no-password",
        "--install-missing",
        "--heapallindexed",
        backup.database,
        folder=settings.programs_dir,
    )
    if status != 0:
        raise BackupRefused(f"backup {backup.label}: amcheck: {' | '.join(words[:3])}")


def superuser_dsn(server: ScratchServer, backup: Backup) -> str:
    """The superuser's way into the copy."""
    return server.dsn(backup.superuser, backup.database)


def _words(outcome: Outcome) -> str:
    if outcome.problem:
        return f"{outcome.check.name}: {outcome.problem}"
    first = outcome.violations[0]
    return f"{outcome.check.name}: {first.object}: {first.detail}"


@contextmanager
def _timed(findings: dict[str, Any], name: str) -> Iterator[None]:
    """Notes in ``findings`` how long something took."""
    begun = time.monotonic()
    try:
        yield
    finally:
        findings[f"{name}_seconds"] = round(time.monotonic() - begun, 3)
