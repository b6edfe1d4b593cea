"""Where lines go: a bounded queue, and a thread that writes them."""

import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from persistence.errors import ConfigurationError, InvalidInput
from persistence.logs.configuration import FILE, LEVELS, NAME, LogConfig, read_log_config
from persistence.logs.files import LogFile, stream_path
from persistence.logs.redaction import SHARED, Redactions
from persistence.telemetry import LOG_LINES, LOG_LINES_DROPPED, trace_ids

_MOST_AT_ONCE: Final = 2_000
_RETRY: Final = 0.2
_RELOAD: Final = 1.0
_STREAM: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_LONGEST_TEXT: Final = 65_536
_HEAD: Final = frozenset({"timestamp", "level", "agent", "event", "summary"})

Line = tuple[float, str, str, str, str, str | None, Mapping[str, Any] | None]


class LogSink:
    """Lines of one process, on their way to files. Calls may come from any thread; they never wait."""

    def __init__(
        self, config: LogConfig, output: Path, *, watch: Path | None = None, also: Callable[[bytes], None] | None = None
    ) -> None:
        """output: the file of lines that are of no stream. watch: a configuration folder that is looked at every second. also: is given each
        line, too.
        """
        self.output = output
        self.config = config
        self.lowest = config.lowest
        self.redactions = Redactions(config.redact)
        self.dropped = 0
        """Lines that found no room since the last that said so."""
        self.on_reload: Callable[[LogSink], None] = lambda sink: None
        """Told when the configuration was read again."""
        self._counting = threading.Lock()
        self._also = also
        self._watch = watch
        self._default_output = output
        self._stamp = _stamp_of(watch)
        self._queue: deque[Line] = deque()
        self._files: dict[str | None, LogFile] = {}
        self._left: dict[str | None, list[bytes]] = {}
        self._work = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._is_open = True
        self._second = (0, "")
        self._thread = threading.Thread(target=self._keep, name="persistence-logs", daemon=True)
        self._thread.start()

    def put(
        self,
        level: str,
        agent: str,
        event: str,
        summary: str,
        *,
        stream: str | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """Takes a line in. fields: JSON, or what can be written as text; they are not copied."""
        if LEVELS.get(level, 20) < self.lowest:
            return
        if stream is not None and not (isinstance(stream, str) and _STREAM.fullmatch(stream)):
            stream, fields = None, {**(fields or {}), "stream": str(stream)[:200]}
        if len(self._queue) >= self.config.queue:
            self._drop(1)
            return
        self._queue.append((time.time(), level, agent, event, summary, stream, fields))
        if not self._work.is_set():
            self._work.set()

    def flush(self, timeout: float = 5.0) -> bool:
        """Waits until what was taken in is written. False where that took too long."""
        deadline = time.monotonic() + timeout
        while self._queue or not self._idle.is_set():
            self._work.set()
            if time.monotonic() > deadline or not self._thread.is_alive():
                return False
            time.sleep(0.001)
        return not any(self._left.values())

    def close(self) -> None:
        """Writes what is there, and ends."""
        self.flush()
        self._is_open = False
        self._work.set()
        self._thread.join(timeout=5)
        for file in self._files.values():
            file.close()

    def _keep(self) -> None:
        looked = time.monotonic()
        while self._is_open:
            self._work.wait(_RETRY if any(self._left.values()) else _RELOAD)
            self._work.clear()
            self._idle.clear()
            try:
                while self._queue:
                    self._write_some()
                if any(self._left.values()) or self.dropped:
                    self._write({})
            except Exception:  # whatever it is, the lines to come are not to be lost with it
                self._drop(1)
            finally:
                self._idle.set()
            if time.monotonic() - looked > _RELOAD:
                looked = time.monotonic()
                with suppress(Exception):
                    self._reload()

    def _write_some(self) -> None:
        parts: dict[str | None, list[bytes]] = {}
        take, encode = self._queue.popleft, self._encoded
        stream, into = None, parts.setdefault(None, [])
        for _ in range(min(len(self._queue), _MOST_AT_ONCE)):
            line = take()
            if line[5] != stream:
                stream = line[5]
                into = parts.setdefault(stream, [])
            try:
                into.append(encode(line))
            except Exception as error:
                into.append(
                    encode(
                        (
                            line[0],
                            line[1],
                            str(line[2])[:200],
                            str(line[3])[:200],
                            f"a line that cannot be written: {type(error).__name__}",
                            None,
                            None,
                        )
                    )
                )
        parts = {stream: SHARED.cleaned(lines) for stream, lines in parts.items() if lines}
        if self._also is not None:
            for lines in parts.values():
                for text in lines:
                    self._also(text)
        self._write(parts)

    def _write(self, parts: dict[str | None, list[bytes]]) -> None:
        for stream in {*parts, *self._left}:
            lines = [*self._left.pop(stream, ()), *parts.get(stream, ())]
            if not lines:
                continue
            try:
                done = self._file(stream).append(b"".join(lines))
            except OSError:
                done = 0
            at = 0
            while at < len(lines) and done >= len(lines[at]):
                done -= len(lines[at])
                at += 1
            LOG_LINES.inc(at)
            rest = lines[at:]
            if len(rest) > self.config.queue:
                self._drop(len(rest) - self.config.queue)
                rest = rest[-self.config.queue :]
            if rest:
                self._left[stream] = rest
        if self.dropped and not self._left:
            self._say_dropped()

    def _drop(self, count: int) -> None:
        with self._counting:
            self.dropped += count
        LOG_LINES_DROPPED.inc(count)

    def _say_dropped(self) -> None:
        dropped = self.dropped
        line = (time.time(), "warning", "system:logs", "lines_dropped", f"{dropped} lines were lost", None, {"count": dropped})
        with suppress(OSError):
            if self._file(None).append(self._encoded(line)):
                with self._counting:
                    self.dropped -= dropped

    def _encoded(self, line: Line) -> bytes:
        moment, level, agent, event, summary, _, fields = line
        document: dict[str, Any] = {
            "timestamp": self._timestamp(moment),
            "level": level,
            "agent": agent,
            "event": event,
            "summary": summary,
        }
        if fields:
            said = self.redactions.without_named(fields)
            if not _HEAD.isdisjoint(said):
                said = {name if name not in _HEAD else f"{name}_": value for name, value in said.items()}
            document.update(said)
        try:
            text = orjson.dumps(document, default=_as_text, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
        except (orjson.JSONEncodeError, RecursionError, TypeError, ValueError):
            text = orjson.dumps(_readable(document), option=orjson.OPT_APPEND_NEWLINE)
        return text

    def _timestamp(self, moment: float) -> str:
        second = int(moment)
        if second != self._second[0]:
            self._second = (second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S"))
        return f"{self._second[1]}.{int((moment - second) * 1_000_000):06d}Z"

    def _file(self, stream: str | None) -> LogFile:
        file = self._files.get(stream)
        if file is None:
            size = max(1024, int(self.config.rotate_size_mb * 1024 * 1024))
            file = LogFile(stream_path(self.output, stream), rotate_bytes=size, max_days=self.config.max_days)
            self._files[stream] = file
        return file

    def _reload(self) -> None:
        """Takes on what logging.yaml says now; what is wrong with it is a line, and what held before holds on."""
        if self._watch is None or (stamp := _stamp_of(self._watch)) == self._stamp:
            return
        self._stamp = stamp
        try:
            config = read_log_config(self._watch)
            output = config.output or self._default_output
            if "\0" in str(output):
                raise ConfigurationError(f"{self._watch / FILE}: logging.output: is no path")
        except Exception as error:
            message = error.message if isinstance(error, ConfigurationError) else f"{self._watch / FILE}: {type(error).__name__}"
            self.put("error", "system:logs", "configuration_refused", message)
            return
        for file in self._files.values():
            file.close()
        self._files.clear()
        self.config, self.lowest = config, config.lowest
        self.output = output
        self.redactions = Redactions(config.redact)
        self._also = _otel if config.otel else None
        self.on_reload(self)
        self.put("info", "system:logs", "configuration_read", f"logging at {config.level} into {self.output}")


def open_logs(folder: Path, data_dir: Path) -> LogSink:
    """The logs of a process, as the configuration folder says, and goes on to say. Raises ConfigurationError."""
    config = read_log_config(folder)
    also = _otel if config.otel else None
    sink = LogSink(config, config.output or data_dir / "logs" / NAME, watch=folder, also=also)
    sink._default_output = data_dir / "logs" / NAME
    return sink


def check_stream(stream: str | None) -> str | None:
    """The same, if it can name a file. Raises InvalidInput."""
    if stream is not None and not _STREAM.fullmatch(stream):
        raise InvalidInput(
            f"stream: {stream!r} is no name of a stream", hint="small letters, digits, - and _, such as engine", field="stream"
        )
    return stream


def _otel(line: bytes) -> None:
    """Gives a line to the OpenTelemetry logs that this process has set up; without any that is nothing."""
    from opentelemetry._logs import (  # noqa: PLC0415
        LogRecord,
        SeverityNumber,
        get_logger,
    )

    said = orjson.loads(line)
    severity = {
        10: SeverityNumber.DEBUG,
        20: SeverityNumber.INFO,
        30: SeverityNumber.WARN,
        40: SeverityNumber.ERROR,
        50: SeverityNumber.FATAL,
    }
    moment = int(datetime.fromisoformat(said.pop("timestamp")).timestamp() * 1_000_000) * 1000
    level = said.pop("level")
    get_logger("persistence.logs").emit(
        LogRecord(
            timestamp=moment,
            observed_timestamp=time.time_ns(),
            severity_number=severity[LEVELS.get(level, 20)],
            severity_text=level.upper(),
            body=said.pop("summary"),
            attributes={
                name: value if isinstance(value, str | int | float | bool) else orjson.dumps(value).decode()
                for name, value in said.items()
            },
        )
    )


def _stamp_of(folder: Path | None) -> tuple[int, int] | None:
    if folder is None:
        return None
    try:
        found = os.stat(folder / FILE)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _as_text(value: Any) -> str:
    try:
        return str(value)[:_LONGEST_TEXT]
    except Exception as error:
        return f"({type(value).__name__}, which raises {type(error).__name__} when asked)"


def _readable(value: Any, depth: int = 0) -> Any:
    """What JSON cannot express, put so that it can: half surrogates, integers beyond 64 bits, what is nested too deep."""
    if depth > 20:
        return "…"
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, Mapping):
        return {_readable(str(name)): _readable(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(item, depth + 1) for item in value]
    return _readable(_as_text(value))


def traced() -> dict[str, str]:
    """Where the caller stands in a distributed trace, as fields."""
    return trace_ids()
