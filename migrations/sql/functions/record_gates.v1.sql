-- Records what came of a run of the gates, in the life of the system tenant. findings: see GATES_RUN in canon.event_types.
CREATE FUNCTION persistence.record_gates(findings jsonb, actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(uuid_hash_extended(system_tenant_id(), 0));
  PERFORM append_tenant_event(system_tenant_id(), 'GATES_RUN', record_gates.findings, record_gates.actor);
END
$$;
