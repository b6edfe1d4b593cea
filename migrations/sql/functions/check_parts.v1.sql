-- Refuses a batch that ends a run or step well while parts of it are open.
CREATE FUNCTION persistence.check_parts(batch persistence.orchestration_events[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
DECLARE
  tenant CONSTANT uuid := batch[1].tenant_id;
  bad record;
BEGIN
  SELECT e.aggregate_type AS whole_type, e.aggregate_id AS whole_id, part.kind, part.id, part.status
  INTO bad
  FROM unnest(batch) AS e
  CROSS JOIN LATERAL (
    (
      SELECT 'STEP' AS kind, s.id, s.status
      FROM steps AS s
      WHERE e.event_type = 'RUN_COMPLETED' AND s.tenant_id = tenant AND s.run_id = e.aggregate_id
        AND s.status IN ('PENDING', 'RUNNING', 'WAITING')
      LIMIT 1
    )
    UNION ALL (
      SELECT 'TOOL_CALL', c.id, c.status
      FROM tool_calls AS c
      WHERE e.event_type = 'RUN_COMPLETED' AND c.tenant_id = tenant AND c.run_id = e.aggregate_id
        AND c.status IN ('PENDING', 'RUNNING')
      LIMIT 1
    )
    UNION ALL (
      SELECT 'RUN', r.id, r.status
      FROM runs AS r
      WHERE e.event_type = 'RUN_COMPLETED' AND r.tenant_id = tenant AND r.parent_run_id = e.aggregate_id
        AND r.status IN ('PENDING', 'RUNNING', 'WAITING')
      LIMIT 1
    )
    UNION ALL (
      SELECT 'TOOL_CALL', c.id, c.status
      FROM tool_calls AS c
      WHERE e.event_type = 'STEP_COMPLETED' AND c.tenant_id = tenant AND c.step_id = e.aggregate_id
        AND c.status IN ('PENDING', 'RUNNING')
      LIMIT 1
    )
  ) AS part
  WHERE e.event_type IN ('RUN_COMPLETED', 'STEP_COMPLETED')
  LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'PE002',
      MESSAGE = format('%s %s cannot complete: its %s %s is %s', bad.whole_type, bad.whole_id, bad.kind, bad.id, bad.status),
      HINT = 'End its parts first, or say what becomes of them: complete(…, open_parts="cancel").';
  END IF;
  RETURN true;
END
$$;
