"""Planted violations of FIT-DATA-QUALITY-001. `history` in conftest makes the rows that they spoil."""

from tests.gates.plants import Plant, row

# One of each, always the same.
RUN = "(SELECT min(id::text)::uuid FROM persistence.runs WHERE status = 'COMPLETED')"
STEP = "(SELECT min(id::text)::uuid FROM persistence.steps WHERE status = 'COMPLETED')"
CALL = "(SELECT min(id::text)::uuid FROM persistence.tool_calls)"
EFFECT = "(SELECT min(id::text)::uuid FROM persistence.effects WHERE status = 'PENDING')"
DONE = "(SELECT min(id::text)::uuid FROM persistence.effects WHERE status = 'EXECUTED')"
DEAD = "(SELECT min(id::text)::uuid FROM persistence.effects WHERE status = 'DEAD_LETTER')"
LAST = "(SELECT id FROM persistence.orchestration_events WHERE event_type = 'RUN_COMPLETED' ORDER BY sequence_number DESC LIMIT 1)"
UNCLAIMED = "(SELECT id FROM persistence.runs WHERE flow_version = 9)"
WAITING = "(SELECT r.id FROM persistence.runs AS r WHERE r.flow_version = 1 AND r.status = 'WAITING' AND r.ordering_key IS NULL)"
NOWHERE = "'00000000-0000-7000-8000-00000000dead'"


PLANTS = {
    "orphaned_runs": row(f"UPDATE persistence.runs SET signal_id = {NOWHERE} WHERE id = {RUN}", f"SELECT 'runs ' || {RUN}"),
    "orphaned_steps": row(f"UPDATE persistence.steps SET run_id = {NOWHERE} WHERE id = {STEP}", f"SELECT 'steps ' || {STEP}"),
    "orphaned_tool_calls": row(
        f"UPDATE persistence.tool_calls SET step_id = {NOWHERE} WHERE id = {CALL}", f"SELECT 'tool_calls ' || {CALL}"
    ),
    "orphaned_effects": row(
        f"UPDATE persistence.effects SET run_id = {NOWHERE} WHERE id = {EFFECT}", f"SELECT 'effects ' || {EFFECT}"
    ),
    "orphaned_checkpoints": row(
        f"UPDATE persistence.run_checkpoints SET run_id = {NOWHERE}",
        "SELECT 'run_checkpoints ' || id FROM persistence.run_checkpoints",
    ),
    "orphaned_accesses": row(
        f"UPDATE persistence.vault_accesses SET secret_id = {NOWHERE} WHERE secret_id IS NOT NULL",
        "SELECT 'vault_accesses ' || id FROM persistence.vault_accesses WHERE secret_id IS NOT NULL",
    ),
    "secrets_intact": row(
        "UPDATE persistence.secrets SET sealed = 'QUJD'",
        "SELECT 'secrets ' || id FROM persistence.secrets",
    ),
    "data_keys_intact": row(
        "UPDATE persistence.data_keys SET sealed = 'QUJD' WHERE status = 'DESTROYED'",
        "SELECT 'data_keys ' || id FROM persistence.data_keys WHERE status = 'DESTROYED'",
    ),
    "secrets_over": row(
        "UPDATE persistence.secrets SET expires_at = now() - interval '8 days' WHERE status = 'HELD'",
        "SELECT 'secrets ' || id FROM persistence.secrets WHERE status = 'HELD'",
    ),
    "vault_generations": row(
        "UPDATE persistence.orchestration_events SET event_data = event_data || '{\"generation\": 1}'"
        " WHERE event_type = 'VAULT_CHANGED' AND event_data ->> 'generation' = '2'",
        "SELECT 'event ' || id FROM persistence.orchestration_events WHERE event_type = 'VAULT_CHANGED' AND event_data ->> 'change' = 'subjects_erased'",
    ),
    "snapshots_explained": row(
        "UPDATE persistence.snapshots SET error_details = NULL",
        "SELECT 'snapshots ' || id FROM persistence.snapshots",
    ),
    "snapshots_kept": row(
        "UPDATE persistence.snapshots SET status = 'DELETED', error_details = NULL",
        "SELECT format('snapshots of tenant of tenant %s', tenant_id) FROM persistence.snapshots",
    ),
    "orphaned_outbox_entries": row(
        f"UPDATE persistence.outbox_events SET aggregate_id = {NOWHERE} WHERE id = {EFFECT}", f"SELECT 'outbox_events ' || {EFFECT}"
    ),
    "known_tenants": row(
        f"UPDATE persistence.signals SET tenant_id = {NOWHERE} WHERE id = (SELECT min(id::text)::uuid FROM persistence.signals)",
        "signals of tenant 00000000-0000-7000-8000-00000000dead",
    ),
    "known_event_types": row(
        f"UPDATE persistence.orchestration_events SET event_version = 9 WHERE id = {LAST}", f"SELECT 'event ' || {LAST}"
    ),
    "event_digests": row(
        f"UPDATE persistence.orchestration_events SET event_data = event_data || '{{\"attributes\": {{}}}}' WHERE id = {LAST}",
        f"SELECT 'event ' || {LAST}",
    ),
    "required_event_data": row(
        "UPDATE persistence.orchestration_events SET event_data = event_data - 'error_details' WHERE event_type = 'RUN_FAILED'",
        "SELECT 'event ' || id FROM persistence.orchestration_events WHERE event_type = 'RUN_FAILED'",
    ),
    "unbroken_versions": row(
        f"UPDATE persistence.orchestration_events SET aggregate_version = 99 WHERE id = {LAST}",
        "SELECT 'RUN ' || aggregate_id FROM persistence.orchestration_events WHERE aggregate_version = 99",
    ),
    "one_life": row(
        f"UPDATE persistence.orchestration_events SET correlation_id = {NOWHERE} WHERE id = {LAST}",
        f"SELECT tenant_id || ' ' || aggregate_id FROM persistence.orchestration_events WHERE id = {LAST}",
    ),
    "sequence_order": row(
        f"UPDATE persistence.orchestration_events SET sequence_number = DEFAULT WHERE aggregate_id = {CALL} AND aggregate_version = 1",
        f"SELECT 'TOOL_CALL ' || {CALL}",
    ),
    "sequence_unique": row(
        f"ALTER TABLE persistence.orchestration_events ALTER sequence_number DROP IDENTITY;"
        f"UPDATE persistence.orchestration_events SET sequence_number = 3 WHERE id = {LAST}",
        "sequence number 3",
    ),
    "sequence_ahead": row(
        "INSERT INTO persistence.orchestration_events OVERRIDING SYSTEM VALUE SELECT (jsonb_populate_record(e, "
        "jsonb_build_object('id', gen_random_uuid(), 'sequence_number', 99999999, 'aggregate_version', 99))).* "
        f"FROM persistence.orchestration_events AS e WHERE e.id = {LAST}",
        "persistence.orchestration_events_sequence_number_seq",
    ),
    "transaction_horizon": row(
        f"UPDATE persistence.orchestration_events SET transaction_id = '99999999999' WHERE id = {LAST}",
        f"SELECT 'event ' || {LAST}",
    ),
    "epoch_of_this_cluster": row("UPDATE canon.log_epochs SET system_identifier = system_identifier - 1", "epoch 1"),
    "plausible_times": row(
        f"UPDATE persistence.orchestration_events SET occurred_at = created_at + interval '1 hour' WHERE id = {LAST}",
        f"SELECT 'event ' || {LAST}",
    ),
    "causes_exist": row(
        f"UPDATE persistence.orchestration_events SET causation_id = {NOWHERE} WHERE id = {LAST}", f"SELECT 'event ' || {LAST}"
    ),
    "causes_precede": row(
        f"UPDATE persistence.orchestration_events SET causation_id = id WHERE id = {LAST}", f"SELECT 'event ' || {LAST}"
    ),
    "causes_share_correlation": row(
        f"UPDATE persistence.orchestration_events SET causation_id = (SELECT e.id FROM persistence.orchestration_events AS e JOIN persistence.tenants AS t "
        f"USING (tenant_id) WHERE e.event_type = 'TENANT_CREATED' AND t.name = 'acme') WHERE id = {LAST}",
        f"SELECT 'event ' || {LAST}",
    ),
    "causes_given": row(
        f"UPDATE persistence.orchestration_events SET causation_id = NULL WHERE id = {LAST}", f"SELECT 'event ' || {LAST}"
    ),
    "actors_of_events": row(
        "ALTER TABLE persistence.orchestration_events DROP CONSTRAINT orchestration_events_actor_check;"
        f"UPDATE persistence.orchestration_events SET actor = 'somebody' WHERE id = {LAST}",
        f"SELECT 'event ' || {LAST}",
    ),
    "actors_of_rows": row(f"UPDATE persistence.runs SET actor = 'somebody' WHERE id = {RUN}", f"SELECT 'runs ' || {RUN}"),
    "correlation_of_children": row(
        f"UPDATE persistence.tool_calls SET correlation_id = {NOWHERE} WHERE id = {CALL}", f"SELECT 'tool_calls ' || {CALL}"
    ),
    "statuses_known": row(
        f"UPDATE persistence.steps SET status = 'DONE' WHERE id = {STEP}",
        "SELECT 'steps ' || id FROM persistence.steps WHERE status = 'DONE'",
    ),
    "last_event": row(
        f"UPDATE persistence.runs SET status = 'CANCELLED' WHERE id = {RUN}",
        "SELECT 'runs ' || id FROM persistence.runs WHERE status = 'CANCELLED'",
    ),
    "no_later_events": row(
        f"DELETE FROM persistence.tool_calls WHERE id = {CALL}",
        "SELECT 'TOOL_CALL ' || e.aggregate_id FROM persistence.orchestration_events AS e WHERE e.aggregate_type = 'TOOL_CALL' AND e.aggregate_version = 1 AND NOT EXISTS (SELECT FROM persistence.tool_calls AS t WHERE t.id = e.aggregate_id)",
    ),
    "retry_counters": row(f"UPDATE persistence.runs SET retry_count = 4 WHERE id = {RUN}", f"SELECT 'runs ' || {RUN}"),
    "attempt_counters": row(f"UPDATE persistence.effects SET retry_count = 4 WHERE id = {DONE}", f"SELECT 'effects ' || {DONE}"),
    "times_of_life": row(
        f"UPDATE persistence.runs SET completed_at = started_at - interval '1 day' WHERE id = {RUN}", f"SELECT 'runs ' || {RUN}"
    ),
    "updated_after_created": row(
        f"UPDATE persistence.runs SET updated_at = created_at - interval '1 second' WHERE id = {RUN}", f"SELECT 'runs ' || {RUN}"
    ),
    "failures_explained": row(
        f"UPDATE persistence.effects SET error_details = NULL WHERE id = {DEAD}", f"SELECT 'effects ' || {DEAD}"
    ),
    "finished_runs": row(
        "UPDATE persistence.steps SET status = 'RUNNING' WHERE id = (SELECT s.id FROM persistence.steps AS s JOIN persistence.runs AS r ON r.id = s.run_id "
        "WHERE r.status = 'COMPLETED' ORDER BY s.id LIMIT 1)",
        "SELECT 'steps ' || s.id FROM persistence.steps AS s JOIN persistence.runs AS r ON r.id = s.run_id WHERE r.status = 'COMPLETED' ORDER BY s.id LIMIT 1",
    ),
    "begun_in_time": row(
        f"UPDATE persistence.orchestration_events SET sequence_number = DEFAULT WHERE aggregate_id = {CALL} AND aggregate_version = 1",
        f"SELECT 'tool_calls ' || {CALL}",
    ),
    "system_tenant_unjoined": row(
        f"INSERT INTO persistence.user_tenants (tenant_id, user_id, actor) VALUES (persistence.system_tenant_id(), {NOWHERE}, 'user:intruder')",
        f"SELECT 'user_tenants ' || persistence.system_tenant_id() || ' ' || {NOWHERE}",
    ),
    "writers_of_events": row(
        f"UPDATE persistence.orchestration_events SET source = 'operator' WHERE id = {LAST}", f"SELECT 'event ' || {LAST}"
    ),
    "cancelled_entries_held": row(
        f"UPDATE persistence.effects SET cancel_requested_at = now() WHERE id = {EFFECT}", f"SELECT 'outbox_queue ' || {EFFECT}"
    ),
    "state_is_the_fold": row(
        f"UPDATE persistence.runs SET input_data = '{{\"amount\": 1}}' WHERE id = {RUN}", f"SELECT 'runs ' || {RUN}"
    ),
    "queued_streams_known": row(
        "DELETE FROM persistence.outbox_streams WHERE effect_type = 'strict'",
        "SELECT 'effect type strict of tenant ' || tenant_id FROM persistence.tenants WHERE name = 'acme'",
    ),
    "limits_recorded": row(
        "UPDATE persistence.outbox_limits SET weight = 3",
        "SELECT format('outbox_limits %s of tenant %s', effect_type, tenant_id) FROM persistence.outbox_limits",
    ),
    "tokens_recorded": row(
        "UPDATE persistence.api_tokens SET role = 'admin'",
        "SELECT format('api_tokens %s of tenant %s', id, tenant_id) FROM persistence.api_tokens",
    ),
    "consumers_recorded": row(
        "UPDATE persistence.consumers SET name = 'another'",
        "SELECT format('consumers %s of tenant %s', id, tenant_id) FROM persistence.consumers",
    ),
    "consumers_within_the_log": row(
        "UPDATE persistence.consumers SET transaction_id = '18446744073709551000'",
        "SELECT format('consumers %s of tenant %s', id, tenant_id) FROM persistence.consumers",
    ),
    "keys_in_turn": row(
        "UPDATE persistence.outbox_queue SET held_by = 'KEY', died_at = NULL, updated_at = created_at - interval '2 hours' WHERE ordering_key = 'strict'",
        "SELECT DISTINCT format('ordering key %s of tenant %s', ordering_key, tenant_id) FROM persistence.outbox_queue WHERE ordering_key = 'strict'",
    ),
    "runs_listed": row("DELETE FROM persistence.run_queue WHERE flow_version = 9", f"SELECT 'runs ' || {UNCLAIMED}"),
    "listed_runs_open": row(
        "UPDATE persistence.run_queue SET flow = 'other' WHERE flow_version = 9", f"SELECT 'run_queue ' || {UNCLAIMED}"
    ),
    "runs_woken": row(
        f"UPDATE persistence.steps SET signal_type = NULL, signal_key = NULL WHERE run_id = {WAITING}",
        f"SELECT 'runs ' || {WAITING}",
    ),
    "runs_in_turn": row(
        "UPDATE persistence.run_queue SET held_by = 'KEY' WHERE ordering_key = 'desk'",
        "SELECT DISTINCT format('ordering key %s of tenant %s', ordering_key, tenant_id) FROM persistence.run_queue WHERE ordering_key = 'desk'",
    ),
    "run_leases_whole": row(
        "UPDATE persistence.run_queue SET lease_token = gen_random_uuid() WHERE flow_version = 9",
        f"SELECT 'run_queue ' || {UNCLAIMED}",
    ),
    "runs_overdue": row(
        "UPDATE persistence.run_queue SET due_at = now() - interval '2 hours' WHERE flow_version = 9",
        "SELECT format('flow desk@9 of tenant %s', tenant_id) FROM persistence.run_queue WHERE flow_version = 9",
    ),
    "positions_taken_once": row(
        "INSERT INTO persistence.steps SELECT (jsonb_populate_record(s, jsonb_build_object('id', gen_random_uuid()))).* "
        f"FROM persistence.steps AS s WHERE s.run_id = {WAITING} AND s.position = '0'",
        f"SELECT format('run %s at 0', {WAITING})",
    ),
    "context_keys_recorded": row(
        "INSERT INTO canon.context_keys (inner_pad, outer_pad) VALUES (decode(repeat('36', 64), 'hex'), decode(repeat('5c', 64), 'hex'))",
        "SELECT 'canon.context_keys'",
    ),
    "memberships_recorded": row(
        f"INSERT INTO persistence.user_tenants (tenant_id, user_id, actor) SELECT tenant_id, {NOWHERE}, 'user:intruder' FROM persistence.tenants "
        "WHERE name = 'acme'",
        f"SELECT 'user_tenants ' || tenant_id || ' ' || {NOWHERE} FROM persistence.tenants WHERE name = 'acme'",
    ),
    "memories_intact": row(
        "UPDATE persistence.memories SET content = 'the customer likes beer'",
        "SELECT 'memories ' || id FROM persistence.memories",
    ),
    "orphaned_recalls": row(
        f"UPDATE persistence.memory_recalls SET memories = to_jsonb(ARRAY[{NOWHERE}])",
        "SELECT 'memory_recalls ' || id FROM persistence.memory_recalls",
    ),
    "vectors_have_sources": row(
        "UPDATE persistence.memory_vectors SET digest = repeat('0', 64)",
        "SELECT 'memory_vectors ' || id FROM persistence.memory_vectors",
    ),
    "vectors_as_made": row(
        "UPDATE persistence.memory_vectors SET embedding[1] = embedding[1] + 0.001",
        "SELECT 'memory_vectors ' || id FROM persistence.memory_vectors",
    ),
    "vectors_made": row(
        "DELETE FROM persistence.memory_vectors",
        "SELECT 'memories ' || d.memory_id FROM (SELECT DISTINCT e.memory_id, x.id FROM persistence.effects AS e"
        " JOIN persistence.memories AS m ON m.id = e.memory_id AND m.status <> 'FORGOTTEN'"
        " CROSS JOIN jsonb_each(e.execution_result -> 'indexes') AS i JOIN persistence.memory_indexes AS x ON x.id::text = i.key"
        " WHERE e.status = 'EXECUTED' AND x.status <> 'RETIRED') AS d",
    ),
    "orphaned_memories": row(
        f"UPDATE persistence.memories SET supersedes = {NOWHERE}",
        "SELECT 'memories ' || id FROM persistence.memories",
    ),
    "checkpoints_intact": row(
        "UPDATE persistence.run_checkpoints SET state = '{\"n\": 2}'",
        "SELECT 'run_checkpoints ' || id FROM persistence.run_checkpoints",
    ),
    "effects_have_entries": row(f"DELETE FROM persistence.outbox_events WHERE id = {EFFECT}", f"SELECT 'effects ' || {EFFECT}"),
    "effects_agree_with_entries": row(
        f'UPDATE persistence.outbox_events SET payload = payload || \'{{"to": "me"}}\' WHERE id = {EFFECT}',
        f"SELECT 'outbox_events ' || {EFFECT}",
    ),
    "idempotency_keys": row(
        f"UPDATE persistence.effects SET effect_spec = effect_spec - 'idempotency_key' WHERE id = {EFFECT}",
        f"SELECT 'effects ' || {EFFECT}",
    ),
    "pending_entries_queued": row(
        f"DELETE FROM persistence.outbox_queue WHERE id = {EFFECT}", f"SELECT 'outbox_events ' || {EFFECT}"
    ),
    "queued_entries_pending": row(
        f"INSERT INTO persistence.outbox_queue (tenant_id, id, effect_type, due_at) SELECT tenant_id, id, effect_type, now() FROM persistence.effects "
        f"WHERE id = {DONE}",
        f"SELECT 'outbox_queue ' || {DONE}",
    ),
    "leases_whole": row(
        f"UPDATE persistence.outbox_queue SET lease_token = gen_random_uuid() WHERE id = {EFFECT}",
        f"SELECT 'outbox_queue ' || {EFFECT}",
    ),
    "leases_expired": row(
        f"UPDATE persistence.outbox_queue SET lease_token = gen_random_uuid(), leased_by = 'w', leased_until = now() - interval '2 hours' "
        f"WHERE id = {EFFECT}",
        f"SELECT 'outbox_queue ' || {EFFECT}",
    ),
    "entries_overdue": row(
        f"UPDATE persistence.outbox_queue SET due_at = now() - interval '2 hours' WHERE id = {EFFECT}",
        f"SELECT 'effect type ' || effect_type || ' of tenant ' || tenant_id FROM persistence.outbox_queue WHERE id = {EFFECT}",
    ),
    "entries_released": Plant(
        "SELECT persistence.hold_outbox()",
        "SELECT DISTINCT 'effect type ' || effect_type || ' of tenant ' || tenant_id FROM persistence.outbox_queue WHERE held_by = 'RESTORE'",
        "SELECT persistence.release_outbox()",
    ),
    "dead_letters_attended": row(
        f"UPDATE persistence.outbox_events SET updated_at = now() - interval '8 days', created_at = now() - interval '9 days' WHERE id = {DEAD}",
        f"SELECT 'outbox_events ' || {DEAD}",
    ),
    "projections_fresh": Plant(
        "SET session_replication_role = replica; INSERT INTO persistence.runs SELECT (jsonb_populate_record(r, "
        "jsonb_build_object('id', gen_random_uuid(), 'updated_at', now() - interval '2 hours'))).* "
        f"FROM persistence.runs AS r WHERE r.id = {RUN}",
        "persistence.run_summary",
        "SELECT persistence.refresh_projections()",
    ),
    "projections_agree": row(
        f"SELECT persistence.refresh_projections(); DELETE FROM persistence.runs WHERE id = {RUN}",
        "SELECT 'run_summary ' || p.id FROM persistence.run_summary AS p WHERE NOT EXISTS (SELECT FROM persistence.runs AS r WHERE r.id = p.id)",
    ),
    "records_purged": row(
        f"UPDATE persistence.outbox_events SET published_at = now() - interval '91 days' WHERE id = {DONE}",
        "persistence.outbox_events",
    ),
    "backup_verified": Plant(
        "SET session_replication_role = replica; UPDATE persistence.orchestration_events SET created_at = now() - interval '31 days';"
        "UPDATE persistence.backup_verifications SET verified_at = now() - interval '31 days'",
        "persistence.backup_verifications",
        "SELECT persistence.record_backup_verification(gen_random_uuid(), 'BACKUP_VERIFIED', "
        '\'{"backup_label": "monday", "taken_at": "2026-01-05T00:00:00Z", "findings": {}}\', \'system:test\')',
    ),
    "backups_not_refused": Plant(
        "SELECT persistence.record_backup_verification(gen_random_uuid(), 'BACKUP_REFUSED', "
        '\'{"backup_label": "monday", "taken_at": "2026-01-05T00:00:00Z", "findings": {}, "error_details": {"message": "torn"}}\', \'system:test\')',
        "backup monday",
        "SELECT persistence.record_backup_verification(gen_random_uuid(), 'BACKUP_VERIFIED', "
        '\'{"backup_label": "tuesday", "taken_at": "2026-01-06T00:00:00Z", "findings": {}}\', \'system:test\')',
    ),
}
