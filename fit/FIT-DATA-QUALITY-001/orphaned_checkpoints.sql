-- title: Every checkpoint's run and step exist
-- section: 2.1
-- law: CANON-ORCH-STATE-001 §2.4
-- severity: error
-- means: The saved state belongs to no run.
-- remedy: Compare with the log (persistence replay --verify), and restore the missing row: persistence replay --rebuild runs.
SELECT 'run_checkpoints ' || t.id AS object, CASE WHEN r.id IS NULL THEN 'no run ' || t.run_id ELSE 'no step ' || t.step_id END AS detail
FROM persistence.run_checkpoints AS t
LEFT JOIN persistence.runs AS r ON r.tenant_id = t.tenant_id AND r.id = t.run_id
LEFT JOIN persistence.steps AS s ON s.tenant_id = t.tenant_id AND s.id = t.step_id
WHERE t.updated_at >= :'since'
  AND (r.id IS NULL OR (t.step_id IS NOT NULL AND s.id IS NULL))
