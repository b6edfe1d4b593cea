-- Records, in the log of the system tenant, that a process opened the vault, could not, or locked it, or that an entry of its file was read.
CREATE FUNCTION persistence.record_vault_use(event_data jsonb, actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(plane_lock(system_tenant_id()::text));
  PERFORM append_tenant_event(system_tenant_id(), 'VAULT_USED', event_data, actor);
END
$$;
