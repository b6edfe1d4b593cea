"""The log as OCEL 2.0: events, each related to all the objects it is about (signal, run, step, tool call, effect, memory, actor).

As JSON or as SQLite, after https://www.ocel-standard.org. An event of the log is an event of OCEL under its own id; an aggregate is an object,
with its status as an attribute that changes over time.
"""

from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

from persistence.canon import CANON
from persistence.exporting.activities import resource_of
from persistence.exporting.ocel_json import JsonFile
from persistence.exporting.ocel_parts import ACTOR, OcelFile, OcelObject
from persistence.exporting.ocel_sqlite import SqliteFile
from persistence.exporting.report import ExportReport, whole
from persistence.models import Event
from persistence.queries.stories import Story

SIGNAL_OF_CASE: Final = "xes.case"
_NAMES: Final = {
    "SIGNAL": "signal_type",
    "RUN": "run_type",
    "STEP": "step_type",
    "TOOL_CALL": "tool_name",
    "EFFECT": "effect_type",
    "MEMORY": "agent",
}


async def write_ocel(path: Path, stories: AsyncIterator[Story]) -> ExportReport:
    """Writes a file: SQLite where its name ends in .sqlite or .db, else JSON. What belongs to several runs is written once."""
    report = ExportReport(path)
    with whole(path) as place:
        file: OcelFile = SqliteFile(place) if path.suffix in {".sqlite", ".db"} else JsonFile(place)
        try:
            await _write(file, stories, report)
        finally:
            file.close()
    return report


async def _write(file: OcelFile, stories: AsyncIterator[Story], report: ExportReport) -> None:
    written: set[UUID] = set()
    seen: set[str] = set()
    actors: set[str] = set()
    async for story in stories:
        report.cases += 1
        for event in story.events:
            if event.id in written:
                continue
            if event.aggregate_type == "SIGNAL":  # it may have begun other runs, too
                written.add(event.id)
            actors.add(event.actor)
            file.add_event(event, _related(event, story))
            report.events += 1
        for item in _objects(story, seen):
            if item.id not in seen:
                if item.kind in {"SIGNAL", "RUN"}:
                    seen.add(item.id)
                file.add_object(item)
                report.objects += 1
    for actor in sorted(actors):
        file.add_object(OcelObject(actor, ACTOR, resource_of(actor) or actor))
        report.objects += 1


def _related(event: Event, story: Story) -> list[tuple[str, str]]:
    """The objects that an event is about: its own aggregate, what that belongs to up to the signal, and who acted."""
    chain = [(str(event.aggregate_id), event.aggregate_type.lower())]
    above = story.parents.get(event.aggregate_id)
    while above is not None and above != story.run.id:
        chain.append((str(above), story.kinds[above]))
        above = story.parents.get(above)
    if event.aggregate_type not in {"RUN", "SIGNAL"}:
        chain.append((str(story.run.id), "run"))
    if story.signal is not None and event.aggregate_type != "SIGNAL":
        chain.append((str(story.signal.id), "signal"))
    return [*chain, (event.actor, "actor")]


def _objects(story: Story, seen: Collection[str]) -> Iterator[OcelObject]:
    items: dict[UUID, OcelObject] = {}
    standing: dict[UUID, str] = {}
    for event in story.events:
        item = items.get(event.aggregate_id)
        if item is None:
            item = items[event.aggregate_id] = OcelObject(str(event.aggregate_id), event.aggregate_type, "")
            parent = story.parents.get(event.aggregate_id)
            if parent is not None:
                item.related.append((str(parent), story.kinds.get(parent, "step")))
            if event.aggregate_id == story.run.id:
                item.related += [(str(story.signal.id), "signal")] if story.signal else []
                item.related += [(str(story.run.parent_run_id), "parent")] if str(story.run.parent_run_id) in seen else []
        if event.event_data.get("signal_type") == SIGNAL_OF_CASE:
            item.name = str(event.event_data["source_id"])
        item.name = item.name or str(event.event_data.get(_NAMES.get(event.aggregate_type, "label"), ""))
        status = CANON.transitions[event.aggregate_type][event.event_type].target
        if standing.get(event.aggregate_id) != status:
            item.statuses.append((event.occurred_at, status))
        standing[event.aggregate_id] = status
    if story.signal is not None and story.signal.signal_type == SIGNAL_OF_CASE and story.run.id in items:
        items[story.run.id].name = story.signal.source_id
    yield from items.values()
