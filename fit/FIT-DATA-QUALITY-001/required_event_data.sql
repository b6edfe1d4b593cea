-- title: Every event has the data that its type needs
-- section: 2.2
-- law: CANON-EVENTS-001 §3.1
-- severity: error
-- means: The event was written past append_events, and its fold is incomplete.
-- remedy: Find out how it came there (source, actor, created_at); append an event that corrects the state.
SELECT 'event ' || e.id AS object, e.event_type || ' lacks one of ' || array_to_string(CASE WHEN e.aggregate_version = 1 THEN coalesce(t.creating_keys, '{(cannot be first)}') ELSE t.required_keys END, ', ') AS detail
FROM persistence.orchestration_events AS e TABLESAMPLE SYSTEM (:sample)
JOIN canon.event_types AS t USING (event_type, event_version)
WHERE e.created_at >= :'since'
  AND t.is_current
  AND NOT (e.event_data ?& CASE WHEN e.aggregate_version = 1 THEN coalesce(t.creating_keys, '{"(cannot be first)"}') ELSE t.required_keys END)
