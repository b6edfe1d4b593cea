"""The log as IEEE XES (IEEE 1849-2016): one trace a run, one event for each step of the life of a step, tool call or effect."""

import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from lxml import etree

from persistence.encoding import xml_text
from persistence.exporting.activities import Activities, Activity
from persistence.exporting.report import ExportReport, whole
from persistence.queries.stories import Story

_NAMESPACE: Final = "http://www.xes-standard.org/"
_EXTENSIONS: Final = (
    ("Concept", "concept", "http://www.xes-standard.org/concept.xesext"),
    ("Lifecycle", "lifecycle", "http://www.xes-standard.org/lifecycle.xesext"),
    ("Organizational", "org", "http://www.xes-standard.org/org.xesext"),
    ("Time", "time", "http://www.xes-standard.org/time.xesext"),
    ("Identity", "identity", "http://www.xes-standard.org/identity.xesext"),
)
_SIGNAL_OF_CASE: Final = "xes.case"


async def write_xes(path: Path, stories: AsyncIterator[Story]) -> ExportReport:
    """Writes a file, gzipped where its name ends in .gz; a case is called after its signal's source, where it came from a log, else after its run."""
    report = ExportReport(path)
    with ExitStack() as stack:
        raw: Any = stack.enter_context(stack.enter_context(whole(path)).open("wb"))
        if path.suffix == ".gz":
            raw = stack.enter_context(gzip.GzipFile(fileobj=raw, mode="wb"))
        file: Any = stack.enter_context(etree.xmlfile(raw, encoding="utf-8"))
        file.write_declaration()
        with file.element("log", {"xes.version": "1849-2016", "xes.features": "nested-attributes"}, nsmap={None: _NAMESPACE}):
            for name, prefix, uri in _EXTENSIONS:
                file.write(etree.Element("extension", name=name, prefix=prefix, uri=uri))
            file.write(etree.Element("classifier", name="Activity", keys="concept:name"))
            file.write(etree.Element("classifier", name="Activity and transition", keys="concept:name lifecycle:transition"))
            async for story in stories:
                report.cases += 1
                trace = _trace(story)
                report.events += len(trace.findall("event"))
                file.write(trace)
    return report


def _trace(story: Story) -> Any:
    trace = etree.Element("trace")
    signal = story.signal
    is_case = signal is not None and signal.signal_type == _SIGNAL_OF_CASE
    _add(trace, "concept:name", signal.source_id if signal is not None and is_case else str(story.run.id))
    facts: dict[str, Any] = {"run:type": story.run.run_type, "run:status": story.run.status}
    if signal is not None and isinstance(signal.payload, dict):
        facts |= signal.payload
    for key, value in facts.items():
        if key != "concept:name":
            _add(trace, key, value)
    known = Activities()
    for event in story.events:
        activity = known.of(event)
        if activity is not None:
            trace.append(_event(activity))
    return trace


def _event(activity: Activity) -> Any:
    element = etree.Element("event")
    _add(element, "concept:name", activity.name)
    _add(element, "lifecycle:transition", activity.transition)
    if activity.resource is not None:
        _add(element, "org:resource", activity.resource)
    _add(element, "time:timestamp", activity.time)
    etree.SubElement(element, "id", key="identity:id", value=str(activity.event.id))
    for key, value in activity.attributes.items():
        _add(element, key, value)
    return element


def _add(parent: Any, key: str, value: Any) -> None:
    """Adds an attribute by the type of its value; JSON's null has none and is left out."""
    key = xml_text(key)
    if value is None:
        return
    if isinstance(value, bool):
        etree.SubElement(parent, "boolean", key=key, value=str(value).lower())
    elif isinstance(value, int):
        etree.SubElement(parent, "int" if abs(value) < 2**63 else "string", key=key, value=str(value))
    elif isinstance(value, float):
        etree.SubElement(parent, "float", key=key, value=repr(value))
    elif isinstance(value, datetime):
        etree.SubElement(parent, "date", key=key, value=value.isoformat(timespec="microseconds"))
    elif isinstance(value, Mapping):
        nested = etree.SubElement(parent, "container", key=key)
        for name, item in value.items():
            _add(nested, str(name), item)
    elif isinstance(value, list):
        listed = etree.SubElement(etree.SubElement(parent, "list", key=key), "values")
        for item in value:
            _add(listed, key, item)
    else:
        text = str(value)
        moment = _moment(text)
        etree.SubElement(
            parent, "string" if moment is None else "date", key=key, value=xml_text(text) if moment is None else moment
        )


def _moment(text: str) -> str | None:
    """A time with a zone, as XES writes it; None for other text."""
    if len(text) < len("2026-01-31T12:00Z") or text[4:5] != "-" or "T" not in text[:11]:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.isoformat() if moment.tzinfo else None
