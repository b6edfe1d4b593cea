-- Locks the runs and steps that a batch ends, so that nothing begins in them meanwhile: whoever begins a part holds the row's key (the foreign key's
-- lock, and check_wholes), and this waits for them.
CREATE FUNCTION persistence.lock_ending(batch persistence.orchestration_events[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  tenant CONSTANT uuid := batch[1].tenant_id;
  run_ids uuid[];
  step_ids uuid[];
BEGIN
  SELECT
    array_agg(e.aggregate_id) FILTER (WHERE e.aggregate_type = 'RUN'),
    array_agg(e.aggregate_id) FILTER (WHERE e.aggregate_type = 'STEP')
  INTO run_ids, step_ids
  FROM unnest(batch) AS e
  JOIN canon.event_types AS t USING (event_type, event_version)
  WHERE t.ends
    AND e.aggregate_version > 1;
  IF run_ids IS NOT NULL THEN
    PERFORM
    FROM runs AS r
    WHERE r.tenant_id = tenant
      AND r.id = ANY (run_ids)
    ORDER BY r.id
    FOR UPDATE;
  END IF;
  IF step_ids IS NOT NULL THEN
    PERFORM
    FROM steps AS s
    WHERE s.tenant_id = tenant
      AND s.id = ANY (step_ids)
    ORDER BY s.id
    FOR UPDATE;
  END IF;
  RETURN true;
END
$$;
