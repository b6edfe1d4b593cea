-- Of entries that a worker holds, those that nobody wants any more: the handler may stop, or finish what it has begun; no other attempt follows.
CREATE FUNCTION persistence.cancelled_leases(tenant_ids uuid[], ids uuid[], lease_tokens uuid[]) RETURNS uuid[]
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
  SELECT coalesce(array_agg(q.id), '{}')
  FROM unnest(tenant_ids, ids, lease_tokens) AS g (tenant_id, id, lease_token)
  JOIN outbox_queue AS q ON q.tenant_id = g.tenant_id AND q.id = g.id
  WHERE q.lease_token = g.lease_token
    AND q.held_by = 'CANCELLED'
$$;
