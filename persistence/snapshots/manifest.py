"""What a snapshot says of itself."""

import re
from hashlib import sha256
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from persistence.errors import PersistenceError, first_problem

FORMAT: Final = "persistence.snapshot"
VERSION: Final = 1
MANIFEST: Final = "manifest.json"
ARCHIVE: Final = "snapshot.zip"
LARGEST_MANIFEST: Final = 64 * 1024 * 1024
FOLDER: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{6}Z", re.ASCII)

Folder = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{6}Z$")]
MemberName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}(\.jsonl|\.json)$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Kind = Literal["tenant", "agent", "conversation"]


class SnapshotRefused(PersistenceError):
    """A snapshot cannot be trusted. The message names it and what is wrong."""


class SnapshotAway(SnapshotRefused):
    """A snapshot's files cannot be reached now. That says nothing of whether it is good."""


class Part(BaseModel):
    """Of a manifest. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ManifestFile(Part):
    """A manifest as it stands in its file."""

    @property
    def encoded(self) -> bytes:
        """The file's bytes."""
        return orjson.dumps(
            self.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        )

    @property
    def digest(self) -> str:
        return sha256(self.encoded).hexdigest()


class Member(Part):
    """size: bytes as they stand in the archive, uncompressed; digest: their SHA-256. held_by: the folder whose archive has them; rows: lines in
    it.
    """

    name: MemberName
    size: int = Field(ge=0)
    rows: int = Field(ge=0)
    digest: Digest
    held_by: Folder


class Sealing(Part):
    """key_id: of the key of the tenant's snapshots that members are sealed with."""

    key_id: UUID


class Manifest(ManifestFile):
    """kind, subject: what it is of. position: of the log. parent: the snapshot that it goes on from."""

    format: Literal["persistence.snapshot"]
    version: Literal[1]
    folder: Folder
    snapshot_id: UUID
    tenant_id: UUID
    kind: Kind
    subject: str | None
    position: str = Field(pattern=r"^[0-9]{1,9}-[0-9]{1,19}-[0-9]{1,18}$")
    taken_at: str
    package: str
    canon: str
    parent: Folder | None
    parent_digest: Digest | None
    sealing: Sealing | None
    members: tuple[Member, ...] = Field(max_length=1000)

    def member(self, name: str) -> Member | None:
        return next((member for member in self.members if member.name == name), None)


def decode(raw: bytes, folder: str) -> Manifest:
    """Reads a manifest. Raises SnapshotRefused, also for one of another version."""
    try:
        said: Any = orjson.loads(raw)
        if isinstance(said, dict) and said.get("format") == FORMAT and said.get("version") != VERSION:
            raise SnapshotRefused(
                f"snapshot {folder}: is of version {said.get('version')!r}, and this package knows {VERSION}",
                hint="use the package that took it",
            )
        manifest = Manifest.model_validate(said)
    except ValidationError as error:
        field, problem = first_problem(error)
        raise SnapshotRefused(f"snapshot {folder}: manifest: {field}: {problem}") from error
    except ValueError as error:
        raise SnapshotRefused(f"snapshot {folder}: its manifest is no JSON: {error}") from error
    names = [member.name for member in manifest.members]
    if len(set(names)) != len(names):
        raise SnapshotRefused(f"snapshot {folder}: manifest: a member stands twice")
    return manifest
