-- Hands back runs that an executor has, as they are: they are due after their delays. Returns their ids.
CREATE FUNCTION persistence.release_runs(tenant_ids uuid[], ids uuid[], lease_tokens uuid[], delays interval[] DEFAULT '{}') RETURNS uuid[]
LANGUAGE sql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
  WITH released AS (
    UPDATE run_queue AS q
    SET
      due_at = now() + coalesce(g.delay, '0'), attempts = greatest(q.attempts - 1, 0), leased_until = NULL, lease_token = NULL, leased_by = NULL, updated_at = now()
    FROM unnest(tenant_ids, ids, lease_tokens, delays) AS g (tenant_id, id, lease_token, delay)
    WHERE q.tenant_id = g.tenant_id
      AND q.id = g.id
      AND q.lease_token = g.lease_token
    RETURNING q.id
  )
  SELECT coalesce(array_agg(r.id), '{}') FROM released AS r
$$;
