-- Hands back entries that a worker holds and has not begun, or whose receiver takes nothing now: they are due after their delays and the attempt does
-- not count; those that were cancelled meanwhile wait for end_cancelled. Returns their ids.
CREATE FUNCTION persistence.release_leases(tenant_ids uuid[], ids uuid[], lease_tokens uuid[], delays interval[] DEFAULT '{}') RETURNS uuid[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
DECLARE
  released uuid[];
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);  -- as in claim_outbox
  WITH held AS (
    UPDATE outbox_queue AS q
    SET
      due_at = CASE WHEN q.held_by IS NULL THEN now() + coalesce(g.delay, '0') ELSE q.due_at END, attempts = q.attempts - 1, leased_until = NULL, lease_token = NULL, leased_by = NULL, is_counted = false, updated_at = now()
    FROM unnest(tenant_ids, ids, lease_tokens, delays) AS g (tenant_id, id, lease_token, delay)
    WHERE q.tenant_id = g.tenant_id
      AND q.id = g.id
      AND q.lease_token = g.lease_token
    RETURNING q.id
  )
  SELECT array_agg(h.id) INTO released FROM held AS h;
  RETURN coalesce(released, '{}');
END
$$;
