-- For a worker that settled entries with ordering keys: gives the next of each its turn, also one that was being recorded at that moment.
-- A writer that takes longer is left to sweep_keys.
CREATE FUNCTION persistence.advance_keys(tenant_ids uuid[], keys text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM set_config('lock_timeout', '100ms', true);
  PERFORM lock_keys(tenant_ids, keys);
  PERFORM open_keys(tenant_ids, keys);
EXCEPTION
  WHEN lock_not_available THEN
    RETURN;
END
$$;
