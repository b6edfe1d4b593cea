-- How many turns of a flow may be taken now under one limit of effect type 'flow:' and its name: what is left of its concurrency and of its rate. NULL: it
-- limits nothing. 0 also while another claim counts: the limit's row is locked until this claim is over.
CREATE FUNCTION persistence.run_allowance(tenant_id uuid, flow text) RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
  account outbox_limits;
  allowed double precision := 'Infinity';
BEGIN
  SELECT l.*
  INTO account
  FROM outbox_limits AS l
  WHERE l.tenant_id = run_allowance.tenant_id
    AND l.effect_type = 'flow:' || run_allowance.flow
    AND (l.max_concurrency IS NOT NULL OR l.max_rate IS NOT NULL)
  FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN (
      SELECT 0
      FROM outbox_limits AS l
      WHERE l.tenant_id = run_allowance.tenant_id
        AND l.effect_type = 'flow:' || run_allowance.flow
        AND (l.max_concurrency IS NOT NULL OR l.max_rate IS NOT NULL)
    );
  END IF;
  IF account.max_concurrency IS NOT NULL THEN
    allowed := account.max_concurrency - (
      SELECT count(*)
      FROM run_queue AS q
      WHERE q.flow = run_allowance.flow
        AND q.held_by IS NULL
        AND (account.tenant_id = system_tenant_id() OR q.tenant_id = account.tenant_id)
        AND q.leased_until > now()
    );
  END IF;
  IF account.max_rate IS NOT NULL THEN
    allowed := least(allowed, floor(outbox_tokens(account)));
  END IF;
  RETURN greatest(allowed, 0);
END
$$;
