-- title: Every event says who did it: agent, user, system or external
-- section: 2.3
-- law: CANON-TRACE-001 §3.1
-- severity: error
-- means: Nobody can be asked about this change.
-- remedy: Find out which service wrote it (source), and give its transactions an actor.
SELECT 'event ' || e.id AS object, e.event_type || ' by "' || e.actor || '"' AS detail
FROM persistence.orchestration_events AS e TABLESAMPLE SYSTEM (:sample)
WHERE e.created_at >= :'since'
  AND e.actor !~ (SELECT r.value #>> '{}' FROM canon.rules AS r WHERE r.name = 'actor_pattern')
