-- title: Everything in the queue is a pending outbox entry of the same type
-- section: 2.5
-- law: CANON-EVENTS-001 §4.4
-- severity: error
-- means: Something that is settled would be delivered again, or by the wrong handler.
-- remedy: persistence replay --rebuild outbox_queue.
SELECT 'outbox_queue ' || q.id AS object, coalesce('its entry is ' || o.status || ' of type ' || o.event_type, 'it has no entry') AS detail
FROM persistence.outbox_queue AS q
LEFT JOIN persistence.outbox_events AS o ON o.tenant_id = q.tenant_id AND o.id = q.id
WHERE o.id IS NULL OR o.status <> 'PENDING' OR o.event_type <> q.effect_type
