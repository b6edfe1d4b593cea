-- Records, in the log of the system tenant, that the vault's file has another generation. For operators.
CREATE FUNCTION persistence.record_vault_change(event_data jsonb, actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
DECLARE
  last_generation bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(plane_lock(system_tenant_id()::text));
  last_generation := vault_generation((event_data ->> 'vault_id')::uuid);
  IF (event_data ->> 'generation')::bigint <= last_generation AND event_data ->> 'change' <> 'restored' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE001',
      MESSAGE = format('generation %s of vault %s was recorded already', last_generation, event_data ->> 'vault_id'),
      HINT = 'The file in use is an older one: put the later one back.';
  END IF;
  PERFORM append_tenant_event(system_tenant_id(), 'VAULT_CHANGED', event_data, actor);
END
$$;
