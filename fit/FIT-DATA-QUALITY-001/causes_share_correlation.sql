-- title: Cause and consequence share their correlation
-- section: 2.3
-- law: CANON-TRACE-001 §2.2
-- severity: error
-- means: A trace by correlation ends where the story goes on.
-- remedy: Let the service pass the signal or run that it works for, instead of a correlation of its own.
SELECT 'event ' || e.id AS object, e.event_type || ' has correlation ' || e.correlation_id || ', its cause ' || cause.correlation_id AS detail
FROM persistence.orchestration_events AS e TABLESAMPLE SYSTEM (:sample)
JOIN persistence.orchestration_events AS cause ON cause.tenant_id = e.tenant_id AND cause.id = e.causation_id
WHERE e.created_at >= :'since'
  AND cause.correlation_id <> e.correlation_id
