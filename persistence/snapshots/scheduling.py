"""Snapshots that are taken by themselves: from time to time, when something of weight happens, or when enough has changed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

import structlog
from pydantic import Field, model_validator

from persistence.configuration import Duration, Section, read_section
from persistence.errors import Conflict, InvalidInput, NotFound
from persistence.models import Event, Position, Snapshot
from persistence.plane import Plane
from persistence.repositories.snapshots import SnapshotCause
from persistence.snapshots.manifest import Kind
from persistence.snapshots.retention import Retention, prune
from persistence.snapshots.taking import Subject, snapshots_of, take
from persistence.snapshots.verifying import verify

FILE: Final = "snapshots.yaml"
SECTION: Final = "snapshots"
_ACTOR: Final = "system:snapshots"
_OWN: Final = frozenset({"SNAPSHOT", "VAULT_ACCESS"})
_PAGE: Final = 1_000
_BY_ITSELF: Final = frozenset({"schedule", "change", "size"})
"""What rules take they delete again; what somebody took, or a restore did to be able to go back, stays until somebody prunes it."""

_log = structlog.get_logger(__name__)


class When(Section):
    """An event of weight. where: what its data must hold, by dotted paths: ``payload.pull_request.merged: true``."""

    event_type: str = Field(min_length=1)
    where: Mapping[str, Any] = Field(default_factory=dict)

    def fits(self, event: Event) -> bool:
        return event.event_type == self.event_type and all(
            _at(event.event_data, path) == wanted for path, wanted in self.where.items()
        )


class Rule(Section):
    """What is taken, and when: ``every`` so often; any of these ``events``; when so many events have ``changed`` it. One of the three at least."""

    tenant: str = Field(min_length=1)
    kind: Kind = "tenant"
    of: str | None = None
    every: Duration | None = Field(default=None, ge=timedelta(seconds=1))
    events: tuple[When, ...] = ()
    changed: int | None = Field(default=None, ge=1)
    full: bool = False
    encrypt: bool = False
    verify: bool = True

    @model_validator(mode="after")
    def _check(self) -> "Rule":
        if self.every is None and not self.events and self.changed is None:
            raise ValueError("a rule says every, events or changed")
        try:
            Subject(self.kind, self.of)
        except InvalidInput as error:
            raise ValueError(f"{error.message.replace('subject', 'of')}; {error.hint}") from None
        return self


class Keep(Section):
    """Which stay: see Retention."""

    last: int = Field(default=10, ge=0)
    daily: int = Field(default=7, ge=0)
    weekly: int = Field(default=4, ge=0)
    monthly: int = Field(default=12, ge=0)

    @property
    def retention(self) -> Retention:
        return Retention(self.last, self.daily, self.weekly, self.monthly)


class SnapshotConfig(Section):
    """Section ``snapshots``. look: how often the rules are looked at. keep: none: nothing is deleted by itself."""

    look: Duration = Field(default=timedelta(seconds=5), gt=timedelta(0))
    rules: tuple[Rule, ...] = ()
    keep: Keep | None = None


def read_snapshot_config(folder: Path) -> SnapshotConfig:
    """What the configuration folder says of snapshots. Raises ConfigurationError."""
    return read_section(folder / FILE, SECTION, SnapshotConfig)


@dataclass
class _Seen:
    """What a rule has seen since the last snapshot. position: up to where; count: events that changed what it is of; stories: of its agent."""

    position: Position | None = None
    count: int = 0
    is_due: bool = False
    stories: set[UUID] = field(default_factory=set)

    def begin(self, position: Position) -> None:
        self.position, self.count, self.is_due = position, 0, False

    def is_of(self, rule: Rule, event: Event) -> bool:
        """Whether an event changed what a rule is of: an agent's are those of the stories in which it was seen to have a part."""
        if rule.kind == "tenant":
            return True
        if rule.kind == "conversation":
            return str(event.correlation_id) == Subject(rule.kind, rule.of).subject
        if event.actor == rule.of:
            self.stories.add(event.correlation_id)
        return event.correlation_id in self.stories


class Scheduler:
    """Takes what the rules ask for. Several processes may: each snapshot is taken by one, and the others find it taken."""

    def __init__(self, plane: Plane, config: SnapshotConfig) -> None:
        self._plane = plane
        self._config = config
        self._seen: dict[int, _Seen] = {}
        self._trouble: dict[int, str] = {}

    async def keep(self) -> None:
        """Looks at the rules for ever. What goes wrong with one is logged, and tried again."""
        while self._config.rules:
            for number, rule in enumerate(self._config.rules):
                try:
                    await self._look(number, rule)
                    self._trouble.pop(number, None)
                except Conflict:
                    continue  # somebody else is at it
                except Exception as error:  # whatever is wrong with one tenant's, the others have theirs
                    if self._trouble.get(number) == (said := str(error) or type(error).__name__):
                        continue
                    self._trouble[number] = said
                    _log.warning("snapshot_not_taken", tenant=rule.tenant, kind=rule.kind, error=said)
            await asyncio.sleep(self._config.look.total_seconds())

    async def round(self) -> list[Snapshot]:
        """Looks at each rule once. Returns what was taken."""
        found = [await self._look(number, rule) for number, rule in enumerate(self._config.rules)]
        return [item for item in found if item is not None]

    async def _look(self, number: int, rule: Rule) -> Snapshot | None:
        tenant_id = await self._tenant(rule.tenant)
        subject = Subject(rule.kind, rule.of)
        there = await snapshots_of(self._plane, tenant_id, subject, actor=_ACTOR)
        cause = await self._cause(number, rule, tenant_id, there)
        if cause is None:
            return None
        try:
            taken = await take(self._plane, tenant_id, subject, actor=_ACTOR, full=rule.full, encrypt=rule.encrypt, cause=cause)
        except NotFound:
            return None  # there is nothing of this agent or conversation yet
        self._seen.setdefault(number, _Seen()).begin(Position.parse(taken.position))
        _log.info("snapshot_taken", tenant=rule.tenant, of=taken.of, folder=taken.folder, cause=cause)
        if rule.verify:
            taken = await verify(self._plane, taken, actor=_ACTOR)
            if taken.status == "REFUSED":
                _log.error("snapshot_refused", tenant=rule.tenant, folder=taken.folder, error=taken.error_details["message"])
        if self._config.keep is not None:
            await prune(self._plane, tenant_id, self._config.keep.retention, actor=_ACTOR, causes=_BY_ITSELF)
        return taken

    async def _cause(self, number: int, rule: Rule, tenant_id: UUID, there: Sequence[Snapshot]) -> SnapshotCause | None:
        last = there[0] if there else None
        if rule.every is not None and (
            last is None or last.created_at is None or datetime.now(UTC) - last.created_at >= rule.every
        ):
            return "schedule"
        if rule.events or rule.changed is not None:
            return await self._change(number, rule, tenant_id, last)
        return None

    async def _change(self, number: int, rule: Rule, tenant_id: UUID, last: Snapshot | None) -> Literal["change", "size"] | None:
        """What has happened since the last one; since this process began, where there is none."""
        base = Position.parse(last.position) if last is not None else None
        seen = self._seen.setdefault(number, _Seen())
        if seen.position is None or (base is not None and _order(base) > _order(seen.position)):
            seen.begin(base or await self._end(tenant_id))
        while True:
            async with self._plane.transaction(tenant_id, actor=_ACTOR) as tx:
                events, seen.position = await tx.events.read(seen.position, _PAGE)
            for event in events:
                if event.aggregate_type not in _OWN:
                    seen.count += seen.is_of(rule, event)
                    seen.is_due = seen.is_due or any(when.fits(event) for when in rule.events)
            if not events:
                break
        if seen.is_due:
            return "change"
        return "size" if rule.changed is not None and seen.count >= rule.changed else None

    async def _end(self, tenant_id: UUID) -> Position:
        async with self._plane.transaction(tenant_id, actor=_ACTOR) as tx:
            _, position = await tx.events.newest(1)
        return position

    async def _tenant(self, wanted: str) -> UUID:
        tenants = await self._plane.tenants.list()
        while tenants:
            for tenant in tenants:
                if wanted in {tenant.name, str(tenant.tenant_id)}:
                    return tenant.tenant_id
            tenants = await self._plane.tenants.list(after=tenants[-1].tenant_id)
        raise NotFound(f"there is no tenant {wanted!r}", hint="snapshots.yaml names it")


def _order(position: Position) -> tuple[int, int, int]:
    return position.epoch, position.transaction_id, position.sequence_number


def _at(document: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(document, dict) or part not in document:
            return None
        document = document[part]
    return document
