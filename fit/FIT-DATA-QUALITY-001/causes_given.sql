-- title: Every event but the first of a story has a cause
-- section: 2.3
-- law: CANON-TRACE-001 §4.1
-- severity: error
-- means: Nobody can say why it happened. Stories begin with a signal, a run, a tenant or a backup's verification.
-- remedy: Find out which service wrote it (source, actor), and pass it the event or object that caused it.
SELECT 'event ' || e.id AS object, e.event_type || ', version ' || e.aggregate_version || ' of its ' || e.aggregate_type || ', has no cause' AS detail
FROM persistence.orchestration_events AS e TABLESAMPLE SYSTEM (:sample)
WHERE e.created_at >= :'since'
  AND e.causation_id IS NULL
  AND (e.aggregate_version > 1 OR e.aggregate_type IN ('STEP', 'TOOL_CALL', 'EFFECT', 'CHECKPOINT'))
