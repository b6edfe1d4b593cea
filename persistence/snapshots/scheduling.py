"""Snapshots that are taken by themselves: from time to time, when something of weight happens, or when enough has changed."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

import structlog
from pydantic import Field, model_validator

from persistence.configuration import Duration, Section, read_section
from persistence.database.failures import DATABASE_ERRORS
from persistence.errors import Conflict, NotFound, PersistenceError
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
        Subject(self.kind, self.of)
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


class Scheduler:
    """Takes what the rules ask for. Several processes may: each snapshot is taken by one, and the others find it taken."""

    def __init__(self, plane: Plane, config: SnapshotConfig) -> None:
        self._plane = plane
        self._config = config
        self._seen: dict[int, tuple[Position, int, bool]] = {}

    async def keep(self) -> None:
        """Looks at the rules for ever. What goes wrong with one is logged, and tried again."""
        while self._config.rules:
            for number, rule in enumerate(self._config.rules):
                try:
                    await self._look(number, rule)
                except Conflict:
                    continue  # somebody else is at it
                except (PersistenceError, *DATABASE_ERRORS) as error:
                    _log.warning("snapshot_not_taken", tenant=rule.tenant, kind=rule.kind, error=str(error) or type(error).__name__)
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
        taken = await take(self._plane, tenant_id, subject, actor=_ACTOR, full=rule.full, encrypt=rule.encrypt, cause=cause)
        self._seen.pop(number, None)
        _log.info("snapshot_taken", tenant=rule.tenant, of=taken.of, folder=taken.folder, cause=cause)
        if rule.verify:
            taken = await verify(self._plane, taken, actor=_ACTOR)
            if taken.status == "REFUSED":
                _log.error("snapshot_refused", tenant=rule.tenant, folder=taken.folder, error=taken.error_details["message"])
        if self._config.keep is not None:
            await prune(self._plane, tenant_id, self._config.keep.retention, actor=_ACTOR)
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
        position, count, is_due = self._seen.get(number, (base, 0, False))
        if position is None or (base is not None and _order(base) > _order(position)):
            position, count, is_due = base or await self._end(tenant_id), 0, False
        while True:
            async with self._plane.transaction(tenant_id, actor=_ACTOR) as tx:
                events, position = await tx.events.read(position, _PAGE)
            for event in events:
                if event.aggregate_type not in _OWN:
                    count += 1
                    is_due = is_due or any(when.fits(event) for when in rule.events)
            if not events:
                break
        self._seen[number] = (position, count, is_due)
        if is_due:
            return "change"
        return "size" if rule.changed is not None and count >= rule.changed else None

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
