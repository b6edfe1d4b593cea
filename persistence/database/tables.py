"""The tables as SQLAlchemy metadata: the source of built queries, and what the drift check compares the database with.

The migrations are the authority on how a table is made; this is how it is spoken of.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import UserDefinedType

METADATA = MetaData(schema="persistence")

_NOW = text("now()")


class Xid8(UserDefinedType[int]):
    """A 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


# What reflection makes of the type when the drift check reads the database.
ischema_names["xid8"] = Xid8


def _timestamp(name: str, *, nullable: bool = True, now: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=_NOW if now else None)


def _required(name: str, kind: object, **options: object) -> Column[object]:
    return Column(name, kind, nullable=False, **options)  # type: ignore[arg-type]


def _runtime_table(name: str, *items: SchemaItem) -> Table:
    return Table(
        name,
        METADATA,
        _required("tenant_id", Uuid),
        _required("id", Uuid),
        _required("status", Text),
        _required("correlation_id", Uuid),
        Column("causation_id", Uuid),
        _required("actor", String(100)),
        _required("version", Integer),
        _required("last_event_id", Uuid),
        _timestamp("created_at", nullable=False),
        _timestamp("updated_at", nullable=False),
        *items,
        PrimaryKeyConstraint("tenant_id", "id"),
    )


def _points_to(table: str, column: str, name: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(("tenant_id", column), (f"persistence.{table}.tenant_id", f"persistence.{table}.id"), name=name)


def _retries() -> Column[object]:
    return _required("retry_count", Integer, server_default=text("0"))


TENANTS = Table(
    "tenants",
    METADATA,
    Column("tenant_id", Uuid, primary_key=True),
    _required("name", Text),
    _required("actor", String(100)),
    _timestamp("created_at", nullable=False, now=True),
    _timestamp("updated_at", nullable=False, now=True),
)

USER_TENANTS = Table(
    "user_tenants",
    METADATA,
    Column("tenant_id", Uuid, ForeignKey("persistence.tenants.tenant_id"), primary_key=True),
    Column("user_id", Uuid, primary_key=True),
    _required("actor", String(100)),
    _timestamp("created_at", nullable=False, now=True),
    _timestamp("updated_at", nullable=False, now=True),
)

SIGNALS = _runtime_table(
    "signals",
    _required("source_channel", Text),
    _required("source_id", Text),
    _required("signal_type", Text),
    Column("payload", JSONB),
    Column("error_details", JSONB),
    _retries(),
    _timestamp("received_at", nullable=False),
    _timestamp("processed_at"),
    UniqueConstraint("tenant_id", "source_channel", "source_id", name="signals_source_key"),
    Index("signals_correlation_idx", "tenant_id", "correlation_id"),
)

RUNS = _runtime_table(
    "runs",
    Column("signal_id", Uuid),
    Column("parent_run_id", Uuid),
    _required("run_type", Text),
    Column("input_data", JSONB),
    Column("output_result", JSONB),
    Column("error_details", JSONB),
    Column("wait_reason", Text),
    _retries(),
    _timestamp("started_at"),
    _timestamp("completed_at"),
    _points_to("signals", "signal_id", "runs_signal_fkey"),
    _points_to("runs", "parent_run_id", "runs_parent_run_fkey"),
    Index("runs_correlation_idx", "tenant_id", "correlation_id"),
    Index("runs_signal_idx", "tenant_id", "signal_id"),
    Index("runs_parent_run_idx", "tenant_id", "parent_run_id", postgresql_where=text("parent_run_id IS NOT NULL")),
)

STEPS = _runtime_table(
    "steps",
    _required("run_id", Uuid),
    _required("step_index", Integer),
    _required("step_type", Text),
    Column("input_data", JSONB),
    Column("output_result", JSONB),
    Column("error_details", JSONB),
    Column("wait_reason", Text),
    _retries(),
    _timestamp("started_at"),
    _timestamp("completed_at"),
    _points_to("runs", "run_id", "steps_run_fkey"),
    Index("steps_run_idx", "tenant_id", "run_id", "step_index"),
)

TOOL_CALLS = _runtime_table(
    "tool_calls",
    _required("run_id", Uuid),
    _required("step_id", Uuid),
    _required("tool_name", Text),
    Column("tool_args", JSONB),
    Column("tool_result", JSONB),
    Column("error_details", JSONB),
    _timestamp("started_at"),
    _timestamp("completed_at"),
    _points_to("runs", "run_id", "tool_calls_run_fkey"),
    _points_to("steps", "step_id", "tool_calls_step_fkey"),
    Index("tool_calls_step_idx", "tenant_id", "step_id"),
    Index("tool_calls_run_idx", "tenant_id", "run_id"),
)

EFFECTS = _runtime_table(
    "effects",
    _required("run_id", Uuid),
    Column("step_id", Uuid),
    _required("effect_type", Text),
    _required("idempotency_key", Text),
    _required("effect_spec", JSONB),
    _retries(),
    _timestamp("next_retry_at"),
    Column("execution_result", JSONB),
    Column("error_details", JSONB),
    _timestamp("executed_at"),
    _points_to("runs", "run_id", "effects_run_fkey"),
    _points_to("steps", "step_id", "effects_step_fkey"),
    Index("effects_run_idx", "tenant_id", "run_id"),
    Index("effects_step_idx", "tenant_id", "step_id"),
)

RUN_CHECKPOINTS = _runtime_table(
    "run_checkpoints",
    _required("run_id", Uuid),
    Column("step_id", Uuid),
    Column("label", Text),
    _required("digest", Text),
    _required("size_bytes", BigInteger),
    Column("state", JSON),
    _timestamp("restored_at"),
    _points_to("runs", "run_id", "run_checkpoints_run_fkey"),
    _points_to("steps", "step_id", "run_checkpoints_step_fkey"),
    Index("run_checkpoints_run_idx", "tenant_id", "run_id", "created_at"),
)

OUTBOX_EVENTS = _runtime_table(
    "outbox_events",
    _required("aggregate_type", Text, server_default=text("'EFFECT'")),
    _required("aggregate_id", Uuid),
    _required("event_type", Text),
    _required("idempotency_key", Text),
    _required("payload", JSONB),
    _retries(),
    _timestamp("next_retry_at"),
    Column("error_details", JSONB),
    _timestamp("published_at"),
    UniqueConstraint("tenant_id", "idempotency_key", name="outbox_events_idempotency_key"),
    _points_to("effects", "aggregate_id", "outbox_events_effect_fkey"),
    Index("outbox_events_aggregate_idx", "tenant_id", "aggregate_id"),
    Index("outbox_events_correlation_idx", "tenant_id", "correlation_id"),
)

OUTBOX_QUEUE = Table(
    "outbox_queue",
    METADATA,
    _required("tenant_id", Uuid),
    _required("id", Uuid),
    _required("effect_type", Text),
    _timestamp("due_at", nullable=False),
    _required("attempts", Integer, server_default=text("0")),
    Column("lease_token", Uuid),
    Column("leased_by", Text),
    _timestamp("created_at", nullable=False, now=True),
    _timestamp("updated_at", nullable=False, now=True),
    PrimaryKeyConstraint("tenant_id", "id"),
    ForeignKeyConstraint(
        ("tenant_id", "id"),
        ("persistence.outbox_events.tenant_id", "persistence.outbox_events.id"),
        name="outbox_queue_entry_fkey",
        ondelete="CASCADE",
    ),
    Index("outbox_queue_due_idx", "effect_type", "tenant_id", "due_at"),
)

ORCHESTRATION_EVENTS = Table(
    "orchestration_events",
    METADATA,
    _required("tenant_id", Uuid),
    _required("id", Uuid),
    Column("sequence_number", BigInteger, Identity(always=True), nullable=False),
    _required("transaction_id", Xid8, server_default=text("pg_current_xact_id()")),
    _required("aggregate_id", Uuid),
    _required("correlation_id", Uuid),
    Column("causation_id", Uuid),
    _timestamp("occurred_at", nullable=False),
    _timestamp("created_at", nullable=False, now=True),
    _timestamp("updated_at", nullable=False, now=True),
    _required("aggregate_version", Integer),
    _required("event_version", SmallInteger),
    _required("aggregate_type", Text),
    _required("event_type", Text),
    _required("actor", String(100)),
    _required("source", String(200)),
    _required("event_data", JSONB),
    PrimaryKeyConstraint("tenant_id", "id"),
    UniqueConstraint("tenant_id", "aggregate_id", "aggregate_version", name="orchestration_events_aggregate_version_key"),
    Index("orchestration_events_correlation_idx", "tenant_id", "correlation_id", "sequence_number"),
    Index("orchestration_events_log_idx", "tenant_id", "transaction_id", "sequence_number"),
)
