-- Lets the first run of each of these ordering keys have its turn, unless one of the key has it. Called by who holds the keys' locks (lock_keys).
CREATE FUNCTION persistence.open_runs(tenant_ids uuid[], keys text[]) RETURNS void
LANGUAGE sql
AS $$
  UPDATE persistence.run_queue AS q
  SET held_by = NULL, due_at = greatest(coalesce(r.starts_at, now()), now()), updated_at = now()
  FROM (
    SELECT DISTINCT k.tenant_id, k.ordering_key
    FROM unnest(tenant_ids, keys) AS k (tenant_id, ordering_key)
    WHERE k.ordering_key IS NOT NULL
  ) AS k
  CROSS JOIN LATERAL (
    SELECT f.id
    FROM persistence.run_queue AS f
    WHERE f.tenant_id = k.tenant_id
      AND f.ordering_key = k.ordering_key
      AND NOT EXISTS (
        SELECT
        FROM persistence.run_queue AS a
        WHERE a.tenant_id = k.tenant_id
          AND a.ordering_key = k.ordering_key
          AND a.held_by IS DISTINCT FROM 'KEY'
      )
    ORDER BY f.position
    LIMIT 1
  ) AS f
  CROSS JOIN LATERAL (
    SELECT r.starts_at
    FROM persistence.runs AS r
    WHERE r.tenant_id = k.tenant_id
      AND r.id = f.id
    LIMIT 1
  ) AS r
  WHERE q.tenant_id = k.tenant_id
    AND q.id = f.id
$$;
