"""Backups that are proven: taken, restored somewhere quiet, and held to the law before anybody needs them.

A backup is a folder: ``base/``, a copy of the cluster as pg_basebackup makes it, whole or what changed since another, and ``backup.json``, which says
what it is. Nothing in it is ever changed. Verifying restores a copy of it on a private socket, checks files, indexes, gates and replay there,
and records what came of it as an event of the running database.
"""

from persistence.backups.restore import Restored, held, release, restore
from persistence.backups.store import Backup, BackupStore
from persistence.backups.take import take
from persistence.backups.verification import Verification, record, verifications, verify

__all__ = [
    "Backup",
    "BackupStore",
    "Restored",
    "Verification",
    "held",
    "record",
    "release",
    "restore",
    "take",
    "verifications",
    "verify",
]
