-- title: Every cause was recorded before what it caused
-- section: 2.3
-- law: CANON-TRACE-001 §4.2
-- severity: error
-- means: The chain of causes runs in a circle, or backwards.
-- remedy: Find out which service wrote it (source, actor), and buffer the cause before the effect.
SELECT 'event ' || e.id AS object, e.event_type || ' has sequence number ' || e.sequence_number || ', its cause ' || cause.sequence_number AS detail
FROM persistence.orchestration_events AS e TABLESAMPLE SYSTEM (:sample)
JOIN persistence.orchestration_events AS cause ON cause.tenant_id = e.tenant_id AND cause.id = e.causation_id
WHERE e.created_at >= :'since'
  AND cause.sequence_number >= e.sequence_number
