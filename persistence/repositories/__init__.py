"""The write side, one file a table: commands of the state machines, and the reads that decide them.

A command is a plain call: it checks the state machine, buffers its event and returns the new state as a frozen model. Reads are awaited,
and send what was buffered before them. Every statement names the tenant, besides row level security.
"""

from persistence.repositories.base import Details
from persistence.repositories.checkpoints import CheckpointRepository
from persistence.repositories.effects import EffectRepository
from persistence.repositories.events import EventRepository
from persistence.repositories.filters import Filters
from persistence.repositories.memories import MemoryRepository
from persistence.repositories.memory_indexes import MemoryIndexRepository, MemoryRecallRepository
from persistence.repositories.outbox import OutboxRepository
from persistence.repositories.runs import RunRepository
from persistence.repositories.signals import SignalRepository
from persistence.repositories.snapshots import SnapshotRepository
from persistence.repositories.steps import StepRepository
from persistence.repositories.streams import ConsumerRepository, LiveRepository
from persistence.repositories.tool_calls import ToolCallRepository
from persistence.repositories.vault import DataKeyRepository, SecretRepository, VaultAccessRepository
from persistence.repositories.work import Work

__all__ = [
    "CheckpointRepository",
    "ConsumerRepository",
    "DataKeyRepository",
    "Details",
    "EffectRepository",
    "EventRepository",
    "Filters",
    "LiveRepository",
    "MemoryIndexRepository",
    "MemoryRecallRepository",
    "MemoryRepository",
    "OutboxRepository",
    "RunRepository",
    "SecretRepository",
    "SignalRepository",
    "SnapshotRepository",
    "StepRepository",
    "ToolCallRepository",
    "VaultAccessRepository",
    "Work",
]
