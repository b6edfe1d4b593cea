-- title: The events of each aggregate are numbered 1, 2, 3 …
-- section: 2.2
-- law: CANON-EVENTS-001 §2.2
-- severity: error
-- means: An event is missing from the log, or was forged into it.
-- remedy: Look for it in a backup; the aggregate's history is not complete.
SELECT e.aggregate_type || ' ' || e.aggregate_id AS object, count(*) || ' events, numbered ' || min(e.aggregate_version) || ' to ' || max(e.aggregate_version) AS detail
FROM persistence.orchestration_events AS e
WHERE persistence.in_sample(e.aggregate_id, :sample)
  AND (e.tenant_id, e.aggregate_id) IN (SELECT late.tenant_id, late.aggregate_id FROM persistence.orchestration_events AS late WHERE late.created_at >= :'since')  -- since
GROUP BY e.tenant_id, e.aggregate_type, e.aggregate_id
HAVING min(e.aggregate_version) <> 1 OR max(e.aggregate_version) <> count(*)
