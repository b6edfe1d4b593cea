-- title: Every pending outbox entry and every dead letter is in the queue
-- section: 2.5
-- law: CANON-EVENTS-001 §4.4
-- severity: error
-- means: The effect waits for ever: workers look at the queue only.
-- remedy: persistence replay --rebuild outbox_queue.
SELECT 'outbox_events ' || o.id AS object, o.event_type || ' of tenant ' || o.tenant_id || ' is ' || o.status || ' and not queued' AS detail
FROM persistence.outbox_events AS o
LEFT JOIN persistence.outbox_queue AS q ON q.tenant_id = o.tenant_id AND q.id = o.id
WHERE o.status IN ('PENDING', 'DEAD_LETTER')
  AND q.id IS NULL
