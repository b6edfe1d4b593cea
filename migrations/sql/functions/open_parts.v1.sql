-- Steps, tool calls and child runs that are open, of these runs and steps.
CREATE FUNCTION persistence.open_parts(tenant_id uuid, run_ids uuid[], step_ids uuid[])
RETURNS TABLE (kind text, id uuid, part_kind text, part uuid, status text)
LANGUAGE sql STABLE
AS $$
  SELECT 'RUN', s.run_id, 'STEP', s.id, s.status
  FROM persistence.steps AS s
  WHERE s.tenant_id = open_parts.tenant_id
    AND s.run_id = ANY (run_ids)
    AND s.status IN ('PENDING', 'RUNNING', 'WAITING')
  UNION ALL
  SELECT 'STEP', c.step_id, 'TOOL_CALL', c.id, c.status
  FROM persistence.tool_calls AS c
  WHERE c.tenant_id = open_parts.tenant_id
    AND c.step_id = ANY (step_ids)
    AND c.status IN ('PENDING', 'RUNNING')
  UNION ALL
  SELECT 'RUN', c.run_id, 'TOOL_CALL', c.id, c.status
  FROM persistence.tool_calls AS c
  WHERE c.tenant_id = open_parts.tenant_id
    AND c.run_id = ANY (run_ids)
    AND c.status IN ('PENDING', 'RUNNING')
  UNION ALL
  SELECT 'RUN', r.parent_run_id, 'RUN', r.id, r.status
  FROM persistence.runs AS r
  WHERE r.tenant_id = open_parts.tenant_id
    AND r.parent_run_id = ANY (run_ids)
    AND r.status IN ('PENDING', 'RUNNING', 'WAITING')
$$;
