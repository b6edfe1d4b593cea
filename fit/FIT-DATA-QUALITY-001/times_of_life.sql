-- title: Nothing ends before it begins, and what has ended says when
-- section: 2.4
-- law: CANON-ORCH-STATE-001 §2.7
-- severity: warning
-- means: Durations are wrong. In imported histories the source may say so itself.
-- remedy: Look at the events' occurred_at; where table and log differ, persistence replay --rebuild.
SELECT x.source || ' ' || x.id AS object, x.status || ', started ' || coalesce(x.started_at::text, 'never') || ', completed ' || coalesce(x.completed_at::text, 'never') AS detail
FROM (
  SELECT 'runs' AS source, t.id, t.status, t.started_at, t.completed_at, t.retry_count, t.updated_at FROM persistence.runs AS t
  UNION ALL SELECT 'steps', t.id, t.status, t.started_at, t.completed_at, t.retry_count, t.updated_at FROM persistence.steps AS t
  UNION ALL SELECT 'tool_calls', t.id, t.status, t.started_at, t.completed_at, 0, t.updated_at FROM persistence.tool_calls AS t
) AS x
WHERE x.updated_at >= :'since'
  AND (
    x.completed_at < x.started_at
    OR (x.status IN ('COMPLETED', 'FAILED', 'CANCELLED', 'SKIPPED')) <> (x.completed_at IS NOT NULL)
    OR (x.status = 'RUNNING' AND x.started_at IS NULL AND x.retry_count = 0)  -- what failed before it started is retried without a start
  )
