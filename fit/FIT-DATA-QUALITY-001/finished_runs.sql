-- title: Nothing goes on in a run or step that has ended
-- section: 2.4
-- law: CANON-ORCH-STATE-001 §4.1
-- severity: error
-- means: The result of the run is not its result, or what was cancelled still happens.
-- remedy: Find out how it came there (the log says who wrote last); end the part, or cancel the run again through its service.
SELECT x.source || ' ' || x.id AS object, x.status || ' in ' || x.whole || ', which is ' || x.ended AS detail
FROM (
  SELECT 'steps' AS source, s.id, s.status, 'run ' || r.id AS whole, r.status AS ended, s.updated_at
  FROM persistence.steps AS s
  JOIN persistence.runs AS r ON r.tenant_id = s.tenant_id AND r.id = s.run_id
  WHERE r.status IN ('COMPLETED', 'CANCELLED')
    AND s.status IN ('PENDING', 'RUNNING', 'WAITING')
  UNION ALL
  SELECT 'tool_calls', c.id, c.status, 'run ' || r.id, r.status, c.updated_at
  FROM persistence.tool_calls AS c
  JOIN persistence.runs AS r ON r.tenant_id = c.tenant_id AND r.id = c.run_id
  WHERE r.status IN ('COMPLETED', 'CANCELLED')
    AND c.status IN ('PENDING', 'RUNNING')
  UNION ALL
  SELECT 'tool_calls', c.id, c.status, 'step ' || s.id, s.status, c.updated_at
  FROM persistence.tool_calls AS c
  JOIN persistence.steps AS s ON s.tenant_id = c.tenant_id AND s.id = c.step_id
  WHERE s.status IN ('COMPLETED', 'CANCELLED', 'SKIPPED')
    AND c.status IN ('PENDING', 'RUNNING')
  UNION ALL
  SELECT 'runs', c.id, c.status, 'run ' || r.id, r.status, c.updated_at
  FROM persistence.runs AS c
  JOIN persistence.runs AS r ON r.tenant_id = c.tenant_id AND r.id = c.parent_run_id
  WHERE r.status IN ('COMPLETED', 'CANCELLED')
    AND c.status IN ('PENDING', 'RUNNING', 'WAITING')
  UNION ALL
  SELECT 'effects', e.id, e.status, 'run ' || r.id, r.status, e.updated_at
  FROM persistence.effects AS e
  JOIN persistence.runs AS r ON r.tenant_id = e.tenant_id AND r.id = e.run_id
  WHERE r.status = 'CANCELLED'
    AND (e.status = 'DEAD_LETTER' OR (e.status = 'PENDING' AND e.cancel_requested_at IS NULL))
) AS x
WHERE x.updated_at >= :'since'
