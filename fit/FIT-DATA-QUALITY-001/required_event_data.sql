-- title: Every event has the data that its type needs, as its schema says, and no other
-- section: 2.2
-- law: CANON-EVENTS-001 §3.1
-- severity: error
-- means: The event was written past append_events, and its fold is incomplete or depends on the batch that it came in.
-- remedy: Find out how it came there (source, actor, created_at); append an event that corrects the state.
SELECT
  'event ' || e.id AS object,
  e.event_type || CASE
    WHEN NOT e.event_data ?& n.needed THEN ' lacks one of ' || array_to_string(n.needed, ', ')
    WHEN e.event_data - n.known <> '{}' THEN ' has ' || (SELECT string_agg(k.key, ', ') FROM jsonb_object_keys(e.event_data - n.known) AS k (key))
    ELSE ' has data that are not as its schema says'
  END AS detail
FROM persistence.orchestration_events AS e TABLESAMPLE SYSTEM (:sample)
JOIN canon.event_types AS t USING (event_type, event_version)
CROSS JOIN LATERAL (
  SELECT
    CASE WHEN e.aggregate_version = 1 THEN coalesce(t.creating_keys, '{"(cannot be first)"}') ELSE t.required_keys END AS needed,
    CASE WHEN e.aggregate_version = 1 THEN t.known_keys ELSE t.later_keys END AS known
) AS n
WHERE e.created_at >= :'since'
  AND t.is_current
  AND (NOT (e.event_data ?& n.needed) OR e.event_data - n.known <> '{}' OR (e.event_data @@ t.data_rule) IS NOT TRUE)
