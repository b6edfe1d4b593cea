-- title: Every cause is an event of the same tenant
-- section: 2.3
-- law: CANON-TRACE-001 §4.2
-- severity: error
-- means: The chain of causes breaks here; where the cause is another tenant's, it was made up.
-- remedy: Find out which service wrote it (source, actor) and pass it the event or object that caused it.
SELECT 'event ' || e.id AS object, e.event_type || ' was caused by ' || e.causation_id || ', which is not in the log' AS detail
FROM persistence.orchestration_events AS e TABLESAMPLE SYSTEM (:sample)
LEFT JOIN persistence.orchestration_events AS cause ON cause.tenant_id = e.tenant_id AND cause.id = e.causation_id
WHERE e.created_at >= :'since'
  AND e.causation_id IS NOT NULL
  AND cause.id IS NULL
