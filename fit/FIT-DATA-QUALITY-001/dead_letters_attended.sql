-- title: No dead letter has lain for more than seven days
-- section: 2.5
-- law: CANON-EVENTS-001 §7.2
-- severity: warning
-- means: Something that was promised did not happen, and nobody has looked.
-- remedy: persistence dlq list; then requeue or discard each with a reason.
SELECT 'outbox_events ' || o.id AS object, o.event_type || ' of tenant ' || o.tenant_id || ', dead since ' || o.updated_at AS detail
FROM persistence.outbox_events AS o
WHERE o.status = 'DEAD_LETTER'
  AND o.updated_at < now() - interval '7 days'
