-- A projection: expendable, rebuilt by refresh_projections. Row level security does not reach a materialized view, so nobody is granted this
-- one; services read tenant_run_summary.
CREATE MATERIALIZED VIEW persistence.run_summary AS
SELECT
  r.tenant_id,
  r.id,
  r.run_type,
  r.status,
  r.version,
  r.correlation_id,
  r.started_at,
  r.completed_at,
  extract(epoch FROM r.completed_at - r.started_at) AS duration_seconds,
  count(s.id) AS total_steps,
  count(s.id) FILTER (WHERE s.status = 'COMPLETED') AS completed_steps,
  count(s.id) FILTER (WHERE s.status = 'FAILED') AS failed_steps,
  coalesce(sum(s.retry_count), 0) AS step_retries,
  now() AS refreshed_at
FROM persistence.runs AS r
LEFT JOIN persistence.steps AS s ON s.tenant_id = r.tenant_id AND s.run_id = r.id
GROUP BY r.tenant_id, r.id
WITH DATA;
-- The projection was made just now.
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX run_summary_key ON persistence.run_summary (tenant_id, id);
