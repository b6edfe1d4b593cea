-- title: Everything listed is an open run of a flow, and says what the run says
-- section: 2.5
-- law: CANON-FLOWS-001 §2.1
-- severity: error
-- means: An executor would take up what has ended, or by the wrong flow.
-- remedy: persistence replay --rebuild run_queue.
SELECT
  'run_queue ' || q.id AS object,
  coalesce(
    format('its run is %s of flow %s@%s, priority %s, key %s', r.status, r.run_type, r.flow_version, r.priority, r.ordering_key), 'it has no run'
  ) AS detail
FROM persistence.run_queue AS q
LEFT JOIN persistence.runs AS r ON r.tenant_id = q.tenant_id AND r.id = q.id
WHERE r.id IS NULL
  OR r.status NOT IN ('PENDING', 'RUNNING', 'WAITING')
  OR (r.run_type, r.flow_version, coalesce(r.priority, 0), r.ordering_key) IS DISTINCT FROM (q.flow, q.flow_version, q.priority::integer, q.ordering_key)
