-- Locks the runs and steps that a batch is about to end, before it has its numbers in the log: whoever begins a part holds the row's key (the foreign
-- key's lock, and check_wholes). So what began first is seen, and what comes later is refused.
CREATE FUNCTION persistence.lock_ending(tenant_id uuid, events jsonb) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  run_ids uuid[];
  step_ids uuid[];
BEGIN
  SELECT array_agg(e.id) FILTER (WHERE e.kind = 'RUN'), array_agg(e.id) FILTER (WHERE e.kind = 'STEP')
  INTO run_ids, step_ids
  FROM (
    SELECT e.aggregate_type AS kind, e.aggregate_id AS id
    FROM jsonb_to_recordset(events) AS e (event_type text, aggregate_type text, aggregate_id uuid, aggregate_version integer)
    WHERE e.aggregate_type IN ('RUN', 'STEP')
    GROUP BY kind, id
    HAVING min(e.aggregate_version) > 1  -- nobody else can see what begins with the batch
      AND bool_or(e.event_type ~ '{ending_types}')
  ) AS e;
  IF run_ids IS NOT NULL THEN
    PERFORM FROM runs AS r WHERE r.tenant_id = lock_ending.tenant_id AND r.id = ANY (run_ids) ORDER BY r.id FOR UPDATE;
  END IF;
  IF step_ids IS NOT NULL THEN
    PERFORM FROM steps AS s WHERE s.tenant_id = lock_ending.tenant_id AND s.id = ANY (step_ids) ORDER BY s.id FOR UPDATE;
  END IF;
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    PERFORM refuse_end_in_snapshot(lock_ending.tenant_id, 'RUN', run_ids);
    PERFORM refuse_end_in_snapshot(lock_ending.tenant_id, 'STEP', step_ids);
  END IF;
  RETURN true;
END
$$;
