-- title: Every run's signal and parent exist
-- section: 2.1
-- law: CANON-ORCH-STATE-001 §2.4
-- severity: error
-- means: The run says it was begun by something that is not there.
-- remedy: Compare with the log (persistence replay --verify), and restore the missing row: persistence replay --rebuild signals.
SELECT 'runs ' || r.id AS object, CASE WHEN r.signal_id IS NOT NULL AND s.id IS NULL THEN 'no signal ' || r.signal_id ELSE 'no run ' || r.parent_run_id END AS detail
FROM persistence.runs AS r
LEFT JOIN persistence.signals AS s ON s.tenant_id = r.tenant_id AND s.id = r.signal_id
LEFT JOIN persistence.runs AS parent ON parent.tenant_id = r.tenant_id AND parent.id = r.parent_run_id
WHERE r.updated_at >= :'since'
  AND ((r.signal_id IS NOT NULL AND s.id IS NULL) OR (r.parent_run_id IS NOT NULL AND parent.id IS NULL))
