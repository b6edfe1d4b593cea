"""The log in files that are signed: who holds them can prove what it said, and finds what was changed, left out or cut off since.

A folder has segments, ``segment-000001.jsonl`` and so on: a line for each event, with its position. Beside each stands ``segment-000001.json``:
what it begins and ends with, SHA-256 of its bytes and of the file that stands beside the segment before it, and an Ed25519 signature (RFC 8032) of
all that. ``open.jsonl`` is the one that is being written.
"""

import base64
import fcntl
import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import BaseModel, ConfigDict, ValidationError

from persistence.encoding import encode
from persistence.errors import ConfigurationError, Conflict, InvalidInput
from persistence.models import Event, Position

SEGMENT: Final = 10_000
"""Events of one file."""

_OPEN: Final = "open.jsonl"
_LOCK: Final = ".lock"
_NOTHING: Final = "0" * 64


class Seal(BaseModel):
    """What stands beside a segment. first, last: positions; digest: SHA-256 of the segment; previous: of the seal before this one, or zeros; key:
    the public key, raw, in base64; signature: of all the rest as JSON with its keys in order.
    """

    model_config = ConfigDict(extra="forbid")

    number: int
    channel: str
    events: int
    first: str
    last: str
    digest: str
    previous: str
    closed_at: datetime
    key: str
    signature: str = ""

    def signed(self) -> bytes:
        """What the signature is of."""
        return json.dumps(self.model_dump(mode="json", exclude={"signature"}), sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Verdict:
    """What an archive is found to be. segments, events: that are sealed; last: where they end; unsealed: events in the open file, which nothing
    proves yet; problems: what was changed, left out or cut off.
    """

    segments: int
    events: int
    last: Position
    unsealed: int
    problems: Sequence[str]


def make_key(path: Path) -> Path:
    """Makes a key to sign with, which only its owner may read, and beside it ``.pub``, which everybody may. Returns that. Raises InvalidInput
    where one is there.
    """
    key = Ed25519PrivateKey.generate()
    public = path.with_name(path.name + ".pub")
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except FileExistsError:
        raise InvalidInput(f"{path} is there already", hint="choose another name", field="path") from None
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return public


def read_key(path: Path) -> Ed25519PrivateKey:
    """A key to sign with. Raises ConfigurationError."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{path}: {error}", hint="persistence streams key makes one") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path} is no Ed25519 key", hint="persistence streams key makes one")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """A key to check with. Raises ConfigurationError."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: {error}", hint="the file .pub beside the key that signed") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError(f"{path} is no Ed25519 key", hint="the file .pub beside the key that signed")
    return key


class Archive:
    """A folder that is written. Use it as ``with Archive(…) as archive``; one process at a time. ``position`` is where to go on from."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey, channel: str, *, segment: int = SEGMENT) -> None:
        """channel: what is archived; a folder has one. segment: events of one file."""
        self._folder = folder
        self._key = key
        self._channel = channel
        self._segment = segment
        self._lock = -1
        self._file: Any = None
        self._events = 0
        self._first = ""
        self._seal: Seal | None = None
        self.position = Position()

    def __enter__(self) -> "Archive":
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigurationError(f"{self._folder}: others may write in it", hint=f"chmod go-w {self._folder}")
        self._lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Conflict(f"{self._folder} is being written", hint="one process at a time") from None
            self._resume()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        os.close(self._lock)

    def add(self, events: Sequence[tuple[Event, Position]]) -> None:
        """Writes events behind what is there, on the disk when this returns; those that are there already are left out. Raises OSError."""
        for event, position in events:
            if position <= self.position:
                continue
            self._file.write(encode({"position": str(position), "event": event.model_dump(mode="json")}).encode() + b"\n")
            self._first = self._first or str(position)
            self.position = position
            self._events += 1
            if self._events >= self._segment:
                self.seal()
        self._file.flush()
        os.fsync(self._file.fileno())

    def seal(self) -> None:
        """Closes the open file, if it has anything, and signs it."""
        if not self._events:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.seek(0)
        content = self._file.read()
        self._file.close()
        number = self._seal.number + 1 if self._seal else 1
        seal = Seal(
            number=number,
            channel=self._channel,
            events=self._events,
            first=self._first,
            last=str(self.position),
            digest=sha256(content).hexdigest(),
            previous=_digest_of(self._folder, self._seal),
            closed_at=datetime.now(UTC),
            key=_raw(self._key.public_key()),
        )
        seal = seal.model_copy(update={"signature": base64.b64encode(self._key.sign(seal.signed())).decode()})
        _write(_seal_file(self._folder, number), seal.model_dump_json(indent=1).encode())
        (self._folder / _OPEN).rename(_segment_file(self._folder, number))
        _sync(self._folder)
        self._seal, self._events, self._first = seal, 0, ""
        self._file = _begun(self._folder / _OPEN)

    def _resume(self) -> None:
        """Goes on behind the last seal, however it stopped: one whose segment has not its name yet gives it. What nothing had signed is read from
        the log again, since anybody could have written it.
        """
        seals = list(_seals(self._folder))
        self._seal = seals[-1] if seals else None
        if self._seal is not None:
            if self._seal.channel != self._channel:
                raise InvalidInput(
                    f"channel: {self._folder} archives {self._seal.channel}, not {self._channel}",
                    hint="choose another folder",
                    field="channel",
                )
            if self._seal.key != _raw(self._key.public_key()):
                raise InvalidInput(
                    f"key: {self._folder} is signed with another key", hint="a folder has one; begin another", field="key"
                )
            self.position = Position.parse(self._seal.last)
            segment = _segment_file(self._folder, self._seal.number)
            if not segment.exists():
                if not (self._folder / _OPEN).is_file():
                    raise InvalidInput(f"{segment.name}: is gone, and its seal is there", hint="verify says more", field="folder")
                (self._folder / _OPEN).rename(segment)
                _sync(self._folder)
        self._file = _begun(self._folder / _OPEN)


def verify(folder: Path, key: Ed25519PublicKey, *, reaches: Position | None = None) -> Verdict:
    """Whether an archive is what was written: every signature, digest and link, and the order of all positions. reaches: a position that its
    sealed part must come to: segments that were cut off at the end are found by nothing else. Raises InvalidInput where there is no archive.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is no folder", hint="that of persistence streams archive", field="folder")
    problems: list[str] = []
    previous: Seal | None = None
    position = Position()
    events = segments = 0
    known = {path.name for path in folder.glob("segment-*.json*")}
    try:
        for seal in _seals(folder):
            name = _segment_file(folder, seal.number).name
            known -= {name, _seal_file(folder, seal.number).name}
            segments += 1
            problems += [f"{name}: {problem}" for problem in _problems_of(folder, seal, previous, key)]
            found, position, unordered = _read(_segment_file(folder, seal.number), position)
            problems += [f"{name}: {problem}" for problem in unordered]
            if found != seal.events or str(position) != seal.last:
                problems.append(f"{name}: has {found} events to {position}; the seal says {seal.events} to {seal.last}")
            events += found
            previous = seal
    except (ValidationError, ValueError) as error:
        problems.append(f"a seal cannot be read: {str(error).splitlines()[0]}")
    problems += [f"{name}: belongs to no seal in order" for name in sorted(known)]
    if reaches is not None and position < reaches:
        problems.append(f"ends at {position}, before {reaches}")
    unsealed, _, unordered = _read(folder / _OPEN, position, is_open=True)
    problems += [f"{_OPEN}: {problem}" for problem in unordered]
    return Verdict(segments, events, position, unsealed, problems)


def _problems_of(folder: Path, seal: Seal, previous: Seal | None, key: Ed25519PublicKey) -> Iterator[str]:
    if seal.key != _raw(key):
        yield "is signed with another key"
    else:
        try:
            key.verify(base64.b64decode(seal.signature), seal.signed())
        except (InvalidSignature, ValueError):
            yield "the signature is not of this seal"
    if seal.number != (previous.number + 1 if previous else 1):
        yield "the segment before it is missing"
    if seal.previous != _digest_of(folder, previous):
        yield "the seal before it is another than when this was signed"
    if previous is not None and seal.channel != previous.channel:
        yield f"is of {seal.channel}, the one before it of {previous.channel}"
    try:
        if sha256(_segment_file(folder, seal.number).read_bytes()).hexdigest() != seal.digest:
            yield "was changed since it was signed"
    except FileNotFoundError:
        yield "is missing"


def _read(path: Path, after: Position, *, is_open: bool = False) -> tuple[int, Position, list[str]]:
    """The number of events of a file, the last position, and what is wrong with their order."""
    count, problems = 0, []
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return 0, after, []
    for number, line in enumerate(lines, 1):
        if not line or (is_open and number == len(lines)):  # what is being written
            continue
        count += 1
        try:
            position = Position.parse(json.loads(line)["position"])
        except (ValueError, KeyError, TypeError):
            problems.append(f"line {number} cannot be read")
            continue
        if position <= after:
            problems.append(f"line {number} is not behind the one before it")
        after = position
    return count, after, problems


def _begun(path: Path) -> Any:
    """A new file in this place, which only its owner may read: what was there, a link perhaps, goes, and what that named stays as it is."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w+b")


def _seals(folder: Path) -> Iterator[Seal]:
    for path in sorted(folder.glob("segment-*.json")):
        yield Seal.model_validate_json(path.read_bytes())


def _seal_file(folder: Path, number: int) -> Path:
    return folder / f"segment-{number:06}.json"


def _segment_file(folder: Path, number: int) -> Path:
    return folder / f"segment-{number:06}.jsonl"


def _digest_of(folder: Path, seal: Seal | None) -> str:
    return _NOTHING if seal is None else sha256(_seal_file(folder, seal.number).read_bytes()).hexdigest()


def _raw(key: Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def _write(path: Path, content: bytes) -> None:
    """The whole file, or none."""
    draft = path.with_name(path.name + ".draft")
    with _begun(draft) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
