-- title: No event was recorded before it happened, or after now
-- section: 2.2
-- law: CANON-ORCH-STATE-001 §2.7
-- severity: warning
-- means: A clock was wrong, or times were made up. Allowed are five minutes.
-- remedy: Set the clock of the host that wrote it (source and actor say which).
SELECT 'event ' || e.id AS object, e.event_type || ' happened ' || e.occurred_at || ', was recorded ' || e.created_at AS detail
FROM persistence.orchestration_events AS e TABLESAMPLE SYSTEM (:sample)
WHERE e.created_at >= :'since'
  AND (e.occurred_at > e.created_at + interval '5 minutes' OR e.created_at > now() + interval '5 minutes')
