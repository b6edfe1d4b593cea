-- Who may do what. Nobody may write a table directly but by functions (and the operator's requeue, which a trigger turns into an event).
REVOKE ALL ON SCHEMA persistence, canon FROM PUBLIC;

GRANT USAGE ON SCHEMA persistence, canon
  TO persistence_system, persistence_app, persistence_worker, persistence_operator, persistence_auditor;
GRANT SELECT ON ALL TABLES IN SCHEMA canon
  TO persistence_system, persistence_app, persistence_worker, persistence_operator, persistence_auditor;
REVOKE SELECT ON canon.installation FROM persistence_app, persistence_worker, persistence_operator, persistence_auditor;
REVOKE SELECT ON canon.context_keys FROM persistence_system, persistence_app, persistence_worker, persistence_operator, persistence_auditor;
GRANT SELECT ON canon.installation TO persistence_system;
GRANT SELECT (added_at) ON canon.context_keys TO persistence_auditor;
GRANT EXECUTE ON FUNCTION
  persistence.current_tenant_id(),
  persistence.current_user_id(),
  persistence.entered_tenant(),
  persistence.asks_for_proof(),
  persistence.enter_tenant(uuid, uuid, text)
  TO persistence_system, persistence_app, persistence_worker, persistence_operator, persistence_auditor;
GRANT SELECT ON
  persistence.tenants, persistence.user_tenants, persistence.signals, persistence.runs, persistence.steps, persistence.tool_calls,
  persistence.effects, persistence.run_checkpoints, persistence.memories, persistence.memory_recalls,
  persistence.memory_indexes, persistence.memory_vectors, persistence.snapshots, persistence.backup_verifications, persistence.orchestration_events, persistence.outbox_events, persistence.outbox_queue, persistence.run_queue,
  persistence.outbox_streams, persistence.outbox_marks, persistence.outbox_limits, persistence.outbox_destinations, persistence.consumers,
  persistence.live_feeds, persistence.live_messages
  TO persistence_app, persistence_operator, persistence_auditor;
GRANT SELECT (tenant_id, id, status, correlation_id, causation_id, actor, version, last_event_id, created_at, updated_at, subject, term, vault_id, vault_term, digest)
  ON persistence.data_keys
  TO persistence_app, persistence_operator;
GRANT SELECT (
  tenant_id, id, status, correlation_id, causation_id, actor, version, last_event_id, created_at, updated_at, name, number, secret_kind, key_id, digest, expires_at, max_reads
)
  ON persistence.secrets
  TO persistence_app, persistence_operator;
GRANT SELECT ON persistence.vault_accesses TO persistence_app, persistence_operator;
GRANT SELECT ON persistence.data_keys, persistence.secrets, persistence.vault_accesses TO persistence_auditor;
GRANT SELECT (tenant_id, id, name, role, acts_as, user_id, expires_at, revoked_at, created_at, updated_at) ON persistence.api_tokens
  TO persistence_app, persistence_operator;
GRANT SELECT ON persistence.api_tokens TO persistence_auditor;

GRANT EXECUTE ON FUNCTION
  persistence.append_events(uuid, uuid, jsonb, text),
  persistence.append_turns(uuid, uuid, jsonb, jsonb, text),
  persistence.receive_signals(uuid, uuid, jsonb, text),
  persistence.read_events(uuid, uuid, integer, xid8, bigint, integer),
  persistence.read_secret(uuid, uuid, text, integer, uuid, integer[], jsonb, text),
  persistence.read_subject_key(uuid, uuid, text, uuid, jsonb, text),
  persistence.present_data_key(uuid, uuid, text),
  persistence.index_memories(uuid, uuid, uuid, uuid[], text[], real[], text),
  persistence.nearest_memories(uuid, uuid, text, text, jsonb, timestamptz, timestamptz, timestamptz, real[], integer),
  persistence.publish_live(uuid, uuid, text[], jsonb[], text, text),
  persistence.ack_consumer(uuid, uuid, text, uuid, integer, text, bigint, text)
  TO persistence_app;

GRANT EXECUTE ON FUNCTION persistence.service_user() TO persistence_operator;
GRANT UPDATE (status, retry_count, next_retry_at) ON persistence.outbox_events TO persistence_operator;
GRANT EXECUTE ON FUNCTION
  persistence.requeue_outbox(uuid, uuid, uuid[], text, text, text),
  persistence.discard_outbox(uuid, uuid, uuid[], text, text, text)
  TO persistence_operator;

-- The work across tenants.
GRANT SELECT, UPDATE, DELETE ON persistence.outbox_queue TO persistence_system;
GRANT SELECT, INSERT, UPDATE ON persistence.run_queue TO persistence_system;
GRANT SELECT, INSERT, UPDATE ON persistence.outbox_streams TO persistence_system;
GRANT SELECT, INSERT, UPDATE, DELETE ON persistence.outbox_marks TO persistence_system;
GRANT SELECT, INSERT, UPDATE ON persistence.api_tokens TO persistence_system;
GRANT SELECT, INSERT, UPDATE, DELETE ON persistence.outbox_limits, persistence.outbox_destinations TO persistence_system;
GRANT SELECT, UPDATE, DELETE ON persistence.outbox_events TO persistence_system;
GRANT SELECT, UPDATE ON persistence.effects TO persistence_system;
GRANT SELECT, INSERT ON persistence.orchestration_events TO persistence_system;
GRANT SELECT, INSERT ON persistence.tenants, persistence.user_tenants, persistence.backup_verifications TO persistence_system;
GRANT DELETE ON persistence.user_tenants TO persistence_system;
GRANT SELECT ON persistence.runs, persistence.steps TO persistence_system;
GRANT SELECT, UPDATE ON persistence.secrets TO persistence_system;
GRANT SELECT, INSERT, UPDATE ON persistence.snapshots TO persistence_system;
GRANT SELECT, INSERT, UPDATE, DELETE ON persistence.consumers TO persistence_system;
GRANT SELECT, UPDATE ON persistence.live_feeds TO persistence_system;
GRANT SELECT, DELETE ON persistence.live_messages TO persistence_system;
GRANT INSERT ON canon.log_epochs TO persistence_system;
GRANT SELECT ON SEQUENCE persistence.orchestration_events_sequence_number_seq TO persistence_system, persistence_auditor;
GRANT EXECUTE ON FUNCTION
  persistence.check_event_data(text, jsonb),
  persistence.check_operator(text),
  persistence.drawn_streams(persistence.outbox_marks[], integer),
  persistence.due_streams(text, integer),
  persistence.leave_marks(uuid[], text[]),
  persistence.limited_shares(text, persistence.outbox_share[], integer, boolean),
  persistence.lock_keys(uuid[], text[]),
  persistence.open_keys(uuid[], text[]),
  persistence.open_runs(uuid[], text[]),
  persistence.wake_runs(uuid[], uuid[]),
  persistence.run_allowance(uuid, text),
  persistence.ordering_key_lock(uuid, text),
  persistence.outbox_allowance(uuid, text),
  persistence.outbox_tokens(persistence.outbox_limits),
  persistence.plane_lock(text),
  persistence.postpone_resting(uuid[], uuid[]),
  persistence.spend_tokens(text, uuid[])
  TO persistence_system;

-- The fold runs with the rights of whoever calls it: as persistence_system within settle_outbox, as an auditor into temporary tables.
GRANT EXECUTE ON FUNCTION
  persistence.batch_deltas(persistence.orchestration_events[]),
  persistence.event_document(jsonb, timestamptz, text, jsonb),
  persistence.fold_backup_verifications(persistence.aggregate_delta[]),
  persistence.fold_checkpoints(persistence.aggregate_delta[], integer, integer, jsonb),
  persistence.fold_data_keys(persistence.aggregate_delta[], integer, integer, jsonb),
  persistence.fold_memories(persistence.aggregate_delta[], integer, integer, jsonb),
  persistence.fold_memory_recalls(persistence.aggregate_delta[], integer, integer),
  persistence.fold_memory_indexes(persistence.aggregate_delta[], integer, integer),
  persistence.fold_secrets(persistence.aggregate_delta[], integer, integer, jsonb),
  persistence.fold_vault_accesses(persistence.aggregate_delta[], integer, integer),
  persistence.fold_snapshots(persistence.aggregate_delta[], integer, integer),
  persistence.fold_effects(persistence.aggregate_delta[], integer, integer),
  persistence.fold_deltas(persistence.aggregate_delta[], jsonb),
  persistence.fold_events(persistence.orchestration_events[], jsonb),
  persistence.fold_kind(text, persistence.aggregate_delta[], integer, integer, jsonb),
  persistence.fold_batch(persistence.orchestration_events[]),
  persistence.fold_log(uuid, timestamptz, double precision, integer),
  persistence.in_sample(uuid, double precision),
  persistence.fold_outbox(persistence.aggregate_delta[], integer, integer),
  persistence.fold_runs(persistence.aggregate_delta[], integer, integer),
  persistence.fold_signals(persistence.aggregate_delta[], integer, integer),
  persistence.fold_steps(persistence.aggregate_delta[], integer, integer),
  persistence.fold_tool_calls(persistence.aggregate_delta[], integer, integer),
  persistence.jsonb_merge(jsonb),
  persistence.refuse_chain(persistence.orchestration_events[]),
  persistence.refuse_deltas(text, persistence.aggregate_delta[])
  TO persistence_system, persistence_auditor;
GRANT EXECUTE ON FUNCTION
  persistence.event_digest(persistence.orchestration_events),
  persistence.upcast_data(text, smallint, jsonb),
  persistence.upcast_event(persistence.orchestration_events)
  TO persistence_system, persistence_app, persistence_operator, persistence_auditor;
GRANT EXECUTE ON FUNCTION persistence.in_channel(text, persistence.orchestration_events) TO persistence_app, persistence_operator, persistence_auditor;
GRANT EXECUTE ON FUNCTION persistence.system_tenant_id(), persistence.new_id()
  TO persistence_system, persistence_app, persistence_operator, persistence_auditor;

