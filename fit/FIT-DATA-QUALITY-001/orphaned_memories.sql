-- title: What a memory was learned in, and what it supersedes, exists
-- section: 2.1
-- law: CANON-ORCH-STATE-001 §2.4
-- severity: error
-- means: Nobody can say what it was learned from.
-- remedy: Compare with the log (persistence replay --verify), and restore the missing row: persistence replay --rebuild.
SELECT 'memories ' || t.id AS object, concat_ws(', ', CASE WHEN t.run_id IS NOT NULL AND r.id IS NULL THEN 'no run ' || t.run_id END, CASE WHEN t.step_id IS NOT NULL AND s.id IS NULL THEN 'no step ' || t.step_id END, CASE WHEN t.supersedes IS NOT NULL AND m.id IS NULL THEN 'no memory ' || t.supersedes END) AS detail
FROM persistence.memories AS t
LEFT JOIN persistence.runs AS r ON r.tenant_id = t.tenant_id AND r.id = t.run_id
LEFT JOIN persistence.steps AS s ON s.tenant_id = t.tenant_id AND s.id = t.step_id
LEFT JOIN persistence.memories AS m ON m.tenant_id = t.tenant_id AND m.id = t.supersedes
WHERE t.updated_at >= :'since'
  AND (
    (t.run_id IS NOT NULL AND r.id IS NULL)
    OR (t.step_id IS NOT NULL AND s.id IS NULL)
    OR (t.supersedes IS NOT NULL AND m.id IS NULL)
  )
