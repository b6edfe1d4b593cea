-- title: The events of an aggregate share its type and its correlation
-- section: 2.2
-- law: CANON-TRACE-001 §2.2
-- severity: error
-- means: A trace by correlation shows only a part of what happened.
-- remedy: Find out how the odd event came there (source, actor, created_at).
SELECT e.tenant_id || ' ' || e.aggregate_id AS object, count(DISTINCT e.aggregate_type) || ' types, ' || count(DISTINCT e.correlation_id) || ' correlations' AS detail
FROM persistence.orchestration_events AS e
WHERE persistence.in_sample(e.aggregate_id, :sample)
  AND (e.tenant_id, e.aggregate_id) IN (SELECT late.tenant_id, late.aggregate_id FROM persistence.orchestration_events AS late WHERE late.created_at >= :'since')  -- since
GROUP BY e.tenant_id, e.aggregate_id
HAVING min(e.aggregate_type) <> max(e.aggregate_type) OR min(e.correlation_id::text) <> max(e.correlation_id::text)
