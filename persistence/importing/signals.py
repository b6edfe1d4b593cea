"""Signals in files: folders of webhook bodies, and JSON Lines."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from persistence.errors import ImportFailed, InvalidInput
from persistence.models import NewSignal


@dataclass(frozen=True, slots=True)
class BrokenSignal:
    """One signal cannot be read. place: file, and line where there are many."""

    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


class WebhookFolder:
    """A folder of GitHub webhook bodies, one JSON file each, in a folder named after the event.

    The signal's source_id is the file's path below the folder, its type ``github.EVENT`` or ``github.EVENT.ACTION``.
    """

    CHANNEL = "github"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = sorted(path.rglob("*.json"))
        if not self._files:
            raise ImportFailed(f"{path}: there is no .json file in this folder")
        self.size = sum(file.stat().st_size for file in self._files)
        self.position = 0

    def signals(self) -> Iterator[tuple[str, NewSignal | BrokenSignal]]:
        """The signals with their places, in the order of the files' names."""
        for file in self._files:
            content = file.read_bytes()
            self.position += len(content)
            yield str(file), self._signal(file, content)

    def _signal(self, file: Path, content: bytes) -> NewSignal | BrokenSignal:
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            return BrokenSignal(str(file), f"line {error.lineno}, column {error.colno}: {error.msg}")
        if not isinstance(body, dict):
            return BrokenSignal(str(file), "the body is no JSON object")
        event = file.parent.name if file.parent != self.path else file.stem.split(".")[0]
        action = body.get("action")
        kind = f"github.{event}.{action}" if isinstance(action, str) else f"github.{event}"
        return NewSignal(
            source_channel=self.CHANNEL,
            source_id=file.relative_to(self.path).as_posix(),
            signal_type=kind,
            payload=body,
        )


class SignalLines:
    """JSON Lines, plain or gzipped: each line the fields of a NewSignal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self._raw: IO[bytes] | None = None

    @property
    def position(self) -> int:
        return self._raw.tell() if self._raw and not self._raw.closed else 0

    def signals(self) -> Iterator[tuple[str, NewSignal | BrokenSignal]]:
        """The signals with their places. Empty lines are passed over."""
        with self.path.open("rb") as raw:
            self._raw = raw
            source: Any = gzip.GzipFile(fileobj=raw) if self.path.suffix == ".gz" else raw
            try:
                for number, line in enumerate(source, 1):
                    if line.strip():
                        place = f"{self.path}: line {number}"
                        yield place, _line(place, line)
            except (EOFError, OSError) as error:
                raise ImportFailed(f"{self.path}: byte {raw.tell()}: {error}", hint="the file is damaged or cut off") from error


def _line(place: str, line: bytes) -> NewSignal | BrokenSignal:
    try:
        return NewSignal.model_validate(orjson.loads(line))
    except orjson.JSONDecodeError as error:
        return BrokenSignal(place, f"column {error.colno}: {error.msg}")
    except InvalidInput as error:
        return BrokenSignal(place, error.message)
