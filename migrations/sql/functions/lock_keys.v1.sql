-- Of each ordering key, one writer at a time until it commits: so the entries of a key come in the order of their commits, and whoever sees one sees
-- all before it.
CREATE FUNCTION persistence.lock_keys(tenant_ids uuid[], keys text[]) RETURNS void
LANGUAGE sql
AS $$
  SELECT pg_advisory_xact_lock(k.lock)
  FROM (
    SELECT DISTINCT persistence.ordering_key_lock(k.tenant_id, k.ordering_key) AS lock
    FROM unnest(tenant_ids, keys) AS k (tenant_id, ordering_key)
    WHERE k.ordering_key IS NOT NULL
    ORDER BY lock
  ) AS k
$$;
