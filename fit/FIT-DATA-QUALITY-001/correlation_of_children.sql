-- title: What belongs to a run has the run's correlation, and a run its signal's and its parent's
-- section: 2.3
-- law: CANON-TRACE-001 §2.2
-- severity: error
-- means: A trace by correlation misses a part of the run.
-- remedy: Restore the row from the log (persistence replay --rebuild); where the log says the same, the service passed a correlation of its own.
SELECT x.source || ' ' || x.id AS object, 'correlation ' || x.correlation_id || ', its run ' || r.correlation_id AS detail
FROM (
  SELECT 'steps' AS source, t.tenant_id, t.id, t.run_id, t.correlation_id, t.updated_at FROM persistence.steps AS t
  UNION ALL SELECT 'tool_calls', t.tenant_id, t.id, t.run_id, t.correlation_id, t.updated_at FROM persistence.tool_calls AS t
  UNION ALL SELECT 'effects', t.tenant_id, t.id, t.run_id, t.correlation_id, t.updated_at FROM persistence.effects AS t WHERE t.run_id IS NOT NULL
  UNION ALL SELECT 'memories', t.tenant_id, t.id, t.run_id, t.correlation_id, t.updated_at FROM persistence.memories AS t WHERE t.run_id IS NOT NULL
  UNION ALL SELECT 'memory_recalls', t.tenant_id, t.id, t.run_id, t.correlation_id, t.updated_at FROM persistence.memory_recalls AS t WHERE t.run_id IS NOT NULL
  UNION ALL SELECT 'run_checkpoints', t.tenant_id, t.id, t.run_id, t.correlation_id, t.updated_at FROM persistence.run_checkpoints AS t
) AS x
JOIN persistence.runs AS r ON r.tenant_id = x.tenant_id AND r.id = x.run_id
WHERE x.updated_at >= :'since'
  AND x.correlation_id <> r.correlation_id
UNION ALL
SELECT 'runs ' || r.id, 'correlation ' || r.correlation_id || ', its signal ' || s.correlation_id
FROM persistence.runs AS r
JOIN persistence.signals AS s ON s.tenant_id = r.tenant_id AND s.id = r.signal_id
WHERE r.updated_at >= :'since'
  AND r.correlation_id <> s.correlation_id
UNION ALL
SELECT 'runs ' || r.id, 'correlation ' || r.correlation_id || ', its parent ' || p.correlation_id
FROM persistence.runs AS r
JOIN persistence.runs AS p ON p.tenant_id = r.tenant_id AND p.id = r.parent_run_id
WHERE r.updated_at >= :'since'
  AND r.correlation_id <> p.correlation_id
UNION ALL
SELECT 'outbox_events ' || o.id, 'correlation ' || o.correlation_id || ', its effect ' || e.correlation_id
FROM persistence.outbox_events AS o
JOIN persistence.effects AS e ON e.tenant_id = o.tenant_id AND e.id = o.aggregate_id
WHERE o.updated_at >= :'since'
  AND o.correlation_id <> e.correlation_id
