"""The whole plane: reference data, tables, functions, policies, projections and privileges.

Revision ID: 20260104000001
Revises:
"""

from persistence.database.schema_objects import apply, as_system, drop_schema_objects, execute, load_canon

revision = "20260104000001"
down_revision = None
branch_labels = None
depends_on = None

# In the order in which one refers to the other.
TABLES = (
    "tenants",
    "user_tenants",
    "signals",
    "runs",
    "steps",
    "tool_calls",
    "memories",
    "memory_indexes",
    "memory_recalls",
    "memory_vectors",
    "effects",
    "run_checkpoints",
    "data_keys",
    "secrets",
    "vault_accesses",
    "snapshots",
    "backup_verifications",
    "orchestration_events",
    "outbox_events",
    "outbox_queue",
    "run_queue",
    "outbox_streams",
    "outbox_marks",
    "outbox_limits",
    "outbox_destinations",
    "api_tokens",
    "consumers",
    "live_feeds",
    "live_messages",
)

# Tables that the functions of persistence_system reach across tenants.
SYSTEM_TABLES = (
    "tenants",
    "user_tenants",
    "runs",
    "steps",
    "effects",
    "backup_verifications",
    "orchestration_events",
    "outbox_events",
    "outbox_queue",
    "run_queue",
    "outbox_streams",
    "outbox_marks",
    "outbox_limits",
    "outbox_destinations",
    "api_tokens",
    "secrets",
    "snapshots",
    "consumers",
    "live_feeds",
    "live_messages",
)

FUNCTIONS = (
    "plane_lock",
    "service_user",
    "asks_for_proof",
    "system_tenant_id",
    "event_digest",
    "stamp_digest",
    "upcast_data",
    "upcast_event",
    "jsonb_merge",
    "event_document",
    "enter_tenant",
    "refuse_batch",
    "check_event_data",
    "check_operator",
    "known_effects",
    "without_known",
    "with_step_indexes",
    "checked_attachments",
    "explain_missing",
    "refuse_late_version",
    "refuse_chain",
    "refuse_deltas",
    "batch_deltas",
    "fold_backup_verifications",
    "fold_deltas",
    "fold_events",
    "in_sample",
    "fold_batch",
    "fold_log",
    "ordering_key_lock",
    "lock_keys",
    "leave_marks",
    "open_keys",
    "queue_again",
    "queue_effects",
    "open_runs",
    "wake_runs",
    "signal_lock",
    "queue_runs",
    "next_step_index",
    "learn_sizes",
    "check_causes",
    "refuse_part",
    "refuse_early_part",
    "check_order",
    "begun_at",
    "wholes_of",
    "cancel_parts",
    "open_parts",
    "refuse_end_in_snapshot",
    "end_parts",
    "fold_signals",
    "fold_runs",
    "fold_steps",
    "fold_tool_calls",
    "fold_effects",
    "fold_outbox",
    "fold_checkpoints",
    "fold_data_keys",
    "fold_secrets",
    "fold_vault_accesses",
    "fold_memories",
    "fold_memory_recalls",
    "fold_memory_indexes",
    "drop_vectors",
    "fold_snapshots",
    "fold_kind",
    "queue_requests",
    "lock_ending",
    "refuse_parts_between",
    "check_wholes",
    "refuse_repeated_ids",
    "append_batch",
    "append_events",
    "append_turns",
    "given_signals",
    "receive_signals",
    "refuse_lost_keys",
    "refuse_last_snapshot",
    "read_secret",
    "read_subject_key",
    "present_data_key",
    "index_memories",
    "nearest_memories",
    "publish_live",
    "in_channel",
    "ack_consumer",
    "drawn_streams",
    "due_streams",
    "outbox_tokens",
    "outbox_allowance",
    "run_allowance",
    "spend_tokens",
    "limited_shares",
    "postpone_resting",
    "end_dead_letters",
    "requeue_outbox",
    "discard_outbox",
    "requeue_by_update",
    "refuse_change",
    "read_events",
    "set_context_keys",
)

SYSTEM_FUNCTIONS = (
    "record_lost_attempts",
    "claim_outbox",
    "settle_outbox",
    "extend_leases",
    "cancelled_leases",
    "release_leases",
    "claim_runs",
    "hold_runs",
    "release_runs",
    "wake_timers",
    "has_runs",
    "advance_keys",
    "end_cancelled",
    "make_streams",
    "sweep_outbox",
    "sweep_keys",
    "has_pending",
    "unknown_types",
    "report_destinations",
    "refresh_projections",
    "purge_outbox",
    "destroy_over_secrets",
    "append_tenant_event",
    "refuse_system_tenant",
    "add_tenant_user",
    "remove_tenant_user",
    "create_tenant",
    "set_outbox_limit",
    "list_outbox_limits",
    "record_backup_verification",
    "append_snapshot_event",
    "record_system_snapshot",
    "record_snapshot_proof",
    "issue_token",
    "revoke_token",
    "authenticate_token",
    "hold_consumer",
    "remove_consumer",
    "record_streams",
    "sweep_live",
    "record_gates",
    "record_context_keys",
    "vault_generation",
    "record_vault_change",
    "record_vault_use",
    "last_gates",
    "list_tenants",
    "open_epoch",
    "log_epoch",
    "watch_tenants",
    "hold_outbox",
    "release_outbox",
)


def upgrade() -> None:
    apply("grants/default_privileges.v1.sql")
    apply("tables/canon.v1.sql")
    apply("tables/log_epochs.v1.sql")
    load_canon()
    apply("functions/new_id.v1.sql")
    for table in TABLES:
        apply(f"tables/{table}.v1.sql")
    apply("tables/statistics.v1.sql")
    apply("tables/aggregate_delta.v1.sql")
    apply("tables/outbox_share.v1.sql")
    apply("functions/current_tenant_id.v1.sql")
    apply("functions/current_user_id.v1.sql")
    apply("functions/is_proven.v1.sql")
    apply("functions/entered_tenant.v1.sql")
    for function in FUNCTIONS:
        apply(f"functions/{function}.v1.sql")
    with as_system():
        apply("grants/default_privileges.v1.sql")
        for function in SYSTEM_FUNCTIONS:
            apply(f"functions/{function}.v1.sql")
        apply("grants/system_functions.v1.sql")
    apply("triggers/append_only.v1.sql")
    apply("triggers/stamp_digest.v1.sql")
    apply("triggers/requeue_by_update.v1.sql")
    apply("triggers/refuse_lost_keys.v1.sql")
    apply("triggers/refuse_last_snapshot.v1.sql")
    apply("triggers/drop_vectors.v1.sql")
    for table in TABLES:
        if table == "user_tenants":
            apply("policies/membership.v1.sql")
        else:
            apply("policies/tenant_isolation.v1.sql", table=table)
    for table in SYSTEM_TABLES:
        apply("policies/system_works.v1.sql", table=table)
    apply("grants/privileges.v1.sql")
    with as_system():
        apply("views/run_summary.v1.sql")
        apply("grants/run_summary.v1.sql")
        execute("SELECT persistence.log_epoch()")
        execute(
            "SELECT persistence.create_tenant(t.id, 'system', t.id, 'system:migration') FROM persistence.system_tenant_id() AS t (id)"
        )
    apply("views/tenant_run_summary.v1.sql")
    apply("grants/tenant_run_summary.v1.sql")


def downgrade() -> None:
    drop_schema_objects()
