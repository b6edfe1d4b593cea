"""Putting what the journals hold on the record: signals, and the runs that rules start."""

from collections.abc import Sequence
from typing import Final, TypeAlias
from uuid import UUID

from persistence.encoding import encode_bytes
from persistence.errors import (
    Conflict,
    IdempotencyMismatch,
    InvalidInput,
    InvalidTransition,
    NotFound,
    PersistenceError,
    TenantDenied,
    TooLarge,
)
from persistence.ingest.hierarchy import mapped
from persistence.ingest.journal import DELETED, JournalEntry, id_of_content, id_of_file
from persistence.ingest.rules import Rule, RuleFile, Rules
from persistence.ingest.store import TenantStore
from persistence.ingest.threads import in_thread
from persistence.models import NewSignal, Signal
from persistence.plane import Plane
from persistence.transaction import Transaction

_KEY: Final = "idempotency_key"

MOST_AT_ONCE: Final = 200
"""Entries that go in one transaction."""

_REFUSALS: Final = (InvalidInput, IdempotencyMismatch, InvalidTransition, NotFound, TenantDenied, Conflict)
"""What will be refused tomorrow, too. Everything else passes, or somebody has to mend it first: then the entries wait."""

Numbered: TypeAlias = tuple[int, JournalEntry]


class Recorder:
    """Tells the database what a journal holds. Each entry is recorded exactly once, however often it is told."""

    def __init__(self, plane: Plane, rules: RuleFile) -> None:
        self._plane = plane
        self._rules = rules

    async def record(self, tenant_id: UUID, store: TenantStore) -> int:
        """Empties a tenant's journal, the oldest first. Returns how many entries the database knows now that were not known before.

        What the database refuses is set aside with its reason. Raises PersistenceError while the database is away or not as it should be:
        nothing is lost, call it again. So it does while the rules cannot be read.
        """
        recorded = 0
        while entries := await in_thread(store.journal.next, MOST_AT_ONCE):
            recorded += await self._told(tenant_id, store, entries)
        return recorded

    async def _told(self, tenant_id: UUID, store: TenantStore, entries: Sequence[Numbered]) -> int:
        """Tells entries together; where that is refused, in halves, until it is known which one it is."""
        try:
            signals = await self._tell(tenant_id, store, [entry for _, entry in entries])
        except _REFUSALS as error:
            if len(entries) == 1:
                await in_thread(store.journal.refused, entries[0][0], str(error))
                return 0
            middle = len(entries) // 2
            return await self._told(tenant_id, store, entries[:middle]) + await self._told(tenant_id, store, entries[middle:])
        done = [(number, entry, signal.id) for (number, entry), signal in zip(entries, signals, strict=True)]
        await in_thread(store.journal.told, done)
        return len(done)

    async def _tell(self, tenant_id: UUID, store: TenantStore, entries: Sequence[JournalEntry]) -> list[Signal]:
        first, rules = entries[0], await in_thread(self._rules.rules)
        async with self._plane.transaction(tenant_id, actor=first.actor, user_id=first.user_id, source=first.source) as tx:
            known, news = [], []
            taken: set[tuple[str, str]] = set()
            for entry in entries:
                signal, is_taken = await _known(tx, entry, store.store_id)
                known.append(signal)
                if signal is None:
                    name = entry.source_id
                    if name is None or is_taken or (entry.channel, name) in taken:  # another key came with the same content
                        name = id_of_file(entry.collected_at, entry.sha256, store.store_id)
                    taken.add((entry.channel, name))
                    news.append(await _signal(tx, entry, name))
            received = iter(await tx.signals.receive_many(news))
            signals = [signal or next(received) for signal in known]
            for entry, signal in zip(entries, signals, strict=True):
                if signal.is_new:
                    await self._deal_with(tx, store, rules, entry, signal)
        return signals

    async def _deal_with(self, tx: Transaction, store: TenantStore, rules: Rules, entry: JournalEntry, signal: Signal) -> None:
        if entry.kind == DELETED:
            tx.signals.process(signal)
            return
        found = rules.rule_for(entry.scope)
        if found is None:
            return
        name, rule = found
        try:
            specs = await in_thread(_specs, store, entry, rule, tx.settings.max_event_bytes) if rule.reads else []
        except PersistenceError as error:
            tx.signals.reject(signal, error={"message": str(error), "rule": name})
            return
        rule.start(tx, signal, name, specs)


async def _known(tx: Transaction, entry: JournalEntry, store_id: str) -> tuple[Signal | None, bool]:
    """The signal of an entry, where there may be one that this store did not make or does not remember; and whether its name is another's."""
    if entry.source_id is not None and not entry.deduplicates:
        return None, False
    names = (
        [entry.source_id]
        if entry.source_id
        else [id_of_file(entry.collected_at, entry.sha256, store_id), id_of_content(entry.sha256)]
    )
    page = await tx.signals.list(source_channel=entry.channel, source_id=names, limit=len(names))
    found = min(page.items, key=lambda signal: names.index(signal.source_id), default=None)
    if found is not None and entry.source_id is not None and await _is_other(tx, found, entry):
        return None, True
    return found, False


async def _is_other(tx: Transaction, signal: Signal, entry: JournalEntry) -> bool:
    """Whether a signal of the same content came with another key."""
    if _KEY not in entry.attributes:
        return False
    first = (await tx.events.of_aggregate(signal.id))[0]
    return bool(first.event_data.get("attributes", {}).get(_KEY) != entry.attributes[_KEY])


async def _signal(tx: Transaction, entry: JournalEntry, name: str) -> NewSignal:
    correlation_id = entry.correlation_id
    signal_id = entry.attributes.get("signal_id")
    if correlation_id is None and signal_id is not None:
        correlation_id = (await tx.signals.get(UUID(signal_id))).correlation_id
    return NewSignal(
        source_channel=entry.channel,
        source_id=name,
        signal_type=entry.kind,
        payload=entry.payload,
        correlation_id=correlation_id,
        occurred_at=entry.occurred_at,
        attributes=entry.attributes or None,
    )


def _specs(store: TenantStore, entry: JournalEntry, rule: Rule, most: int) -> list[dict[str, object]]:
    try:
        with store.hierarchy.opened(entry.scope, entry.collected_at) as file:
            specs = rule.specs(mapped(file))
    except FileNotFoundError:
        raise NotFound(f"{entry.path} was deleted before its rule could read it") from None
    if any(len(encode_bytes(spec)) > most // 2 for spec in specs):
        raise TooLarge(
            f"{entry.path}: an effect would carry more than {most // 2} bytes", hint="let its rule take a smaller part of the data"
        )
    return specs
