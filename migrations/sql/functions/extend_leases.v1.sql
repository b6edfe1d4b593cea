-- Gives a worker more time for entries it holds. Returns those that are still its own: it must stop work on the others. is_cancelled: nobody wants
-- the effect any more, and no other attempt follows; the handler may stop, or finish what it has begun.
CREATE FUNCTION persistence.extend_leases(tenant_ids uuid[], ids uuid[], lease_tokens uuid[], lease interval)
RETURNS TABLE (id uuid, is_cancelled boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  IF (lease > interval '0' AND lease <= interval '1 day') IS NOT TRUE THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('lease: %s is not between nothing and a day', lease),
      HINT = 'A lease can be extended as often as needed.';
  END IF;
  PERFORM set_config('synchronous_commit', 'off', true);  -- as in claim_outbox
  RETURN QUERY
    UPDATE outbox_queue AS q
    SET leased_until = now() + extend_leases.lease, updated_at = now()
    FROM unnest(tenant_ids, ids, lease_tokens) AS g (tenant_id, id, lease_token)
    WHERE q.tenant_id = g.tenant_id
      AND q.id = g.id
      AND q.lease_token = g.lease_token
    RETURNING q.id, q.held_by IS NOT NULL;
END
$$;
