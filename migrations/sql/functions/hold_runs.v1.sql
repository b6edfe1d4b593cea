-- Gives an executor more time for runs it has. Returns those that are still its own, each with how many reasons to go on have come: it must leave the others.
CREATE FUNCTION persistence.hold_runs(tenant_ids uuid[], ids uuid[], lease_tokens uuid[], lease interval)
RETURNS TABLE (id uuid, wakes integer)
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
  PERFORM set_config('synchronous_commit', 'off', true);  -- as in claim_runs
  RETURN QUERY
    UPDATE run_queue AS q
    SET leased_until = now() + hold_runs.lease, updated_at = now()
    FROM unnest(tenant_ids, hold_runs.ids, lease_tokens) AS g (tenant_id, id, lease_token)
    WHERE q.tenant_id = g.tenant_id
      AND q.id = g.id
      AND q.lease_token = g.lease_token
    RETURNING q.id, q.wakes;
END
$$;
