"""What goes in as XES comes out equal: cases, events, life cycle, resources, times, and attributes of every type, nested ones, too."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from persistence import Plane
from persistence.errors import ImportFailed
from persistence.exporting.xes import write_xes
from persistence.importing.importer import Importer
from persistence.models import Tenant, new_id
from persistence.queries.stories import stories

texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Cn")), min_size=0, max_size=12)
keys = st.one_of(
    texts.filter(bool), st.sampled_from(["implied", "xes:implied", "xes:type", "value", "attributes", "cost:total", "identity:id"])
)
ours = frozenset({"concept:name", "lifecycle:transition", "org:resource", "time:timestamp"})
moments = st.datetimes(datetime(1, 1, 3), datetime(2026, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001

values = st.recursive(
    st.one_of(
        st.tuples(
            st.just("string"),
            st.one_of(texts, st.sampled_from(["2011-10-01T00:38:44.546+02:00", "INF", "7", "true", " "])),
            st.just(()),
        ),
        st.tuples(st.just("int"), st.integers(-(2**70), 2**70).map(str), st.just(())),
        st.tuples(
            st.just("float"), st.one_of(st.floats(allow_nan=False).map(repr), st.sampled_from(["INF", "-INF", "1E20"])), st.just(())
        ),
        st.tuples(st.just("boolean"), st.sampled_from(["true", "false"]), st.just(())),
        st.tuples(st.just("date"), moments.map(datetime.isoformat), st.just(())),
        st.tuples(st.just("id"), st.just("f81d4fae-7dec-11d0-a765-00a0c91e6bf6"), st.just(())),
    ),
    lambda inner: st.one_of(
        st.tuples(
            st.just("string"),
            texts,
            st.lists(st.tuples(keys, inner), min_size=1, max_size=3, unique_by=lambda pair: pair[0]).map(tuple),
        ),
        st.tuples(st.just("list"), st.none(), st.lists(st.tuples(keys, inner), max_size=3).map(tuple)),
        st.tuples(
            st.just("container"), st.none(), st.lists(st.tuples(keys, inner), max_size=3, unique_by=lambda pair: pair[0]).map(tuple)
        ),
    ),
    max_leaves=6,
)
attributes = st.dictionaries(keys, values, max_size=3)
events = st.tuples(
    texts.filter(str.strip),
    st.one_of(
        st.none(),
        st.sampled_from(["complete", "COMPLETE", "Start", "schedule", "suspend", "resume", "ate_abort", "In Progress", "withdraw"]),
    ),
    st.one_of(st.none(), texts, st.just("r" * 150)),
    attributes,
)


def element(key: str, value: tuple[str, str | None, Any]) -> Any:
    kind, text, parts = value
    made = etree.Element(kind, key=key)
    if text is not None:
        made.set("value", text)
    place = etree.SubElement(made, "values") if kind == "list" else made
    for name, part in parts:
        place.append(element(name, part))
    return made


def string(key: str, text: str) -> Any:
    return etree.Element("string", key=key, value=text)


def canonical(found: Any) -> Any:
    """An element so that equal ones compare equal: numbers and times by value, attributes of a set in any order, items of a list in theirs."""
    kind, key, text = etree.QName(found).localname, found.get("key"), found.get("value")
    said: Any = text
    if kind == "int":
        said = int(text)
    elif kind == "float":
        said = float(text)
    elif kind == "date":
        said = datetime.fromisoformat(text)
    parts = [canonical(part) for holder in found if etree.QName(holder).localname == "values" for part in holder]
    nested = sorted((canonical(part) for part in found if etree.QName(part).localname != "values"), key=repr)
    return (kind, key, said, parts, nested)


def read(path: Path) -> dict[str, tuple[Any, list[Any]]]:
    found = {}
    for trace in etree.parse(path).getroot().findall("{*}trace"):
        own = [canonical(part) for part in trace if etree.QName(part).localname != "event"]
        name = next(part[2] for part in own if part[1] == "concept:name")
        shown = sorted((part for part in own if part[1] not in {"run:type", "run:status"}), key=repr)
        happened = []
        for event in trace.findall("{*}event"):
            parts = [canonical(part) for part in event]
            happened.append(sorted((part for part in parts if part[:2] != ("id", "identity:id")), key=repr))
        found[str(name)] = (shown, happened)
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    log=st.lists(
        st.tuples(st.one_of(texts.filter(bool), st.integers(0, 99)), attributes, st.lists(events, min_size=1, max_size=6)),
        min_size=1,
        max_size=3,
    )
)
async def test_what_goes_in_comes_out_equal(plane: Plane, tmp_path: Path, log: list[Any]) -> None:
    tenant = await plane.tenants.create(f"log {new_id()}", actor="system:test")
    root = etree.Element("log")
    root.append(string("concept:name", "generated"))
    for number, (name, own, happened) in enumerate(log):
        trace = etree.SubElement(root, "trace")
        kind = "int" if isinstance(name, int) else "string"
        trace.append(etree.Element(kind, key="concept:name", value=f"{name}{number}"))
        for key, value in own.items():
            if key not in ours and not key.startswith("run:"):
                trace.append(element(key, value))
        for position, (activity, transition, resource, more) in enumerate(happened):
            event = etree.SubElement(trace, "event")
            event.append(string("concept:name", activity))
            moment = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=position)
            event.append(etree.Element("date", key="time:timestamp", value=moment.isoformat()))
            if transition is not None:
                event.append(string("lifecycle:transition", transition))
            if resource is not None:
                event.append(string("org:resource", resource))
            for key, value in more.items():
                if key not in ours and key != "identity:id":
                    event.append(element(key, value))
    source, target = tmp_path / "in.xes", tmp_path / "out.xes"
    source.write_bytes(etree.tostring(root, encoding="utf-8"))
    await Importer(plane, tenant.tenant_id).read(source)
    await write_xes(target, stories(plane, tenant.tenant_id, actor="agent:x"))
    assert read(target) == read(source)


async def test_what_is_no_log_is_refused(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    page = tmp_path / "page.xes"
    page.write_text("<html><head><title>Not found</title></head><body/></html>")
    with pytest.raises(ImportFailed, match="is no XES log: it holds <html>"):
        await Importer(plane, tenant.tenant_id).read(page)


async def test_times_that_nobody_could_read_are_refused_with_their_place(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    log = tmp_path / "odd.xes"
    log.write_text(
        '<log><trace><string key="concept:name" value="1"/>\n<event><string key="concept:name" value="A"/>'
        '<date key="time:timestamp" value="0001-01-01T00:00:00+01:00"/></event></trace></log>'
    )
    with pytest.raises(ImportFailed, match="outside of the years 1 to 9999"):
        await Importer(plane, tenant.tenant_id).read(log)


async def test_a_case_of_any_length(plane: Plane, tenant: Tenant, tmp_path: Path) -> None:
    log = tmp_path / "long.xes"
    event = '<event><string key="concept:name" value="A"/><date key="time:timestamp" value="2020-01-01T00:00:00Z"/></event>'
    log.write_text(f'<log><trace><string key="concept:name" value="1"/>{event * 10_500}</trace></log>')
    report = await Importer(plane, tenant.tenant_id).read(log)
    assert (report.added, report.log_events) == (1, 10_500)
