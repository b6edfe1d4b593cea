"""The log as IEEE XES (IEEE 1849-2016): one trace a run, one event for each step of the life of a step, tool call or effect."""

import gzip
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from lxml import etree

from persistence.encoding import xml_text
from persistence.exporting.activities import Activities, Activity
from persistence.exporting.report import ExportReport, whole
from persistence.queries.stories import Story
from persistence.xes import as_attribute

_NAMESPACE: Final = "http://www.xes-standard.org/"
_EXTENSIONS: Final = (
    ("Concept", "concept", "http://www.xes-standard.org/concept.xesext"),
    ("Lifecycle", "lifecycle", "http://www.xes-standard.org/lifecycle.xesext"),
    ("Organizational", "org", "http://www.xes-standard.org/org.xesext"),
    ("Time", "time", "http://www.xes-standard.org/time.xesext"),
    ("Identity", "identity", "http://www.xes-standard.org/identity.xesext"),
)
_SIGNAL_OF_CASE: Final = "xes.case"
_KINDS: Final = frozenset({"string", "date", "int", "float", "boolean", "id", "list", "container"})


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
    facts: dict[str, Any] = {
        "concept:name": signal.source_id if signal is not None and is_case else str(story.run.id),
        "run:type": story.run.run_type,
        "run:status": story.run.status,
    }
    if signal is not None and isinstance(signal.payload, dict):
        facts |= {key: value for key, value in signal.payload.items() if is_case or key != "concept:name"}
    for key, value in facts.items():
        _add(trace, key, value)
    known = Activities()
    for event in story.events:
        if story.kinds.get(story.parents.get(event.aggregate_id, story.run.id)) == "memory":
            continue  # that vectors are made of a memory is no activity of the case
        activity = known.of(event)
        if activity is not None:
            trace.append(_event(activity))
    return trace


def _event(activity: Activity) -> Any:
    element = etree.Element("event")
    _add(element, "concept:name", activity.name)
    _add(element, "lifecycle:transition", activity.transition)
    _add(element, "org:resource", activity.resource)
    _add(element, "time:timestamp", activity.time)
    if "identity:id" not in activity.attributes:
        etree.SubElement(element, "id", key="identity:id", value=str(activity.event.id))
    for key, value in activity.attributes.items():
        _add(element, key, value)
    return element


def _add(parent: Any, key: str, value: Any) -> None:
    """Adds an attribute. JSON's null is none."""
    form = as_attribute(key, value)
    if form is None:
        return
    kind, text, values, nested = form
    element = etree.SubElement(parent, kind if kind in _KINDS else "string", key=xml_text(key))
    if text is not None:
        element.set("value", xml_text(text))
    if values or kind == "list":
        place = etree.SubElement(element, "values") if kind == "list" else element
        for name, item in values:
            _add(place, name, item)
    for name, item in nested:
        _add(element, name, item)
