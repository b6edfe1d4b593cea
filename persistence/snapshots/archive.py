"""The zip of a snapshot, written the same for the same members, and read as though an enemy had written it.

Nothing is extracted: members are read by the names that the manifest has, each up to the size that it says, and held to its digest. What else an
archive may hold (links, paths, names twice, other compressions, more than it says) is refused before a byte of it is unpacked.
"""

import errno
import stat
import zipfile
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from persistence.snapshots.manifest import LARGEST_MANIFEST, MANIFEST, Manifest, Member, SnapshotAway, SnapshotRefused, decode
from persistence.workspaces.jail import open_plain

LARGEST_MEMBER: Final = 4 * 1024 * 1024 * 1024
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_MOST: Final = 1001
_BLOCK: Final = 1024 * 1024
_ENCRYPTED: Final = 0x1
_AWAY: Final = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE})


def write_archive(path: Path, manifest: bytes, members: Mapping[str, bytes]) -> None:
    """Writes an archive of a manifest and members. Text is compressed at the lowest level."""
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED, allowZip64=True, compresslevel=1) as archive:
        for name, content in ((MANIFEST, manifest), *members.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o600) << 16
            archive.writestr(entry, content)


class Archive:
    """An archive that is read. Use it with ``with``."""

    def __init__(self, path: Path, folder: str) -> None:
        """Raises SnapshotRefused for what is no archive as this package writes it."""
        self._folder = folder
        try:
            self._file = open_plain(path)
        except FileNotFoundError:
            raise SnapshotRefused(f"snapshot {folder}: {path.name} is gone", hint="take it from a copy") from None
        except OSError as error:
            kind = SnapshotAway if error.errno in _AWAY else SnapshotRefused
            raise kind(f"snapshot {folder}: {path.name} cannot be opened: {error.strerror}") from error
        try:
            self._zip = zipfile.ZipFile(self._file)
            self._check(self._zip.infolist())
        except SnapshotRefused:
            self._file.close()
            raise
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            self._file.close()
            raise SnapshotRefused(f"snapshot {folder}: {path.name} is no archive, or is cut off: {error}") from error

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()

    def manifest(self) -> Manifest:
        """The manifest in it."""
        return decode(self.raw_manifest(), self._folder)

    def raw_manifest(self) -> bytes:
        """Its bytes."""
        return self._content(MANIFEST, LARGEST_MANIFEST, None)

    def member(self, member: Member) -> bytes:
        """The bytes of a member, which are what the manifest says. Raises SnapshotRefused."""
        content = self._content(member.name, member.size, member.size)
        if sha256(content).hexdigest() != member.digest:
            raise SnapshotRefused(f"snapshot {self._folder}: {member.name} has another digest than its manifest says")
        return content

    def _content(self, name: str, most: int, exactly: int | None) -> bytes:
        try:
            entry = self._zip.getinfo(name)
        except KeyError:
            raise SnapshotRefused(f"snapshot {self._folder}: {name} is not in its archive") from None
        if entry.file_size > most or (exactly is not None and entry.file_size != exactly):
            raise SnapshotRefused(
                f"snapshot {self._folder}: {name} is of {entry.file_size} bytes, not {exactly if exactly is not None else most}"
            )
        content = bytearray()
        try:
            with self._zip.open(entry) as file:
                while block := file.read(min(_BLOCK, most + 1 - len(content))):
                    content += block
                    if len(content) > most:
                        raise SnapshotRefused(f"snapshot {self._folder}: {name} unpacks to more than it says")
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise SnapshotRefused(f"snapshot {self._folder}: {name} cannot be unpacked: {error}") from error
        except Exception as error:  # zlib's own
            raise SnapshotRefused(f"snapshot {self._folder}: {name} cannot be unpacked: {error}") from error
        return bytes(content)

    def _check(self, entries: Iterable[zipfile.ZipInfo]) -> None:
        seen: set[str] = set()
        for number, entry in enumerate(entries):
            name = entry.filename
            problem = None
            if number >= _MOST:
                problem = f"holds more than {_MOST} members"
            elif name in seen or name.lower() in seen:
                problem = f"holds {name!r} twice"
            elif (
                "/" in name
                or "\\" in name
                or ".." in name
                or not name.isascii()
                or not name.isprintable()
                or entry.orig_filename != name
            ):
                problem = f"holds the name {name[:80]!r}"
            elif stat.S_IFMT(entry.external_attr >> 16) not in {0, stat.S_IFREG}:
                problem = f"{name} is no plain file"
            elif entry.flag_bits & _ENCRYPTED:
                problem = f"{name} has a password"
            elif entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                problem = f"{name} is compressed in a way that this package does not use"
            elif entry.file_size > LARGEST_MEMBER:
                problem = f"{name} says that it is of {entry.file_size} bytes"
            if problem:
                raise SnapshotRefused(f"snapshot {self._folder}: its archive {problem}")
            seen.add(name.lower())
