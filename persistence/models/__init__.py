"""What repositories return: frozen models, one file a table."""

from persistence.models.base import AggregateModel, Json, Model, Page, first_id_at, made_at, new_id
from persistence.models.checkpoint import Checkpoint
from persistence.models.effect import Effect
from persistence.models.event import AppendResult, Event, NewEvent, Position
from persistence.models.limit import Limit
from persistence.models.memory import Memory, MemoryIndex, MemoryRecall
from persistence.models.outbox import OutboxEntry
from persistence.models.run import FlowTerms, Run
from persistence.models.signal import NewSignal, Signal
from persistence.models.snapshot import Snapshot
from persistence.models.step import Step
from persistence.models.stream import Channel, Consumer, ConsumerLag, LiveMessage, LivePosition
from persistence.models.tenant import Tenant
from persistence.models.token import ApiToken, Bearer, Role
from persistence.models.tool_call import ToolCall
from persistence.models.vault import DataKey, Secret, VaultAccess

__all__ = [
    "AggregateModel",
    "ApiToken",
    "AppendResult",
    "Bearer",
    "Channel",
    "Checkpoint",
    "Consumer",
    "ConsumerLag",
    "DataKey",
    "Effect",
    "Event",
    "FlowTerms",
    "Json",
    "Limit",
    "LiveMessage",
    "LivePosition",
    "Memory",
    "MemoryIndex",
    "MemoryRecall",
    "Model",
    "NewEvent",
    "NewSignal",
    "OutboxEntry",
    "Page",
    "Position",
    "Role",
    "Run",
    "Secret",
    "Signal",
    "Snapshot",
    "Step",
    "Tenant",
    "ToolCall",
    "VaultAccess",
    "first_id_at",
    "made_at",
    "new_id",
]
