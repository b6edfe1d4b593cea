-- For a worker that settled entries with ordering keys: gives the next of each its turn, also one that was being recorded at that moment.
CREATE FUNCTION persistence.advance_keys(tenant_ids uuid[], keys text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
BEGIN
  PERFORM lock_keys(tenant_ids, keys);
  PERFORM open_keys(tenant_ids, keys);
END
$$;
