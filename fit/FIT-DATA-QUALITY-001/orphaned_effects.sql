-- title: Every effect's run and step, or its memory, exist, and the step is of that run
-- section: 2.1
-- law: CANON-ORCH-STATE-001 §2.4
-- severity: error
-- means: Nobody can say what the effect was for.
-- remedy: Compare with the log (persistence replay --verify), and restore the missing row: persistence replay --rebuild steps.
SELECT 'effects ' || t.id AS object, CASE WHEN t.memory_id IS NOT NULL THEN 'no memory ' || t.memory_id WHEN t.run_id IS NULL THEN 'of nothing' WHEN r.id IS NULL THEN 'no run ' || t.run_id WHEN s.id IS NULL THEN 'no step ' || t.step_id ELSE 'its step is of run ' || s.run_id END AS detail
FROM persistence.effects AS t
LEFT JOIN persistence.runs AS r ON r.tenant_id = t.tenant_id AND r.id = t.run_id
LEFT JOIN persistence.steps AS s ON s.tenant_id = t.tenant_id AND s.id = t.step_id
LEFT JOIN persistence.memories AS m ON m.tenant_id = t.tenant_id AND m.id = t.memory_id
WHERE t.updated_at >= :'since'
  AND m.id IS NULL
  AND (r.id IS NULL OR (t.step_id IS NOT NULL AND (s.id IS NULL OR s.run_id <> t.run_id)))
