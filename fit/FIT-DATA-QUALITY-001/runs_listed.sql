-- title: Every run of a flow that is to be taken up is listed
-- section: 2.5
-- law: CANON-FLOWS-001 §2.1
-- severity: error
-- means: The run stands still: executors look at the list only.
-- remedy: persistence replay --rebuild run_queue.
SELECT 'runs ' || r.id AS object, format('flow %s@%s of tenant %s is %s and not listed', r.run_type, r.flow_version, r.tenant_id, r.status) AS detail
FROM persistence.runs AS r
WHERE r.flow_version IS NOT NULL
  AND r.status IN ('PENDING', 'RUNNING')
  AND NOT EXISTS (SELECT FROM persistence.run_queue AS q WHERE q.tenant_id = r.tenant_id AND q.id = r.id)
