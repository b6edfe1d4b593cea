"""Where backups lie, and what each is."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import structlog
from pydantic import Field, ValidationError

from persistence.errors import NotFound, PersistenceError
from persistence.models import Model
from persistence.settings import Settings

_log = structlog.get_logger(__name__)

_DESCRIPTION = "backup.json"
_LABEL = r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,199}"
# What could be an option, a connection string or a path is no name.
_NAME = r"^[^-=:/\s][^=:/\s]*$"


class BackupRefused(PersistenceError):
    """A backup cannot be trusted. The message names it and what is wrong."""


class Backup(Model):
    """One backup. parent: the label of the backup that it continues; None for a whole one. size: bytes on disk.

    of_snapshot: taken for a snapshot of the system, and deleted when none needs it.
    timeline: of the cluster's history: a restored cluster is on another. superuser: who can log in to a copy of it.
    """

    label: str
    kind: Literal["full", "incremental"]
    parent: str | None
    database: str = Field(pattern=_NAME)
    taken_at: datetime
    seconds: float
    server_version: str = Field(pattern=r"^[0-9]{2}\b")
    system_identifier: str
    timeline: int
    superuser: str = Field(pattern=_NAME)
    size: int
    of_snapshot: bool = False

    @property
    def ended_at(self) -> datetime:
        """From when on the copy is consistent."""
        return self.taken_at + timedelta(seconds=self.seconds)


class BackupStore:
    """The backups of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, settings: Settings) -> "BackupStore":
        """Where the settings say."""
        return cls((settings.backup_dir or settings.data_dir / "backups").expanduser().resolve())

    def place(self, label: str) -> Path:
        """The folder of one backup. Raises NotFound for what cannot be a label."""
        if not re.fullmatch(_LABEL, label):
            raise NotFound(f"{label!r} is no label of a backup", hint="persistence backup list")
        return self.folder / label

    def base(self, label: str) -> Path:
        """The copy of the cluster in it."""
        return self.place(label) / "base"

    def new_label(self) -> str:
        """A label by the present moment, in UTC, to the second; numbered where there is one already."""
        label = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        number = 1
        while self.place(label).exists():
            number += 1
            label = f"{label.split('.')[0]}.{number}"
        return label

    def all(self) -> Sequence[Backup]:
        """All that are complete, oldest first. One whose description cannot be read is logged, and left out."""
        found = []
        for place in self.folder.iterdir() if self.folder.is_dir() else ():
            if (place / _DESCRIPTION).is_file():
                try:
                    found.append(self.get(place.name))
                except BackupRefused as refusal:
                    _log.warning("backup_unreadable", backup=place.name, error=refusal.message)
        return sorted(found, key=lambda backup: (backup.taken_at, backup.label))

    def get(self, label: str) -> Backup:
        """Raises NotFound, or BackupRefused for a description that cannot be read."""
        path = self.place(label) / _DESCRIPTION
        try:
            return Backup.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            known = ", ".join(backup.label for backup in self.all()) or "none"
            raise NotFound(f"there is no backup {label!r} in {self.folder}", hint=f"there are: {known}") from None
        except ValidationError as error:
            raise BackupRefused(f"backup {label}: {path} cannot be read: {error.errors()[0]['msg']}") from error

    def newest(self) -> Backup:
        """Raises NotFound when there is none."""
        backups = self.all()
        if not backups:
            raise NotFound(f"there is no backup in {self.folder}", hint="persistence backup create")
        return backups[-1]

    def chain(self, label: str) -> Sequence[Backup]:
        """A backup and those it continues, the whole one first. Raises BackupRefused for one that is missing."""
        backup = self.get(label)
        links = [backup]
        while backup.parent is not None:
            try:
                backup = self.get(backup.parent)
            except NotFound:
                raise BackupRefused(
                    f"backup {label}: it continues {backup.parent}, which is gone", hint="take a whole one"
                ) from None
            links.append(backup)
        return links[::-1]

    def describe(self, backup: Backup) -> None:
        """Makes a backup complete: until then it does not count."""
        path = self.place(backup.label) / _DESCRIPTION
        scratch = path.with_suffix(".new")
        scratch.write_text(backup.model_dump_json(indent=2) + "\n", encoding="utf-8")
        scratch.rename(path)
