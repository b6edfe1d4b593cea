-- title: What was used of memories, and where, exists
-- section: 2.1
-- law: CANON-ORCH-STATE-001 §2.4
-- severity: error
-- means: Nobody can say what an agent knew.
-- remedy: Compare with the log (persistence replay --verify), and restore the missing row: persistence replay --rebuild.
SELECT 'memory_recalls ' || t.id AS object, concat_ws(', ', CASE WHEN t.run_id IS NOT NULL AND r.id IS NULL THEN 'no run ' || t.run_id END, CASE WHEN t.step_id IS NOT NULL AND s.id IS NULL THEN 'no step ' || t.step_id END, CASE WHEN t.index_id IS NOT NULL AND i.id IS NULL THEN 'no index ' || t.index_id END, 'no memory ' || u.unknown) AS detail
FROM persistence.memory_recalls AS t
LEFT JOIN persistence.runs AS r ON r.tenant_id = t.tenant_id AND r.id = t.run_id
LEFT JOIN persistence.steps AS s ON s.tenant_id = t.tenant_id AND s.id = t.step_id
LEFT JOIN persistence.memory_indexes AS i ON i.tenant_id = t.tenant_id AND i.id = t.index_id
LEFT JOIN LATERAL (
  SELECT min(x.memory_id) AS unknown
  FROM jsonb_array_elements_text(t.memories) AS x (memory_id)
  WHERE NOT EXISTS (SELECT FROM persistence.memories AS m WHERE m.tenant_id = t.tenant_id AND m.id = x.memory_id::uuid)
) AS u ON true
WHERE t.updated_at >= :'since'
  AND (
    (t.run_id IS NOT NULL AND r.id IS NULL)
    OR (t.step_id IS NOT NULL AND s.id IS NULL)
    OR (t.index_id IS NOT NULL AND i.id IS NULL)
    OR u.unknown IS NOT NULL
  )
