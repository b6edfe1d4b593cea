-- title: Nothing begins in a run or step that has ended
-- section: 2.4
-- law: CANON-ORCH-STATE-001 §4.2
-- severity: error
-- means: Something was begun past append_events, or its run was put back.
-- remedy: Compare with the log (persistence replay --verify), and find out who wrote the part (actor, source).
SELECT x.source || ' ' || x.id AS object, 'began after ' || x.whole || ' was ' || x.ended AS detail
FROM (
  SELECT 'steps' AS source, s.tenant_id, s.id, 'run ' || r.id AS whole, r.status AS ended, r.last_event_id, s.created_at
  FROM persistence.steps AS s
  JOIN persistence.runs AS r ON r.tenant_id = s.tenant_id AND r.id = s.run_id
  WHERE r.status IN ('COMPLETED', 'CANCELLED', 'FAILED')
    AND s.created_at >= r.updated_at
  UNION ALL
  SELECT 'tool_calls', c.tenant_id, c.id, 'step ' || s.id, s.status, s.last_event_id, c.created_at
  FROM persistence.tool_calls AS c
  JOIN persistence.steps AS s ON s.tenant_id = c.tenant_id AND s.id = c.step_id
  WHERE s.status IN ('COMPLETED', 'CANCELLED', 'SKIPPED', 'FAILED')
    AND c.created_at >= s.updated_at
  UNION ALL
  SELECT 'effects', e.tenant_id, e.id, 'run ' || r.id, r.status, r.last_event_id, e.created_at
  FROM persistence.effects AS e
  JOIN persistence.runs AS r ON r.tenant_id = e.tenant_id AND r.id = e.run_id
  WHERE r.status IN ('COMPLETED', 'CANCELLED', 'FAILED')
    AND e.created_at >= r.updated_at
  UNION ALL
  SELECT 'runs', c.tenant_id, c.id, 'run ' || r.id, r.status, r.last_event_id, c.created_at
  FROM persistence.runs AS c
  JOIN persistence.runs AS r ON r.tenant_id = c.tenant_id AND r.id = c.parent_run_id
  WHERE r.status IN ('COMPLETED', 'CANCELLED', 'FAILED')
    AND c.created_at >= r.updated_at
) AS x
JOIN persistence.orchestration_events AS begin_event
  ON begin_event.tenant_id = x.tenant_id AND begin_event.aggregate_id = x.id AND begin_event.aggregate_version = 1
JOIN persistence.orchestration_events AS end_event ON end_event.tenant_id = x.tenant_id AND end_event.id = x.last_event_id
WHERE x.created_at >= :'since'
  AND persistence.in_sample(x.id, :sample)
  AND begin_event.sequence_number > end_event.sequence_number
