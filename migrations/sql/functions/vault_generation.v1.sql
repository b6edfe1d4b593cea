-- The last generation of a vault's file that was recorded; NULL where none was.
CREATE FUNCTION persistence.vault_generation(vault_id uuid) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
  SELECT (e.event_data ->> 'generation')::bigint
  FROM orchestration_events AS e
  WHERE e.tenant_id = system_tenant_id()
    AND e.aggregate_id = system_tenant_id()
    AND e.event_type = 'VAULT_CHANGED'
    AND e.event_data ->> 'vault_id' = vault_generation.vault_id::text
  ORDER BY e.aggregate_version DESC
  LIMIT 1
$$;
