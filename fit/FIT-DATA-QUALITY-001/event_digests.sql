-- title: Every event is what was written: its digest agrees with it
-- section: 2.2
-- law: CANON-EVENTS-001 §2.3
-- severity: error
-- means: Somebody changed an event after it was written, with more than the plane's rights; or the disk did.
-- remedy: Find the event in a backup (persistence backup list), compare, and find out who had superuser rights. Do not repair the digest.
SELECT 'event ' || e.id AS object, e.event_type || ' of ' || e.aggregate_type || ' ' || e.aggregate_id || ' has another digest' AS detail
FROM persistence.orchestration_events AS e TABLESAMPLE SYSTEM (:sample)
WHERE e.created_at >= :'since'
  AND e.digest <> persistence.event_digest(e)
