-- Records, in the life of the system tenant, how many keys there are now whose proofs let a transaction enter a tenant.
CREATE FUNCTION persistence.record_context_keys(keys integer, actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(plane_lock(system_tenant_id()::text));
  PERFORM append_tenant_event(
    system_tenant_id(), 'CONTEXT_KEYS_SET', jsonb_build_object('keys', record_context_keys.keys), record_context_keys.actor
  );
END
$$;
