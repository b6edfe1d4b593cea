-- title: Every step's run exists
-- section: 2.1
-- law: CANON-ORCH-STATE-001 §2.4
-- severity: error
-- means: The step belongs to no run.
-- remedy: Compare with the log (persistence replay --verify), and restore the missing row: persistence replay --rebuild runs.
SELECT 'steps ' || t.id AS object, 'no run ' || t.run_id AS detail
FROM persistence.steps AS t
LEFT JOIN persistence.runs AS r ON r.tenant_id = t.tenant_id AND r.id = t.run_id
WHERE t.updated_at >= :'since'
  AND r.id IS NULL
