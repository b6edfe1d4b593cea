"""What other loggers of the process say, as lines: structlog's and Python's own."""

import logging
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from persistence.logs.redaction import SHARED
from persistence.logs.sink import LogSink, traced

_OWN = frozenset({"event", "level", "timestamp", "agent", "summary", "stream"})
_LEVELS = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}


def structlog_processor(
    sink: LogSink, agent: str, lowest: int
) -> Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]:
    """A processor that gives what structlog is told to the sink, and lets it go on where it is grave enough. agent: who logs, unless the line
    says so.
    """

    def processor(_: Any, name: str, said: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        level = str(said.get("level", name))
        event = str(said.get("event", ""))
        fields = {**traced(), **{key: value for key, value in said.items() if key not in _OWN}}
        summary = str(said.get("summary") or event.replace("_", " "))
        sink.put(level, str(said.get("agent", agent)), event, summary, stream=said.get("stream"), fields=fields)
        if logging.getLevelNamesMapping().get(level.upper(), logging.INFO) < lowest:
            raise structlog.DropEvent
        return said

    return processor


def redacting(_: Any, __: str, said: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor that takes secrets out of what goes elsewhere, such as standard error."""
    cleaned: MutableMapping[str, Any] = SHARED.document_cleaned(SHARED.without_named(said))
    return cleaned


class LineHandler(logging.Handler):
    """Gives what Python's loggers say to the sink."""

    def __init__(self, sink: LogSink, agent: str) -> None:
        super().__init__(level=sink.lowest)
        self._sink = sink
        self._agent = agent

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = {"logger": record.name, **traced()}
            if record.exc_info:
                fields["exception"] = logging.Formatter().formatException(record.exc_info)
            level = _LEVELS.get(record.levelno, "info")
            self._sink.put(level, self._agent, record.name.replace(".", "_"), record.getMessage(), fields=fields)
        except Exception:
            self.handleError(record)
