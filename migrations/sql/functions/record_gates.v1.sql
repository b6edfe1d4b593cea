-- Records what came of a run of the gates, in the life of the system tenant. findings: see GATES_RUN in canon.event_types.
CREATE FUNCTION persistence.record_gates(findings jsonb, actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  IF pg_column_size(findings) > 1048576 THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE006',
      MESSAGE = 'findings: more than 1 MiB',
      HINT = 'Record counts, not what was found.';
  END IF;
  PERFORM pg_advisory_xact_lock(plane_lock(system_tenant_id()::text));
  PERFORM append_tenant_event(system_tenant_id(), 'GATES_RUN', record_gates.findings, record_gates.actor);
END
$$;
