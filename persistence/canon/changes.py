"""What changed from one canon to another, which version that asks for, and what no version makes lawful.

The rules are those of CANON-PERSISTENCE-001 §7.3.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from persistence.canon.book import Canon
from persistence.canon.parts import EventType, TableContract


class Bump(IntEnum):
    """Which number of the version a change must raise. REFUSED: no version makes it lawful."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3
    REFUSED = 4


@dataclass(frozen=True)
class Change:
    """bump: what it asks for; what: in words."""

    bump: Bump
    what: str


def changes(old: Canon, new: Canon) -> list[Change]:
    """All changes, the gravest first."""
    found = [*_tables(old, new), *_machines(old, new), *_event_types(old, new), *_rules(old, new), *_prose(old, new)]
    return sorted(found, key=lambda change: -change.bump)


def bump_between(old: str, new: str) -> Bump:
    """Which number was raised from one version to a later one. Raises ValueError for a text that is no version."""
    before, after = _numbers(old), _numbers(new)
    if after <= before:
        return Bump.NONE
    for bump, position in ((Bump.MAJOR, 0), (Bump.MINOR, 1)):
        if after[position] != before[position]:
            return bump
    return Bump.PATCH


def next_version(old: str, bump: Bump) -> str:
    """The least version that a change asks for."""
    major, minor, patch = _numbers(old)
    return {
        Bump.MAJOR: f"{major + 1}.0.0",
        Bump.MINOR: f"{major}.{minor + 1}.0",
        Bump.PATCH: f"{major}.{minor}.{patch + 1}",
    }.get(bump, old)


def _numbers(version: str) -> tuple[int, int, int]:
    major, minor, patch = (int(part) for part in version.split("."))
    return major, minor, patch


def _sides(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """Names that went, that came, and that stayed."""
    return [n for n in old if n not in new], [n for n in new if n not in old], [n for n in old if n in new]


def _tables(old: Canon, new: Canon) -> Iterator[Change]:
    gone, come, stayed = _sides(old.tables, new.tables)
    for name in gone:
        yield Change(Bump.MAJOR, f"table {name} is gone")
    for name in come:
        yield Change(Bump.MINOR, f"table {name} is new")
    for name in stayed:
        yield from _table(name, old.tables[name], new.tables[name])


def _table(name: str, old: TableContract, new: TableContract) -> Iterator[Change]:
    gone, come, stayed = _sides(old.columns, new.columns)
    for column in gone:
        yield Change(Bump.MAJOR, f"column {name}.{column} is gone")
    for column in come:
        mandatory = new.columns[column].not_null
        yield Change(
            Bump.MAJOR if mandatory else Bump.MINOR, f"column {name}.{column} is new{', and mandatory' if mandatory else ''}"
        )
    for column in stayed:
        if old.columns[column] != new.columns[column]:
            yield Change(Bump.MAJOR, f"column {name}.{column} has another form")
    if old.primary_key != new.primary_key:
        yield Change(Bump.MAJOR, f"the primary key of {name} is another")
    for kind, before, after in (
        ("unique key", old.unique, new.unique),
        ("foreign key", old.foreign_keys, new.foreign_keys),
    ):
        if dict(before) != dict(after):
            yield Change(Bump.MAJOR, f"a {kind} of {name} changed: {', '.join(sorted(_differing(before, after)))}")
    if old.indexes != new.indexes:
        yield Change(Bump.MINOR, f"an index of {name} changed: {', '.join(sorted(_differing(old.indexes, new.indexes)))}")
    if old.grows != new.grows:
        yield Change(Bump.PATCH, f"whether {name} grows")
    if old.is_kept != new.is_kept:
        yield Change(Bump.MAJOR, f"whether {name} outlives a crash")


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    return {name for name in {*old, *new} if old.get(name) != new.get(name)}


def _machines(old: Canon, new: Canon) -> Iterator[Change]:
    for name in sorted(_differing(old.aggregates, new.aggregates)):
        yield Change(Bump.MAJOR, f"the statuses of {name} changed")
    for name in sorted(_differing(old.transitions, new.transitions)):
        events = _differing(old.transitions.get(name, {}), new.transitions.get(name, {}))
        yield Change(Bump.MAJOR, f"the state machine of {name} changed: {', '.join(sorted(events))}")


def _event_types(old: Canon, new: Canon) -> Iterator[Change]:
    gone, come, stayed = _sides(old.event_types, new.event_types)
    for name in gone:
        yield Change(Bump.REFUSED, f"event type {name} is gone or renamed: the log holds it for ever, and replay needs it")
    for name in come:
        yield Change(Bump.MAJOR, f"event type {name} is new")
    for name in stayed:
        yield from _event_type(old.event_types[name], new.event_types[name])


def _event_type(old: EventType, new: EventType) -> Iterator[Change]:
    name = old.name
    if (old.writer, old.stamps, old.counts, old.clears, old.create) != (new.writer, new.stamps, new.counts, new.clears, new.create):
        yield Change(Bump.MAJOR, f"{name} folds otherwise: writer, stamps, counts, clears or create")
    if new.version == old.version:
        if old.data != new.data:
            yield Change(
                Bump.REFUSED, f"the data of {name} changed without a new version: version {new.version + 1} and an upcaster are due"
            )
    elif new.version < old.version:
        yield Change(Bump.REFUSED, f"{name} went back from version {old.version} to {new.version}")
    else:
        yield from _new_version(old, new)
    for version, past in old.past.items():
        if new.past.get(version) != past:
            yield Change(Bump.REFUSED, f"{name}: version {version} changed or is gone, and the log may hold it")


def _new_version(old: EventType, new: EventType) -> Iterator[Change]:
    name = old.name
    for version in range(old.version, new.version):
        if version not in new.past:
            yield Change(Bump.REFUSED, f"{name} is at version {new.version}, but there is no upcaster from version {version}")
    kept = new.past.get(old.version)
    if kept is not None and kept.data != old.data:
        yield Change(Bump.REFUSED, f"{name}: the data of version {old.version} are not what they were")
    breaks = set(new.required) - set(old.required) or set(old.data.get("properties", {})) - set(new.data.get("properties", {}))
    yield Change(Bump.MAJOR if breaks else Bump.MINOR, f"{name} is at version {new.version}")


def _rules(old: Canon, new: Canon) -> Iterator[Change]:
    for name in sorted(_differing(old.documents["rules"], new.documents["rules"])):
        yield Change(Bump.MINOR if name == "backoff" else Bump.MAJOR, f"the rule {name} changed")


def _prose(old: Canon, new: Canon) -> Iterator[Change]:
    for name in sorted(_differing(old.prose, new.prose)):
        yield Change(Bump.PATCH, f"the text of {name} changed")
