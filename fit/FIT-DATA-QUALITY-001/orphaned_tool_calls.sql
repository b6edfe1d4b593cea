-- title: Every tool call's run and step exist, and the step is of that run
-- section: 2.1
-- law: CANON-ORCH-STATE-001 §2.4
-- severity: error
-- means: The tool call belongs to no step, or to one of another run.
-- remedy: Compare with the log (persistence replay --verify), and restore the missing row: persistence replay --rebuild steps.
SELECT 'tool_calls ' || t.id AS object, CASE WHEN r.id IS NULL THEN 'no run ' || t.run_id WHEN s.id IS NULL THEN 'no step ' || t.step_id ELSE 'its step is of run ' || s.run_id END AS detail
FROM persistence.tool_calls AS t
LEFT JOIN persistence.runs AS r ON r.tenant_id = t.tenant_id AND r.id = t.run_id
LEFT JOIN persistence.steps AS s ON s.tenant_id = t.tenant_id AND s.id = t.step_id
WHERE t.updated_at >= :'since'
  AND (r.id IS NULL OR s.id IS NULL OR s.run_id <> t.run_id)
