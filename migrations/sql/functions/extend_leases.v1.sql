-- Gives a worker more time for entries it holds. Returns the ids that are still its own: it must stop work on the others.
CREATE FUNCTION persistence.extend_leases(tenant_ids uuid[], ids uuid[], lease_tokens uuid[], lease interval) RETURNS uuid[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = persistence, pg_temp
AS $$
DECLARE
  extended uuid[];
BEGIN
  IF (lease > interval '0' AND lease <= interval '1 day') IS NOT TRUE THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE008',
      MESSAGE = format('lease: %s is not between nothing and a day', lease),
      HINT = 'A lease can be extended as often as needed.';
  END IF;
  PERFORM set_config('synchronous_commit', 'off', true);  -- as in claim_outbox
  WITH held AS (
    UPDATE outbox_queue AS q
    SET leased_until = now() + extend_leases.lease, updated_at = now()
    FROM unnest(tenant_ids, ids, lease_tokens) AS g (tenant_id, id, lease_token)
    WHERE q.tenant_id = g.tenant_id
      AND q.id = g.id
      AND q.lease_token = g.lease_token
    RETURNING q.id
  )
  SELECT array_agg(h.id) INTO extended FROM held AS h;
  RETURN coalesce(extended, '{}');
END
$$;
