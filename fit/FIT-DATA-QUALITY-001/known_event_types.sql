-- title: Every event is of a type and version that the canon knows
-- section: 2.2
-- law: CANON-EVENTS-001 §3.2
-- severity: error
-- means: The event cannot be read or replayed: a later version of the package wrote it, or nobody did by right.
-- remedy: Migrate to the version of the package that wrote it.
SELECT 'event ' || e.id AS object, e.event_type || ' version ' || e.event_version || ' of ' || e.aggregate_type AS detail
FROM persistence.orchestration_events AS e TABLESAMPLE SYSTEM (:sample)
LEFT JOIN canon.event_types AS t USING (event_type, event_version, aggregate_type)
WHERE e.created_at >= :'since'
  AND t.event_type IS NULL
