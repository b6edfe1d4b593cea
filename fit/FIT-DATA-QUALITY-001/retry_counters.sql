-- title: Retry counters agree with the events that they count
-- section: 2.4
-- law: CANON-ORCH-STATE-001 §2.6
-- severity: error
-- means: Reports on retries are wrong, and somebody changed the row past the functions.
-- remedy: persistence replay --rebuild with the name of the table.
SELECT x.source || ' ' || x.id AS object, 'counts ' || x.retry_count || ', the log ' || coalesce(e.retries, 0) AS detail
FROM (
  SELECT 'SIGNAL' AS kind, 'signals' AS source, t.tenant_id, t.id, t.retry_count, t.updated_at FROM persistence.signals AS t
  UNION ALL SELECT 'RUN', 'runs', t.tenant_id, t.id, t.retry_count, t.updated_at FROM persistence.runs AS t
  UNION ALL SELECT 'STEP', 'steps', t.tenant_id, t.id, t.retry_count, t.updated_at FROM persistence.steps AS t
) AS x
LEFT JOIN (
  SELECT l.tenant_id, l.aggregate_id, count(*) AS retries
  FROM persistence.orchestration_events AS l
  JOIN canon.event_types AS k USING (event_type, event_version)
  WHERE k.counts = 'retry_count'
  GROUP BY l.tenant_id, l.aggregate_id
) AS e ON e.tenant_id = x.tenant_id AND e.aggregate_id = x.id
WHERE x.updated_at >= :'since'
  AND x.retry_count <> coalesce(e.retries, 0)
