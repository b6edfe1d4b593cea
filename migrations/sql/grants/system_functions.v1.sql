-- Who may call the functions of persistence_system, granted by their owner: nobody else could.
GRANT EXECUTE ON FUNCTION
  persistence.claim_outbox(text, uuid, text[], integer[], interval),
  persistence.settle_outbox(text, uuid[], uuid[], uuid[], uuid[], text[], jsonb[], interval[]),
  persistence.extend_leases(uuid[], uuid[], uuid[], interval),
  persistence.cancelled_leases(uuid[], uuid[], uuid[]),
  persistence.release_leases(uuid[], uuid[], uuid[], interval[]),
  persistence.advance_keys(uuid[], text[]),
  persistence.sweep_outbox(text[]),
  persistence.sweep_keys(),
  persistence.has_pending(text[]),
  persistence.unknown_types(text[], interval),
  persistence.report_destinations(uuid[], text[], boolean[], integer[], integer[], interval[]),
  persistence.claim_runs(text, uuid, text[], integer[], integer, interval),
  persistence.hold_runs(uuid[], uuid[], uuid[], interval),
  persistence.release_runs(uuid[], uuid[], uuid[], interval[]),
  persistence.wake_timers(timestamptz, integer),
  persistence.has_runs(text[], integer[], boolean)
  TO persistence_worker;

GRANT EXECUTE ON FUNCTION
  persistence.refresh_projections(boolean),
  persistence.purge_outbox(interval, integer),
  persistence.destroy_over_secrets(integer)
  TO persistence_worker, persistence_operator;

GRANT EXECUTE ON FUNCTION
  persistence.create_tenant(uuid, text, uuid, text),
  persistence.add_tenant_user(uuid, uuid, text),
  persistence.remove_tenant_user(uuid, uuid, text),
  persistence.list_tenants(uuid, integer),
  persistence.list_outbox_limits(),
  persistence.set_outbox_limit(uuid, text, integer, integer, double precision, text),
  persistence.record_vault_change(jsonb, text),
  persistence.issue_token(uuid, uuid, text, text, text, uuid, bytea, timestamptz, text),
  persistence.revoke_token(uuid, uuid, text)
  TO persistence_operator;

-- Who judges is not who is judged: what came of the gates, and of proving a snapshot, is written by those who do it.
GRANT EXECUTE ON FUNCTION
  persistence.record_gates(jsonb, text),
  persistence.record_snapshot_proof(uuid, uuid, text, jsonb, text)
  TO persistence_auditor;

GRANT EXECUTE ON FUNCTION
  persistence.record_vault_use(jsonb, text),
  persistence.vault_generation(uuid),
  persistence.authenticate_token(uuid, uuid, bytea),
  persistence.hold_consumer(uuid, uuid, text, text, uuid, integer, text, bigint, text, text),
  persistence.remove_consumer(uuid, uuid, text, text, text),
  persistence.record_streams(uuid, uuid, jsonb, text, text),
  persistence.watch_tenants(uuid[], integer[], text[], bigint[]),
  persistence.sweep_live()
  TO persistence_app;

GRANT EXECUTE ON FUNCTION persistence.last_gates() TO persistence_app, persistence_auditor;

GRANT EXECUTE ON FUNCTION persistence.log_epoch() TO persistence_app, persistence_owner;

GRANT EXECUTE ON FUNCTION persistence.record_context_keys(integer, text) TO persistence_owner;
