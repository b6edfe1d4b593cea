"""IEEE XES event logs (IEEE 1849-2016), plain or gzipped, read as a stream of traces."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from lxml import etree

from persistence.errors import ImportFailed
from persistence.xes import as_json, kept_key, text_of

_KNOWN = frozenset({"concept:name", "lifecycle:transition", "org:resource", "time:timestamp"})


@dataclass(frozen=True, slots=True)
class XesEvent:
    """One event of a trace. transition: in lower case, ``complete`` when the log has none; lifecycle: as the log has it.
    attributes: all others, by the keys that ``kept_key`` gives.
    """

    activity: str
    transition: str
    lifecycle: Any
    resource: Any
    time: datetime
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class XesTrace:
    """One case. name: the text of its concept:name. line: where it begins in the file."""

    name: str
    line: int
    attributes: dict[str, Any]
    events: list[XesEvent]


class BrokenTrace(Exception):
    """One trace cannot be read; those after it can."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")


class XesFile:
    """A log file. ``position`` and ``size`` are bytes, for progress."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.log_name: str | None = None
        self._raw: IO[bytes] | None = None

    @property
    def position(self) -> int:
        return self._raw.tell() if self._raw and not self._raw.closed else 0

    def traces(self) -> Iterator[XesTrace | BrokenTrace]:
        """The traces in the order of the file. Raises ImportFailed, naming line or byte, where the file itself is damaged."""
        with self.path.open("rb") as raw:
            self._raw = raw
            source = gzip.GzipFile(fileobj=raw) if self.path.suffix == ".gz" else raw
            parser = etree.iterparse(source, events=("end",), resolve_entities=False, no_network=True, remove_comments=True)
            try:
                for _, element in parser:
                    tag = etree.QName(element).localname
                    parent = element.getparent()
                    if tag == "trace":
                        yield _trace(element)
                        _forget(element)
                    elif parent is not None and etree.QName(parent).localname == "log":
                        if tag == "string" and element.get("key") == "concept:name":
                            self.log_name = element.get("value")
                        _forget(element)
                root = parser.root
                if root is None or etree.QName(root).localname != "log":
                    name = "nothing" if root is None else f"<{etree.QName(root).localname}>"
                    raise ImportFailed(f"{self.path}: is no XES log: it holds {name}", hint="a log's outermost element is <log>")
            except etree.XMLSyntaxError as error:
                raise ImportFailed(f"{self.path}: line {error.lineno}: {error.msg}") from error
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ImportFailed(
                    f"{self.path}: byte {raw.tell()}: {error}", hint="the gzip stream is damaged or cut off"
                ) from error


def _forget(element: Any) -> None:
    """Frees what was read, so that memory does not grow with the file."""
    element.clear()
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]


def _elements(element: Any) -> Any:
    """The elements in an element: no comments, instructions or entities."""
    return element.iterchildren(etree.Element)


def _trace(element: Any) -> XesTrace | BrokenTrace:
    line = element.sourceline
    try:
        attributes: dict[str, Any] = {}
        events = []
        for child in _elements(element):
            if etree.QName(child).localname == "event":
                events.append(_event(child))
            elif child.get("key") is not None:
                attributes[child.get("key")] = _value(child)
        name = text_of(attributes.get("concept:name"))
        if not name:
            raise BrokenTrace(line, "the trace has no concept:name")
        if attributes["concept:name"] == name:  # a name of another type stays among the attributes
            del attributes["concept:name"]
        if not events:
            raise BrokenTrace(line, f"trace {name} has no events")
        return XesTrace(name, line, attributes, events)
    except BrokenTrace as problem:
        return problem


def _event(element: Any) -> XesEvent:
    found: dict[str, Any] = {}
    for child in _elements(element):
        key = child.get("key")
        if key is None:
            raise BrokenTrace(child.sourceline, "an attribute has no key")
        found[key] = _value(child)
    activity, time = text_of(found.get("concept:name")), text_of(found.get("time:timestamp"))
    if not activity:
        raise BrokenTrace(element.sourceline, "the event has no concept:name")
    if time is None:
        raise BrokenTrace(element.sourceline, f"the event {activity} has no time:timestamp")
    lifecycle = found.get("lifecycle:transition")
    attributes = {kept_key(key): value for key, value in found.items() if key not in _KNOWN}
    if found["concept:name"] != activity:  # of another type, or with attributes of its own
        attributes["concept:name"] = found["concept:name"]
    return XesEvent(
        activity=activity,
        transition=(text_of(lifecycle) or "complete").lower(),
        lifecycle=lifecycle,
        resource=found.get("org:resource"),
        time=_moment(time, element.sourceline),
        attributes=attributes,
    )


def _moment(text: str, line: int) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError):
        raise BrokenTrace(line, f"time:timestamp {text!r} is no date and time") from None
    except OverflowError:
        raise BrokenTrace(line, f"time:timestamp {text!r} is outside of the years 1 to 9999 in UTC") from None


def _value(element: Any) -> Any:
    """An attribute's value as JSON."""
    kind, key = etree.QName(element).localname, element.get("key")
    children = [child for child in _elements(element) if etree.QName(child).localname != "values"]
    items = [item for part in _elements(element) if etree.QName(part).localname == "values" for item in _elements(part)]
    pairs = [(str(item.get("key")), _value(item)) for item in children]
    try:
        if kind == "container":
            return as_json(kind, element.get("value"), key=key, values=pairs)
        values = [(str(item.get("key")), _value(item)) for item in items]
        return as_json(kind, element.get("value"), key=key, values=values, nested=pairs)
    except (KeyError, TypeError, ValueError):
        raise BrokenTrace(element.sourceline, f"{key}: {element.get('value')!r} is no {kind}") from None
