-- Steps, tool calls and child runs of a run that are open.
CREATE FUNCTION persistence.open_parts(tenant_id uuid, run_id uuid) RETURNS TABLE (kind text, id uuid, status text)
LANGUAGE sql STABLE
AS $$
  SELECT 'STEP', s.id, s.status
  FROM persistence.steps AS s
  WHERE s.tenant_id = open_parts.tenant_id
    AND s.run_id = open_parts.run_id
    AND s.status IN ('PENDING', 'RUNNING', 'WAITING')
  UNION ALL
  SELECT 'TOOL_CALL', c.id, c.status
  FROM persistence.tool_calls AS c
  WHERE c.tenant_id = open_parts.tenant_id
    AND c.run_id = open_parts.run_id
    AND c.status IN ('PENDING', 'RUNNING')
  UNION ALL
  SELECT 'RUN', r.id, r.status
  FROM persistence.runs AS r
  WHERE r.tenant_id = open_parts.tenant_id
    AND r.parent_run_id = open_parts.run_id
    AND r.status IN ('PENDING', 'RUNNING', 'WAITING')
$$;
