-- title: What failed says why
-- section: 2.4
-- law: CANON-TRACE-001 §5.1
-- severity: error
-- means: A person has to guess what went wrong.
-- remedy: Let the service give error_details when it fails something; persistence replay --rebuild where the log has them.
SELECT x.source || ' ' || x.id AS object, x.status || ' without error_details' AS detail
FROM (
  SELECT 'signals' AS source, t.id, t.status, t.error_details, t.updated_at FROM persistence.signals AS t
  UNION ALL SELECT 'runs', t.id, t.status, t.error_details, t.updated_at FROM persistence.runs AS t
  UNION ALL SELECT 'steps', t.id, t.status, t.error_details, t.updated_at FROM persistence.steps AS t
  UNION ALL SELECT 'tool_calls', t.id, t.status, t.error_details, t.updated_at FROM persistence.tool_calls AS t
  UNION ALL SELECT 'effects', t.id, t.status, t.error_details, t.updated_at FROM persistence.effects AS t
  UNION ALL SELECT 'backup_verifications', t.id, t.status, t.error_details, t.updated_at FROM persistence.backup_verifications AS t
) AS x
WHERE x.updated_at >= :'since'
  AND x.status IN ('FAILED', 'REJECTED', 'DEAD_LETTER', 'REFUSED')
  AND x.error_details IS NULL
